"""Scores of probabilities: how far they are from what happened (numpy; no Lightning)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class ReliabilityTable(NamedTuple):
    """What a reliability diagram shows, one entry for each bin that holds objects.

    Attributes:
        probability: Mean predicted probability.
        frequency: Share of objects that are members.
        num_objects: Number of objects.
    """

    probability: NDArray[np.float64]
    frequency: NDArray[np.float64]
    num_objects: NDArray[np.int64]


def brier_score(member: ArrayLike, probability: ArrayLike) -> float:
    """Return the mean of (probability - member)² (Brier 1950).

    Args:
        member: Whether each object is a member, bool or 0/1, shape (num_objects,).
        probability: Predicted probability of being one, shape (num_objects,).
    """
    truth, predicted = _paired(member, probability)
    return float(np.mean((predicted.astype(np.float64) - truth) ** 2))


def reliability_table(
    member: ArrayLike, probability: ArrayLike, num_bins: int = 15
) -> ReliabilityTable:
    """Return predicted against observed membership in bins of equal mass.

    Bin edges are quantiles of the probabilities. Equal probabilities always share a bin, so there
    are fewer bins where many objects tie, and the order of objects does not matter.

    Args:
        member: Whether each object is a member, bool or 0/1, shape (num_objects,).
        probability: Predicted probability of being one, shape (num_objects,).
        num_bins: Number of bins.
    """
    truth, predicted = _paired(member, probability)
    predicted = predicted.astype(np.float64)
    edges = np.quantile(predicted, np.arange(1, num_bins) / num_bins, method="higher")
    bins = np.searchsorted(np.unique(edges), predicted, side="right")
    count = np.bincount(bins)
    filled = count > 0
    count = count[filled]
    return ReliabilityTable(
        np.bincount(bins, weights=predicted)[filled] / count,
        np.bincount(bins, weights=truth.astype(np.float64))[filled] / count,
        count.astype(np.int64),
    )


def expected_calibration_error(
    member: ArrayLike, probability: ArrayLike, num_bins: int = 15
) -> float:
    """Return Σ_b (n_b/N) |observed frequency_b - mean probability_b| over bins of equal mass.

    Reference: Naeini, Cooper & Hauskrecht 2015 (AAAI), with the bins of Nguyen & O'Connor 2015.

    Args:
        member: Whether each object is a member, bool or 0/1, shape (num_objects,).
        probability: Predicted probability of being one, shape (num_objects,).
        num_bins: Number of bins.
    """
    table = reliability_table(member, probability, num_bins)
    gaps = np.abs(table.frequency - table.probability)
    return float(np.average(gaps, weights=table.num_objects))


def _paired(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two arrays of one length.

    Raises:
        ValueError: If they are empty, differ in shape, or the prediction is not finite.
    """
    first, second = np.asarray(truth), np.asarray(predicted)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"expected two arrays of one non-zero length, got shapes {first.shape}, {second.shape}"
        )
    if not np.isfinite(second).all():
        raise ValueError("the predictions hold NaN or infinite values; leave those objects out")
    return first, second
