"""Where a run's files go."""

from pathlib import Path

from lightning.pytorch import Trainer


def log_folder(trainer: Trainer) -> Path:
    """Return the run's log folder; a collective call, so call it on every rank.

    Args:
        trainer: The trainer; without a logger its default root folder is returned.
    """
    return Path(trainer.log_dir or trainer.default_root_dir)
