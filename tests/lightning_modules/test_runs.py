"""Which checkpoint a folder stands for."""

import os
from pathlib import Path

import pytest

from lightning_modules.runs import find_checkpoint, find_newest


def save(run: str, name: str, time: int) -> str:
    path = Path(run) / "checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time, time))
    return str(path)


def test_the_newest_run_counts_even_if_an_older_one_has_a_best_checkpoint() -> None:
    best = save("runs/version_0", "best.ckpt", 1)
    last = save("runs/version_0", "last.ckpt", 2)
    assert (find_checkpoint("runs"), find_newest("runs")) == (best, last)
    newer = save("runs/version_1", "last.ckpt", 3)  # without a validation split, so no best
    assert find_checkpoint("runs") == find_newest("runs") == newer
    preempted = save("runs/version_1", "preempted.ckpt", 4)
    assert find_checkpoint("runs") == find_newest("runs") == preempted
    assert find_checkpoint("runs/version_0") == best


def test_a_folder_without_checkpoints() -> None:
    Path("empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no best\.ckpt"):
        find_checkpoint("empty")
