"""Rows that callbacks collect from batches and gather over all processes."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from torch import Tensor

Rows = dict[str, NDArray[Any]]


class RowGatherer:
    """Collects per-object tensors batch by batch and gathers them over all ranks.

    Tensors travel by `all_gather` with padding to the longest rank; nothing is pickled. The result
    is sorted by `index` and holds each object once, whatever the number of ranks.
    """

    def __init__(self) -> None:
        self._parts: list[dict[str, Tensor]] = []

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Keep one batch.

        Args:
            columns: Name to tensor with first axis the objects; `index` (int64) among them.

        Raises:
            ValueError: If `index` is missing or the columns differ from those before.
        """
        if "index" not in columns:
            raise ValueError(f"rows need a column 'index'; this batch has {sorted(columns)}")
        if self._parts and self._parts[0].keys() != columns.keys():
            raise ValueError(
                f"this batch has columns {sorted(columns)}, those before {sorted(self._parts[0])}"
            )
        self._parts.append({name: whole_precision(x).cpu() for name, x in columns.items()})

    def clear(self) -> None:
        """Forget all rows, as at the start of a run."""
        self._parts = []

    def gather(self, trainer: Trainer) -> Rows:
        """Return all ranks' rows on every rank, sorted by index, and forget them.

        Args:
            trainer: Its strategy does the gathering; every rank must call this.

        Raises:
            ValueError: On every rank, if any rank has seen no row.
        """
        parts, self._parts = self._parts, []
        count = sum(len(part["index"]) for part in parts)
        counts = all_gather(trainer, torch.tensor([count]))[:, 0].tolist()
        if min(counts) == 0:
            raise ValueError(
                f"rows on each process: {counts}; a report needs at least one row on every "
                "process: use fewer processes or more data"
            )
        columns = {name: torch.cat([part[name] for part in parts]) for name in sorted(parts[0])}
        gathered = {name: _gather_rows(trainer, x, counts) for name, x in columns.items()}
        _, first = np.unique(gathered["index"], return_index=True)
        return {name: values[first] for name, values in gathered.items()}


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


def whole_precision(values: Tensor) -> Tensor:
    """Return a tensor detached, half precision as float32 (numpy and readers know no bfloat16)."""
    half = values.dtype in (torch.float16, torch.bfloat16)
    return values.detach().float() if half else values.detach()


def _gather_rows(trainer: Trainer, values: Tensor, counts: list[int]) -> NDArray[Any]:
    """Gather one column of unequal lengths."""
    if trainer.world_size == 1:
        return values.numpy()
    sent = values.to(torch.uint8) if values.dtype == torch.bool else values
    padded = sent.new_zeros((max(counts), *sent.shape[1:]))
    padded[: len(sent)] = sent
    ranks = all_gather(trainer, padded)
    whole = torch.cat([rank[:count] for rank, count in zip(ranks, counts, strict=True)])
    return whole.to(values.dtype).numpy()


def check_finite(rows: Rows, keys: Iterable[str]) -> None:
    """Refuse predictions that are not finite, naming the objects.

    Args:
        rows: Gathered rows, with `index`.
        keys: Columns to check; those that are absent are passed over.

    Raises:
        ValueError: If a value is NaN or infinite.
    """
    for key in keys:
        if key in rows:
            count = len(rows["index"])
            bad = np.flatnonzero(~np.isfinite(rows[key]).reshape(count, -1).all(1))
            if len(bad):
                raise ValueError(
                    f"{key} is NaN or infinite for {len(bad)} of {count} objects (the first has "
                    f"index {rows['index'][bad[0]]}): the training may have "
                    "diverged; lower model.lr or use an earlier checkpoint"
                )
