"""Finished runs on disk: their folders and checkpoints."""

from pathlib import Path


def find_checkpoint(path: str) -> str:
    """Return a checkpoint to use: a file as it is; in a folder the newest run's best, else last.

    Args:
        path: A file, a run's folder, or a folder of runs; a keyword such as `last` is kept.

    Raises:
        FileNotFoundError: If there is no checkpoint there.
    """
    return _find(path, [["best.ckpt"], ["last.ckpt", "preempted.ckpt"]])


def find_newest(path: str) -> str:
    """Return a checkpoint to resume from: like `find_checkpoint`, but a folder's newest state."""
    return _find(path, [["last.ckpt", "preempted.ckpt"], ["best.ckpt"]])


def _find(path: str, preferred: list[list[str]]) -> str:
    """Return a file of the first group of names that the newest run in a folder holds."""
    place = Path(path)
    if place.is_file() or path in ("best", "last", "hpc", "registry", "null"):
        return path
    if not place.is_dir():
        raise FileNotFoundError(f"{path}: no such checkpoint; give a .ckpt file or a run's folder")
    found = [file for names in preferred for name in names for file in place.rglob(name)]
    if not found:
        raise FileNotFoundError(f"{path}: no best.ckpt or last.ckpt in this folder")
    newest = max(found, key=_saved).parent
    groups = (
        [file for file in found if file.parent == newest and file.name in names]
        for names in preferred
    )
    return str(max(next(group for group in groups if group), key=_saved))


def _saved(file: Path) -> float:
    """Return when a file was written."""
    return file.stat().st_mtime


def run_folder(checkpoint: str | None) -> Path | None:
    """Return the run's folder, version_N, whose checkpoints/ holds a checkpoint, if it is one."""
    folder = Path(checkpoint).parent if checkpoint else Path()
    is_run = folder.name == "checkpoints" and folder.parent.name.startswith("version_")
    return folder.parent if is_run else None
