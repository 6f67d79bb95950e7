"""Fixtures of the models' tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer


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
