"""Tensors of all processes."""

from lightning.pytorch import Trainer
from torch import Tensor


def all_gather(trainer: Trainer, values: Tensor) -> Tensor:
    """Return the values of all ranks on a new first axis, on the CPU; all ranks must call this.

    Args:
        trainer: Its strategy does the gathering.
        values: Of the same shape and dtype on every rank.
    """
    gathered = trainer.strategy.all_gather(values.to(trainer.strategy.root_device)).cpu()
    return gathered.reshape(trainer.world_size, *values.shape)
