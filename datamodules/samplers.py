"""Samplers and a loader that resume exactly and shard themselves.

The order of an epoch is a function of (seed, epoch) alone. A batch is taken whole, by an index
tensor, so no Python runs per object. Under DDP the global batch is the unit: rank r takes every
`world_size`-th row of it, so that N processes with batch size B see the same objects at each step
as one process with batch size N·B.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
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

    @property
    def order(self) -> dict[str, int]:
        """What fixes the batches of an epoch; the same for 1 process of 2B and 2 of B rows."""
        rows_per_step = self.batch_size * self.world_size
        return {"seed": self.seed, "rows": len(self.rows), "rows per step": rows_per_step}

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
        sampler: Its first epoch numbers the batches, for `overfit_batches`, which asks for batch
            0, 1... of any dataset.
    """

    def __init__(
        self, columns: Mapping[str, Tensor], sampler: "EpochBatchSampler | ShardSampler"
    ) -> None:
        self.columns = dict(columns)
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __getitem__(self, request: BatchRequest | int) -> Batch:
        if isinstance(request, int):
            request = next(islice(self.sampler, request, None))
        rows, scale = request
        batch = {name: values[rows] for name, values in self.columns.items()}
        if scale != 1.0:
            batch["loss_scale"] = torch.tensor(scale)
        return batch


class WholeBatchLoader(DataLoader[Batch]):
    """A DataLoader of whole batches (`batch_size=None`) that says so when a worker dies.

    Raises:
        RuntimeError: If a worker process was killed.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except (ConnectionError, EOFError) as error:  # torch notices most deaths, but not all
            raise RuntimeError(
                "a DataLoader worker exited unexpectedly, perhaps for want of memory; "
                "lower data.num_workers, then resume"
            ) from error


class ResumableDataLoader(WholeBatchLoader):
    """A DataLoader whose position is saved by Lightning and restored batch for batch.

    Works with an `EpochBatchSampler` and `batch_size=None`.
    """

    _done = 0
    _resume: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator: its body runs at the first batch, when Lightning has set the epoch.
        sampler = self.sampler
        if not isinstance(sampler, EpochBatchSampler):  # overfit_batches puts in its own
            yield from super().__iter__()
            return
        resume, self._resume = self._resume, None
        self._done = 0
        if resume is not None and resume["epoch"] == sampler.epoch:
            self._done = _checked_position(resume, sampler)
        sampler.first_batch = self._done
        # Worker seeds must not be drawn from the global generator: a resumed run would differ.
        assert self.generator is not None
        self.generator.manual_seed(sampler.seed * 1_000_003 + sampler.epoch)
        for batch in super().__iter__():
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the number of its batches handed out and what fixes their order."""
        if self._resume is not None or not isinstance(self.sampler, EpochBatchSampler):
            return self._resume or {}
        sampler = self.sampler
        return {"epoch": sampler.epoch, "batches": self._done, "order": sampler.order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the batches already handed out, if that epoch is resumed.

        Args:
            state: What `state_dict` returned; with `finished` the epoch has no further batch
                (it was cut short by `limit_train_batches`).
        """
        self._resume = state or None


def _checked_position(state: dict[str, Any], sampler: EpochBatchSampler) -> int:
    """Return how many batches to skip; refuse to go on inside an epoch of another order.

    Raises:
        ValueError: If seed, number of rows or rows per step differ from the checkpoint's.
    """
    done: int = state["batches"]
    if state.get("finished") or done == 0:
        return len(sampler) if done else 0
    if state["order"] != sampler.order:
        raise ValueError(
            f"cannot resume inside epoch {state['epoch']}: the checkpoint's batches came from "
            f"{state['order']}, this run's from {sampler.order}; use the same data, data.seed and "
            "data.batch_size times number of processes, or a checkpoint of an epoch's end"
        )
    return done


def make_loader(
    columns: Mapping[str, Tensor], sampler: EpochBatchSampler | ShardSampler, num_workers: int
) -> DataLoader[Batch]:
    """Make a loader of whole batches.

    Args:
        columns: The arrays.
        sampler: Which rows form which batch.
        num_workers: Worker processes; 0 reads in this process.
    """
    kind = ResumableDataLoader if isinstance(sampler, EpochBatchSampler) else WholeBatchLoader
    return kind(
        ArrayDataset(columns, sampler),
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        generator=torch.Generator(),
    )
