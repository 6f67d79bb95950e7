"""What is known of the stars, as tensors with errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def label_columns(
    catalogue: Mapping[str, NDArray[Any]], names: Sequence[str], origin: str
) -> tuple[Tensor, Tensor]:
    """Stack labels and their errors.

    Args:
        catalogue: Columns, each (N,), with errors under `<name>_error`.
        names: The L columns that are labels.
        origin: Where they come from, for messages.

    Returns:
        Labels, NaN where missing, and errors, 0 where unknown, each (N, L) float32.

    Raises:
        ValueError: A label is no column.
    """
    absent = [name for name in names if name not in catalogue]
    if absent:
        choice = sorted(n for n in catalogue if not n.endswith("_error") and "true_" not in n)
        raise ValueError(f"{origin}: no column {absent}; choose data.labels from {choice}")
    size = len(next(iter(catalogue.values())))
    label, error = torch.full((2, size, len(names)), torch.nan).unbind()
    for number, name in enumerate(names):
        label[:, number] = torch.from_numpy(np.asarray(catalogue[name], np.float32))
        if f"{name}_error" in catalogue:
            values = np.asarray(catalogue[f"{name}_error"], np.float32)
            error[:, number] = torch.from_numpy(values)
    label[~label.isfinite()] = torch.nan
    known = label.isfinite() & error.isfinite() & (error > 0)
    return label, torch.where(known, error, 0.0)


def label_moments(label: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each label over the rows that have it.

    Args:
        label: Shape (N, L), NaN where missing.

    Returns:
        Mean and deviation, each (L,) float32; 0 and 1 for a label that no row has, deviation 1
        for a constant one.
    """
    known = label.isfinite()
    values = torch.where(known, label.double(), 0)
    count = known.sum(dim=0).clamp(min=1)
    mean = values.sum(dim=0) / count
    square = torch.where(known, (values - mean).square(), 0).sum(dim=0)
    deviation = (square / (count - 1).clamp(min=1)).sqrt()
    return mean.float(), torch.where(deviation > 0, deviation, 1.0).float()
