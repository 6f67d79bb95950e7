"""Fixtures of the models' tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from tests.reliability.processes import Job


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Makes trainers on the CPU that write nothing."""

    def make(max_epochs: int = 1, **arguments: Any) -> Trainer:
        quiet: dict[str, Any] = {
            "accelerator": "cpu",
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "logger": False,
            "use_distributed_sampler": False,
        }
        return Trainer(max_epochs=max_epochs, **(quiet | arguments))

    return make


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes of `two_processes.py` found."""
    folder = tmp_path_factory.mktemp("two_processes")
    job = Job(str(Path(__file__).with_name("two_processes.py")), str(folder))
    assert job.wait() == 0, job.output
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
