"""Checkpoints that are whole or absent, checked byte by byte, and never unpickled."""

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from datamodules.files import publish


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its name and renames it; reads it only if every byte is right.

    A crash, a kill or a full disk while saving leaves the earlier file of that name as it was (a
    fragment `.<name>.tmp` may stay after a kill; the next save replaces it). Loading checks the
    CRC of every part and takes tensors and plain values only (`weights_only=True`), whatever the
    caller asked for. Remote paths (`s3://...`) are written by Lightning.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,
    ) -> None:
        """Write a checkpoint to a local path, atomically and durably.

        Args:
            checkpoint: What to save.
            path: The file; replaced if it exists.
            storage_options: Not supported.

        Raises:
            OSError: If the disk is full or the folder cannot be written; the earlier file of that
                name is unchanged and nothing else is left.
        """
        if _is_remote(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        if storage_options is not None:
            raise TypeError("storage_options are not supported by AtomicCheckpointIO")
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(checkpoint, path)
        except OSError as error:
            kept = (
                "the earlier file of that name is unchanged" if path.exists() else "none is there"
            )
            raise OSError(
                error.errno,
                f"{path}: the checkpoint could not be saved ({os.strerror(error.errno or 0)}); "
                f"{kept}; make room or choose another folder, then resume",
            ) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint whose every byte is right and that holds no pickled objects.

        Args:
            path: The file.
            map_location: As in `torch.load`.
            weights_only: Always taken as True.

        Returns:
            The checkpoint.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is truncated, damaged, not a checkpoint, or holds pickled objects;
                the message names the newest good checkpoint in the same folder.
        """
        if _is_remote(path):
            return super().load_checkpoint(path, weights_only=True)
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such checkpoint; {_other_good_checkpoint(path)}")
        problem = find_damage(path)
        if problem is None:
            try:
                checkpoint = torch.load(path, map_location=map_location, weights_only=True)
            except pickle.UnpicklingError as error:
                problem = _describe_refusal(error)
            except Exception as error:  # torch's reader checks more than the CRCs
                problem = f"damaged ({str(error).split('. ', 1)[0]})"
            else:
                if isinstance(checkpoint, dict) and "state_dict" in checkpoint:
                    return checkpoint
                problem = "not a Lightning checkpoint (no state_dict in it)"
        raise ValueError(f"{path}: {problem}; {_other_good_checkpoint(path)}")


def find_damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint's bytes, or None if every CRC is right."""
    if path.stat().st_size == 0:
        return "an empty file"
    try:
        if not zipfile.is_zipfile(path):
            return "truncated or not a checkpoint (no zip directory at its end)"
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # whatever the parser stumbles on is damage
        return f"damaged ({type(error).__name__}: {error})"
    return None if broken is None else f"damaged (wrong CRC in {broken})"


def _replace(checkpoint: dict[str, Any], path: Path) -> None:
    """Write under a temporary name in the same folder, then rename."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
        publish(temporary, path)
        _sync_folder(path.parent)
    except RuntimeError as error:  # torch hides the OSError of a full disk behind its own
        cause = error.__cause__ or error.__context__
        raise (cause if isinstance(cause, OSError) else error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_remote(path: str | Path) -> bool:
    """Return whether a path is a URL."""
    return "://" in str(path)


def _describe_refusal(error: pickle.UnpicklingError) -> str:
    """Say in a few words why `weights_only=True` refused."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    what = found.group(1) if found else str(error).split("\n", 1)[0]
    return f"refused, for it holds a pickled object ({what}) that could run code when loaded"


def _other_good_checkpoint(path: Path) -> str:
    """Name the newest undamaged checkpoint in the same folder."""
    others = [other for other in path.parent.glob("*.ckpt") if other != path and other.is_file()]
    for other in sorted(others, key=lambda file: file.stat().st_mtime, reverse=True):
        if find_damage(other) is None:
            return f"the newest good checkpoint beside it is {other}"
    return "no good checkpoint is beside it"
