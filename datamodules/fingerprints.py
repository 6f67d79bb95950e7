"""Identity of files, which keys the stores that are made of them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def fingerprint(path: Path) -> str:
    """Give the place, size and time of a file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; set data.source")
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def digest(texts: Iterable[str]) -> str:
    """Give 16 hexadecimal digits that stand for these lines."""
    return hashlib.sha256("".join(f"{text}\n" for text in texts).encode()).hexdigest()[:16]
