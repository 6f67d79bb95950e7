"""What the microlensing report keeps of each event, reduced batch by batch (torch)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from callbacks.report.base import SPLITS

Array = NDArray[Any]

FRACTIONS = (0.10, 0.25, 0.33, 0.50, 0.67, 0.83, 1.00)
"""Shares of the time between the first and the last planned epoch of a curve."""

THRESHOLDS = (0.6, 0.7, 0.8, 0.9)
"""Probabilities of two lenses at which one would decide."""

BINARY = 1
"""Label of two lenses: the event that is to be found."""


@dataclass(frozen=True)
class Predictions:
    """What a method says of events at each fraction of their curves.

    Attributes:
        subject: `model` or `baseline/<name>`.
        rows: Positions of the events among all rows, shape (n,).
        label: Their classes, shape (n,).
        probability: Of two lenses, shape (n, F).
        predicted: Class, shape (n, F); BINARY or not is all that a baseline knows.
        tells_classes: Whether `predicted` tells all classes apart.
    """

    subject: str
    rows: Array
    label: Array
    probability: Array
    predicted: Array
    tells_classes: bool

    @property
    def binary(self) -> Array:
        """Whether there are two lenses, shape (n,)."""
        return np.asarray(self.label == BINARY)


@dataclass(frozen=True)
class Example:
    """One event to be drawn.

    Attributes:
        index: Its row number.
        label: Its class.
        time: Days, shape (n,).
        flux: Over the reference flux, shape (n,).
        error: Of the flux, shape (n,).
        probability: Of two lenses after each epoch, shape (n,).
    """

    index: int
    label: int
    time: Array
    flux: Array
    error: Array
    probability: Array


def seen_epochs(batch: Mapping[str, Tensor]) -> Tensor:
    """Return the epochs that a classifier gets: good and finite, shape (B, T) bool."""
    finite = [batch[name].isfinite() for name in ("flux", "flux_error", "time")]
    return batch["good"] & finite[0] & finite[1] & finite[2]


def time_limits(time: Tensor) -> tuple[Tensor, Tensor]:
    """Return first and last planned epoch, (B,) each; NaN in `time` is padding."""
    planned = time.isfinite()
    first = torch.where(planned, time, torch.inf).amin(1)
    return first, torch.where(planned, time, -torch.inf).amax(1)


def reduce_batch(batch: Mapping[str, Tensor], probability: Tensor) -> dict[str, Tensor]:
    """Return what the report needs of a batch, without the curves.

    Args:
        batch: As the datamodule documents it, with `split` if there is one.
        probability: Of each class after each epoch, shape (B, T, C).

    Returns:
        `index`, `label`, `split` (held out if the batch has none); `cutoff_time` (B, F), the time
        at which each fraction ends; `at_fraction` (B, F, C), the probability after the last epoch
        seen by then, 1 / C if there is none; `decision_time` (B, D), the fraction of the curve at
        which the probability of two lenses first reaches each threshold, NaN if it never does.
    """
    time, seen = batch["time"], seen_epochs(batch)
    first, last = time_limits(time)
    span = (last - first).clamp_min(torch.finfo(time.dtype).tiny)
    fractions = torch.tensor(FRACTIONS, dtype=time.dtype, device=time.device)
    cutoff = first[:, None] + fractions * span[:, None]
    cutoff[:, -1] = last  # not one rounding error before the last epoch
    at_fraction = [_last_before(probability, seen & (time <= limit[:, None])) for limit in cutoff.T]
    share = (time - first[:, None]) / span[:, None]
    binary = probability[..., BINARY]
    decided = [_first_where(share, seen & (binary >= threshold)) for threshold in THRESHOLDS]
    index = batch["index"]
    return {
        "index": index,
        "label": batch.get("label", torch.full_like(index, -1)),
        "split": batch.get("split", torch.full_like(index, SPLITS["held_out"])),
        "cutoff_time": cutoff,
        "at_fraction": torch.stack(at_fraction, dim=1).float(),
        "decision_time": torch.stack(decided, dim=1),
    }


def take_examples(
    batch: Mapping[str, Tensor], probability: Tensor, counts: dict[int, int], limit: int
) -> list[Example]:
    """Return the first held-out events of each class, until there are `limit`.

    Args:
        batch: As the datamodule documents it.
        probability: Shape (B, T, C).
        counts: Examples of each class so far; counted up.
        limit: Examples of a class.
    """
    seen, found = seen_epochs(batch), []
    labels = batch["label"].tolist() if "label" in batch else [-1] * len(seen)
    splits = batch["split"].tolist() if "split" in batch else [SPLITS["held_out"]] * len(seen)
    for row, (label, split) in enumerate(zip(labels, splits, strict=True)):
        if split != SPLITS["held_out"] or counts.get(label, 0) >= limit or not seen[row].any():
            continue
        counts[label] = counts.get(label, 0) + 1
        kept = seen[row]
        values = [batch[name][row][kept] for name in ("time", "flux", "flux_error")]
        values.append(probability[row, :, BINARY][kept].float())
        arrays = [value.detach().cpu().numpy() for value in values]
        found.append(Example(int(batch["index"][row]), label, *arrays))
    return found


def _last_before(values: Tensor, mask: Tensor) -> Tensor:
    """Return the last value of each row where the mask holds, 1 / C if nowhere, shape (B, C)."""
    rows = torch.arange(len(mask), device=mask.device)
    place = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    ignorance = torch.full_like(values[:, 0], 1 / values.shape[-1])
    return torch.where(mask.any(1)[:, None], values[rows, place], ignorance)


def _first_where(values: Tensor, mask: Tensor) -> Tensor:
    """Return the first value of each row where the mask holds, NaN if nowhere, shape (B,)."""
    rows = torch.arange(len(mask), device=mask.device)
    return torch.where(mask.any(1), values[rows, mask.int().argmax(1)], torch.nan)
