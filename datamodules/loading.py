"""Samplers and a loader that resume exactly and shard themselves.

The order of an epoch is a function of (seed, epoch) alone. A batch is taken whole, by an index
tensor, so no Python runs per object. Under DDP the global batch is the unit: rank r takes every
`world_size`-th row of it, so that N processes with batch size B see the same objects at each step
as one process with batch size N·B.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

Batch = dict[str, Tensor]
BatchRequest = tuple[Tensor, float]


class EpochBatchSampler(DistributedSampler[BatchRequest]):
    """Shuffled training batches of row positions, one shard a rank, the same number on each.

    A DistributedSampler by name, so that Lightning does not wrap it in another one.

    Yields (positions, loss scale). The scale is this rank's share of the global batch times
    `world_size`: multiplied into a mean over the local rows, the average of gradients over ranks
    is the mean over the global batch even when the last one does not divide evenly.

    Args:
        rows: Positions to draw from, int64, shape (num_rows,).
        batch_size: Rows in one process's batch.
        seed: Seed of the shuffle (`data.seed`).
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self, rows: Tensor, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first_batch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.rows) // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[BatchRequest]:
        first, self.first_batch = self.first_batch, 0
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = self.rows[torch.randperm(len(self.rows), generator=generator)]
        for group in order.split(self.batch_size * self.world_size)[first:]:
            part = group[self.rank :: self.world_size]
            scale = len(part) * self.world_size / len(group)
            yield (part, scale) if len(part) else (group[:1], 0.0)


class ShardSampler(DistributedSampler[BatchRequest]):
    """Evaluation batches in order: every `world_size`-th row, each row exactly once.

    Every rank has the same number of batches, for DDP exchanges buffers at each of them. Only
    where a rank has fewer rows than batches (more ranks than rows, or `batch_size` 1) does it
    repeat a row, with loss scale 0: such a batch does not count in any mean.

    Args:
        rows: Positions, int64, shape (num_rows,).
        batch_size: Most rows in a batch.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, rows: Tensor, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.rows = rows[rank::world_size]
        self.repeated = rows[:1]
        self.num_batches = -(-len(rows) // (batch_size * world_size))

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[BatchRequest]:
        for part in self.rows.tensor_split(self.num_batches) if self.num_batches else ():
            yield (part, 1.0) if len(part) else (self.repeated, 0.0)


class ArrayDataset(Dataset[Batch]):
    """Columns in memory, read a whole batch at a time.

    Args:
        columns: Name to tensor, all with the same first axis.
    """

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        self.columns = dict(columns)

    def __getitem__(self, request: BatchRequest) -> Batch:
        rows, scale = request
        batch = {name: values[rows] for name, values in self.columns.items()}
        if scale != 1.0:
            batch["loss_scale"] = torch.tensor(scale)
        return batch


def as_is(batch: Batch) -> Batch:
    """Hand a batch on unchanged (the loader's collate function)."""
    return batch


class ResumableDataLoader(DataLoader[Batch]):
    """A DataLoader whose position is saved by Lightning and restored batch for batch.

    Works with an `EpochBatchSampler` and `batch_size=None`.
    """

    _done = 0
    _resume: dict[str, int] | None = None

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator: its body runs at the first batch, when Lightning has set the epoch.
        sampler = self.sampler
        assert isinstance(sampler, EpochBatchSampler)
        resume, self._resume = self._resume, None
        resumes_here = resume is not None and resume["epoch"] == sampler.epoch
        self._done = sampler.first_batch = resume["batches"] if resume and resumes_here else 0
        # Worker seeds must not be drawn from the global generator: a resumed run would differ.
        assert self.generator is not None
        self.generator.manual_seed(sampler.seed * 1_000_003 + sampler.epoch)
        for batch in super().__iter__():
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches handed out."""
        assert isinstance(self.sampler, EpochBatchSampler)
        return self._resume or {"epoch": self.sampler.epoch, "batches": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches already handed out, if that epoch is resumed.

        Args:
            state: What `state_dict` returned; with `finished` the epoch has no further batch
                (it was cut short by `limit_train_batches`).
        """
        batches = len(self) if state.get("finished") else state["batches"]
        self._resume = {"epoch": state["epoch"], "batches": batches}


def make_loader(
    columns: Mapping[str, Tensor], sampler: EpochBatchSampler | ShardSampler, num_workers: int
) -> DataLoader[Batch]:
    """Make a loader of whole batches.

    Args:
        columns: The arrays.
        sampler: Which rows form which batch.
        num_workers: Worker processes; 0 reads in this process.
    """
    arguments: dict[str, Any] = {
        "batch_size": None,
        "sampler": sampler,
        "collate_fn": as_is,
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "generator": torch.Generator(),
    }
    kind = ResumableDataLoader if isinstance(sampler, EpochBatchSampler) else DataLoader
    return kind(ArrayDataset(columns), **arguments)
