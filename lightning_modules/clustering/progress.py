"""How far a clustering run is, and what changes when it enters another phase."""

from enum import IntEnum

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lightning_modules.optimizers import StepSchedule


class Phase(IntEnum):
    """The phases of deep embedded clustering."""

    PRETRAINING = 0
    CLUSTERING = 1
    FINETUNING = 2


class Progress(nn.Module):
    """Phase of a run: a buffer, so that it travels in the checkpoint, mirrored in plain integers.

    The mirror spares the training step a wait for the accelerator.
    """

    state: Tensor
    phase: Phase
    since_epoch: int
    refreshed_step: int

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(3, dtype=torch.int64))
        self.register_load_state_dict_post_hook(_mirror)
        _mirror(self)

    def enter(self, phase: Phase, epoch: int) -> None:
        """Enter a phase in an epoch."""
        self._write(phase, epoch, self.refreshed_step)

    def refresh(self, step: int) -> None:
        """Note that the targets were computed before an optimizer step."""
        self._write(self.phase, self.since_epoch, step)

    def _write(self, *values: int) -> None:
        """Fill the buffer and its mirror."""
        self.state.copy_(torch.tensor(values))
        _mirror(self)


def _mirror(progress: nn.Module, *_: object) -> None:
    """Copy the buffer into plain attributes: phase, epoch it began in, step of last refresh."""
    assert isinstance(progress, Progress)
    phase, progress.since_epoch, progress.refreshed_step = progress.state.tolist()
    progress.phase = Phase(phase)


def restart_optimizers(trainer: Trainer, lr: float) -> None:
    """Forget the optimizers' moments and set their learning rate, also under a schedule."""
    for optimizer in trainer.optimizers:
        optimizer.state.clear()
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] = lr
    for config in trainer.lr_scheduler_configs:
        if isinstance(config.scheduler, StepSchedule):
            config.scheduler.follow(trainer.global_step, lr)
        elif hasattr(config.scheduler, "base_lrs"):
            config.scheduler.base_lrs = [lr] * len(config.scheduler.base_lrs)
