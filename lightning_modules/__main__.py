"""Entry point of the command `astrolit` (also `python -m lightning_modules`)."""

import importlib


def check_packages() -> None:
    """Refuse to run when another distribution's package hides one of ours.

    Raises:
        SystemExit: In one sentence that says which package lies where.
    """
    for name in ("callbacks", "datamodules"):
        package = importlib.import_module(name)
        if getattr(package, "DISTRIBUTION", None) != "astrolit":
            place = getattr(package, "__file__", None) or list(package.__path__)
            raise SystemExit(
                f"astrolit: error: the package {name!r} at {place} belongs to another distribution "
                "and hides astrolit's own; uninstall that one or use a fresh environment"
            )


def main() -> None:
    """Check the installation, then run the command line."""
    check_packages()
    from lightning_modules.cli import app

    app.main()


if __name__ == "__main__":
    main()
