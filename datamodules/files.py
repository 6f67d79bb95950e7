"""Files: written whole or not at all, and the keys of what is made of them."""

import glob
import gzip
import hashlib
import os
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def fingerprint(path: Path) -> str:
    """Return the place, size and time of a file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; set data.source")
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, decompressed if it is gzip by its first two.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is gzip, but truncated or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; set data.source.path")
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{path}: the gzip file is truncated or damaged ({error}); fetch it again"
        ) from error


def cache_key(texts: Iterable[str]) -> str:
    """Return 16 hexadecimal digits that stand for these lines."""
    return hashlib.sha256("".join(f"{text}\n" for text in texts).encode()).hexdigest()[:16]


ABANDONED = 3600.0
"""Seconds without a write after which a temporary file is nobody's."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` and rename it to `path` only if all went well.

    The temporary file keeps the suffixes of `path` (writers look at them), is fsynced before the
    rename and removed on any error, so that `path` either does not change or is complete.
    """
    path = Path(path)
    make_folder(path.parent)
    for left in path.parent.glob(f".{'[0-9a-f]' * 12}.{glob.escape(path.name)}"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()  # by a process that was killed
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name}")
    try:
        yield temporary
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder, unless it exists, and see that files can be written in it.

    Raises:
        PermissionError: They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = None if os.access(folder, os.W_OK | os.X_OK) else "read-only"
    except OSError as error:
        problem = str(error.strerror)
    if problem is not None:
        raise PermissionError(
            f"{folder}: no files can be written in this folder ({problem}); choose another one "
            "(of prepared data: data.cache_dir)"
        )


def publish(temporary: Path, path: Path) -> None:
    """Rename a finished file to its name once its bytes are on the disk.

    Args:
        temporary: The finished file, on the same file system.
        path: Its name; replaced if it exists.
    """
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
