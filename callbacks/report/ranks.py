"""Tensors of all processes."""

import torch
from lightning.pytorch import Trainer
from torch import Tensor


def all_gather(trainer: Trainer, values: Tensor) -> Tensor:
    """Return the values of all ranks on a new first axis, on the CPU; all ranks must call this.

    Args:
        trainer: Knows the device of the exchange and the number of ranks.
        values: Of the same shape and dtype on every rank.
    """
    if trainer.world_size == 1:
        return values.cpu()[None]
    sent = values.to(trainer.strategy.root_device).contiguous()
    gathered = [torch.empty_like(sent) for _ in range(trainer.world_size)]
    torch.distributed.all_gather(gathered, sent)
    return torch.stack(gathered).cpu()
