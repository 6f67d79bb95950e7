"""Light curves of microlensing events as a LightningDataModule."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from datamodules.base import BaseDataModule
from datamodules.lazy_arrays import LazyColumn, StoredColumn
from datamodules.microlensing.source import SCHEMA, MicrolensingSource
from datamodules.store import RowStore
from lightning_modules.physics.anomaly import anomaly_scores
from lightning_modules.physics.arrays import Array

WIDE = ("flux", "flux_error", "good")
NUM_CLASSES = 2
"""Classes that are always counted; constant and variable stars if there are any."""

UNITS = {
    "peak_time": "d",
    "einstein_time": "d",
    "parallax_time": "d",
    "angle": "rad",
    "baseline_magnitude": "mag",
}
"""Of the parameters of simulated events; the others are ratios."""

FITTED_TOGETHER = 512
"""Light curves that are read for their fits at a time."""


class TimeColumn(LazyColumn):
    """Times of the epochs of each event, looked up in those of its field.

    Args:
        times: Of the fields, shape (F, T) float64.
        field: Field of each event, shape (N,).
    """

    def __init__(self, times: Array, field: Array) -> None:
        self.times = torch.from_numpy(times)
        self.field = torch.from_numpy(field.astype(np.int64))
        self.shape = (len(field), times.shape[1])

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.times[self.field[rows]]


class MicrolensingDataModule(BaseDataModule):
    """Light curves of microlensing events, one row an event, padded to a common length.

    A batch is a dict:

    | key | shape, type | meaning |
    |---|---|---|
    | `index` | (B,) int64 | row in the prepared store; `names(index)` are ids |
    | `flux` | (B, T) float32 | flux over the reference flux: 1 at the baseline; NaN if not `good` |
    | `flux_error` | (B, T) float32 | its error, in the same unit; NaN if not `good` |
    | `time` | (B, T) float64 | days, increasing; NaN only in the padding at the end |
    | `good` | (B, T) bool | epochs that were kept; the rest carries no information |
    | `label` | (B,) int64 | 0 one lens, 1 two, 2 constant, 3 variable, -1 unknown |
    | `delta_chi2` | (B,) float32 | against the best single lens: 0 for one lens, NaN unknown |

    The reference flux is what an observer has: the mean of quiet epochs, with their noise. Nothing
    is subtracted: a network's input is `flux - 1`. Simulated times are days after `time_zero_jd` of
    the store, real ones JD - 2450000. The missing epochs of a simulated event still have their
    planned time; whether an epoch is missing does not depend on the event. Training is supervised,
    so `label` and `delta_chi2` are in every batch; a prediction must not use them.

    Args:
        source: Where the light curves come from.
        memory_limit_gib: Light curves held in memory at most; a larger store stays in its file and
            is read batch by batch.
        batch_size: Events in one process's batch.
        num_workers: Worker processes of the loaders; 0 is fastest for arrays in memory.
        seed: Fixes simulation, split and shuffle.
        val_fraction: Share of events for validation.
        test_fraction: Share of events held out.
        cache_dir: Folder of the prepared row stores.
    """

    method: ClassVar[str] = "microlensing"
    schema: ClassVar[str] = SCHEMA
    units: ClassVar[Mapping[str, str]] = UNITS
    evaluation_only: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        source: MicrolensingSource,
        memory_limit_gib: float = 4.0,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.25,
        cache_dir: str = ".astrolit",
    ) -> None:
        super().__init__(
            source, batch_size, num_workers, seed, val_fraction, test_fraction, cache_dir
        )
        if memory_limit_gib < 0:
            raise ValueError(f"data.memory_limit_gib={memory_limit_gib} must not be negative")
        self.memory_limit_gib = memory_limit_gib

    def load(self, store: RowStore) -> dict[str, Tensor]:
        """Read the light curves, or leave them in the file if they are larger than the limit."""
        narrow = store.read(["label", "delta_chi2", "field"])
        columns = {
            "index": torch.arange(store.num_rows),
            "label": torch.from_numpy(narrow["label"]),
            "delta_chi2": torch.from_numpy(narrow["delta_chi2"]),
        }
        times = TimeColumn(store.read_shared("time"), narrow["field"])
        size = store.num_rows * times.shape[1] * 9 / 2**30  # two float32 and a bool an epoch
        self.in_memory = size <= self.memory_limit_gib
        for name in WIDE:
            if self.in_memory:
                columns[name] = torch.from_numpy(store.read([name])[name])
            else:
                columns[name] = StoredColumn(store, name).as_tensor()
        columns["time"] = times.as_tensor()
        place = "in memory" if self.in_memory else "read from the file batch by batch"
        rank_zero_info(f"{store.num_rows} light curves of {times.shape[1]} epochs: {place}")
        for problem in store.attributes.get("problems", []):
            rank_zero_info(problem)
        return columns

    def training_statistics(self) -> dict[str, Tensor]:
        """Return `class_count` (2 to 4,): labelled events of each class in the training split."""
        labels = self.columns["label"][self.rows["train"]]
        return {"class_count": torch.bincount(labels[labels >= 0], minlength=NUM_CLASSES)}

    def anomaly_scores(self, index: Tensor | Array, cutoff_time: Tensor | Array) -> Array:
        """Return how badly a single lens fits each curve as seen so far; see `physics.anomaly`.

        Args:
            index: Rows of the store, as in a batch, shape (n,).
            cutoff_time: Epochs after this time, in days, are not yet seen, shape (n,).

        Returns:
            chi^2 minus degrees of freedom, and the largest windowed residual, shape (n, 2).
        """
        rows, limits = torch.as_tensor(index), torch.as_tensor(cutoff_time)
        scores = []
        parts = zip(rows.split(FITTED_TOGETHER), limits.split(FITTED_TOGETHER), strict=True)
        for part, limit in parts:
            time, flux, error, good = (self.columns[name][part] for name in ("time", *WIDE))
            seen = good & (time <= limit[:, None])
            scores.append(anomaly_scores(time.numpy(), flux.numpy(), error.numpy(), seen.numpy()))
        return np.concatenate(scores)

    def provenance(self) -> dict[str, Any]:
        """Return what the data are: settings, redrawn events, problems of files."""
        kept = ("seed", "redrawn", "lost_blocks", "problems", "defaults")
        attributes = self.store.attributes
        return {**super().provenance(), **{k: attributes[k] for k in kept if k in attributes}}
