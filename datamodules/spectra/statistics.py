"""Labels with errors as tensors, and what a model is scaled by, of the training spectra alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def pixel_moments(batches: Iterable[dict[str, Tensor]], num_pixels: int) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the flux in each pixel, over usable pixels.

    Sums are of flux - 1 in float64, in one pass. A pixel that is hardly ever usable (fewer than
    two spectra) or constant has the mean 1 or its value, and the median deviation of the others.

    Args:
        batches: With `flux` and `good`, each (B, P).
        num_pixels: P.

    Returns:
        Mean and deviation, each (P,) float32, the deviation positive.
    """
    count, first, second = torch.zeros(3, num_pixels, dtype=torch.float64)
    for batch in batches:
        good = batch["good"]
        above = torch.where(good, batch["flux"].double() - 1, 0)
        count += good.sum(dim=0)
        first += above.sum(dim=0)
        second += above.square().sum(dim=0)
    mean = first / count.clamp(min=1)
    variance = (second / count.clamp(min=1) - mean.square()).clamp(min=0)
    scale = (variance * count / (count - 1).clamp(min=1)).sqrt()
    usable = (count >= 2) & (scale > 0)
    typical = scale[usable].median() if usable.any() else torch.ones((), dtype=torch.float64)
    return (1 + mean).float(), torch.where(usable, scale, typical).float()


def pixel_noise(ivar: Tensor) -> Tensor:
    """Return the median error of each pixel over usable pixels, (P,) float32.

    Of pixels that are never usable it is the median of the others.

    Args:
        ivar: Inverse variances, 0 where not usable, (N, P).
    """
    error = torch.where(ivar > 0, ivar.rsqrt(), torch.nan).nanmedian(dim=0).values
    typical = error.nanmedian()
    return torch.where(error.isnan(), typical if typical.isfinite() else torch.tensor(1.0), error)


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
