"""How far a clustering run is, and what changes when it enters another phase."""

from enum import IntEnum

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
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


def forget_best_checkpoints(trainer: Trainer) -> None:
    """Make the next monitored checkpoint the best so far; it replaces those before it.

    The loss means something else in another phase, so scores before and after do not compare.
    """
    for checkpoint in trainer.checkpoint_callbacks:
        if isinstance(checkpoint, ModelCheckpoint) and checkpoint.monitor is not None:
            worst = torch.tensor(torch.inf if checkpoint.mode == "min" else -torch.inf)
            checkpoint.best_k_models = dict.fromkeys(checkpoint.best_k_models, worst)
            checkpoint.kth_value = checkpoint.best_model_score = worst


def forget_early_stopping(trainer: Trainer) -> None:
    """Make early stopping take whatever it sees next for an improvement."""
    for stopping in trainer.early_stopping_callbacks:
        stopping.wait_count = 0
        stopping.best_score = torch.tensor(torch.inf if stopping.mode == "min" else -torch.inf)
