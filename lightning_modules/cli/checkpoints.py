"""What a checkpoint remembers: class, hyper-parameters and weights."""

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor

from callbacks.run.checkpoint_io import AtomicCheckpointIO
from lightning_modules.base import BaseModule
from lightning_modules.remembered import restore


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint as every run does: each byte checked, nothing unpickled."""
    return AtomicCheckpointIO().load_checkpoint(path)


def load_model(path: str | Path) -> BaseModule:
    """Return the model of a checkpoint, without any data.

    Args:
        path: A checkpoint that `astrolit fit` saved, so that it names its class.

    Raises:
        ValueError: If it names none, or the class is not the one it was saved from.
    """
    return restore(read_checkpoint(path), path)[1]


def identity(path: str | Path) -> dict[str, str]:
    """Return the path and the sha256 of a file."""
    return {"path": str(path), "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}


def load_weights(model: BaseModule, checkpoint: dict[str, Any], path: str | Path) -> list[str]:
    """Load the weights and buffers that a checkpoint shares with a model (`--init_from`).

    The path and the file's sha256 go into the model's `run_record`.

    Args:
        model: Receives the weights.
        checkpoint: As loaded.
        path: Where it was loaded from.

    Returns:
        Lines that say what was taken, left and not found.

    Raises:
        ValueError: If nothing matches or a shared tensor has another shape.
    """
    saved: dict[str, Tensor] = checkpoint["state_dict"]
    own, taken = model.state_dict(), model.inherited(saved)
    if not taken:
        raise ValueError(f"--init_from {path}: shares no weights with {type(model).__name__}")
    try:
        model.load_state_dict(taken, strict=False)
    except ValueError as error:
        raise ValueError(f"--init_from {path}: {error}") from None
    model.run_record["init_from"] = identity(path)
    lines = [f"init_from {path}: {len(taken)} tensors taken"]
    other = sorted(own.keys() & saved.keys() - taken.keys())
    fresh, unused = sorted(set(own) - set(saved)), sorted(set(saved) - set(own))
    if fresh:
        lines.append(f"  not in the checkpoint, start afresh: {', '.join(fresh)}")
    if other:
        lines.append(f"  of the other data, start afresh: {', '.join(other)}")
    if unused:
        lines.append(f"  in the checkpoint only, left out: {', '.join(unused)}")
    return lines
