"""Files that are either whole or absent, and where a run's files go."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` and rename it to `path` only if all went well.

    The temporary file keeps the suffixes of `path` (writers look at them), is fsynced before the
    rename and is removed on any error.

    Args:
        path: The file to write or replace.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Rename a finished file to its name once its bytes are on the disk.

    Args:
        temporary: The finished file, on the same file system.
        path: Its name; replaced if it exists.
    """
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def log_folder(trainer: Trainer) -> Path:
    """Return the run's log folder; a collective call, so call it on every rank.

    Args:
        trainer: The trainer; without a logger its default root folder is returned.
    """
    return Path(trainer.log_dir or trainer.default_root_dir)
