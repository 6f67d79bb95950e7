"""The command `astrolit` with this repository's tests as a package that it may import from."""

import os
import sys

from lightning_modules.cli.app import main

if __name__ == "__main__":
    os.environ["ASTROLIT_ALLOW_IMPORTS"] = "tests"
    main(sys.argv[1:])
