"""Exact means of named quantities over an epoch and over all processes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors


class NamedMeans(Metric):
    """Means of several named quantities, each weighted by the number of objects.

    Sums over batches and processes, so that the value is the mean over all objects whatever the
    batch sizes (a mean of batch means is not).

    Args:
        names: What is averaged.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        zeros = torch.zeros(len(self.names), dtype=torch.float64)
        self.add_state("total", zeros, dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: dict[str, Tensor], num_objects: int) -> None:
        """Add one batch.

        Args:
            values: Name to mean over the batch, each a scalar.
            num_objects: Objects in the batch.
        """
        if not self.names:
            return
        stacked = torch.stack([values[name].detach() for name in self.names])
        # Not in place: after a validation of its own the sums are inference tensors.
        self.total = self.total + num_objects * stacked.to(self.total)
        self.count = self.count + num_objects

    def compute(self) -> dict[str, Tensor]:
        """Return name to mean; NaN where nothing was seen."""
        means = (self.total / self.count).float()
        return dict(zip(self.names, means.unbind(), strict=True))

    def of_all_ranks(self) -> dict[str, Tensor]:
        """Return each process's own sums, first axis the ranks; every rank calls this."""
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        gather = gather_all_tensors if distributed else lambda value: [value]
        sums = (("total", self.total), ("count", self.count))
        return {name: torch.stack(gather(value)).clone() for name, value in sums}

    def restore(self, sums: dict[str, Tensor], rank: int, world_size: int) -> None:
        """Take back what `of_all_ranks` returned, also on another number of processes.

        Args:
            sums: As returned; ignored if made with other names.
            rank: This process.
            world_size: Number of processes now.
        """
        if sums["total"].shape[1:] != self.total.shape:
            return
        same = len(sums["count"]) == world_size
        for name, own in (("total", self.total), ("count", self.count)):
            saved = sums[name][rank] if same else sums[name].sum(0) * (rank == 0)
            setattr(self, name, saved.to(own))
        self._update_count = 1  # else torchmetrics warns that nothing was added
