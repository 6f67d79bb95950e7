"""Curves of a score that ranks objects: ROC, precision-recall, completeness at a purity (numpy)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def divide(part: Any, whole: Any) -> Array:
    """Divide numbers or arrays; NaN where nothing is divided by nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.true_divide(part, whole))


def paired(truth: ArrayLike, predicted: ArrayLike) -> tuple[Array, Array]:
    """Return what happened and what was said of it in double precision, shape (n,) each.

    Raises:
        ValueError: If they are empty, differ in shape, or the prediction is not finite.
    """
    first, second = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"expected two arrays of one non-zero length, got shapes {first.shape}, {second.shape}"
        )
    if not np.isfinite(second).all():
        raise ValueError("the predictions hold NaN or infinite values; leave those objects out")
    return first, second


class RankingCurve(NamedTuple):
    """What is selected as the threshold on the score falls, one entry for each distinct score.

    Attributes:
        threshold: The score from which on objects are selected, falling.
        true_positives: Weight of the positive objects selected.
        false_positives: Weight of the others selected.
    """

    threshold: NDArray[np.float64]
    true_positives: NDArray[np.float64]
    false_positives: NDArray[np.float64]

    @property
    def recall(self) -> Array:
        """Share of the positive objects selected (completeness, true-positive rate)."""
        return divide(self.true_positives, self.true_positives[-1])

    @property
    def false_positive_rate(self) -> Array:
        """Share of the other objects selected."""
        return divide(self.false_positives, self.false_positives[-1])

    @property
    def precision(self) -> Array:
        """Share of the selected objects that are positive (purity)."""
        return divide(self.true_positives, self.true_positives + self.false_positives)


class Ranking:
    """Objects in the order of their score; equal scores are selected together.

    Sorted once, its curve can be had for any weights of the objects, as a bootstrap needs.

    Args:
        positive: Which objects are to be found, shape (n,) bool.
        score: Higher is more likely positive, shape (n,).

    Raises:
        ValueError: If a score is not finite or the shapes differ.
    """

    def __init__(self, positive: ArrayLike, score: ArrayLike) -> None:
        truth, values = paired(positive, score)
        self.order = np.argsort(-values, kind="stable")
        self.positive = truth[self.order]
        falling = values[self.order]
        self.last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
        self.threshold = falling[self.last]

    def curve(self, weights: Array | None = None) -> RankingCurve:
        """Return the curve, each object counting as often as its weight says, shape (n,)."""
        ones = np.ones(len(self.order)) if weights is None else weights[self.order]
        selected = np.cumsum(ones)[self.last]
        found = np.cumsum(ones * self.positive)[self.last]
        return RankingCurve(self.threshold, found, selected - found)


def area_under_roc(curve: RankingCurve) -> float:
    """Return the probability that a positive ranks above another object; ties count one half.

    NaN if one of the two is absent (Hanley & McNeil 1982).
    """
    x, y = (np.insert(v, 0, 0.0) for v in (curve.false_positive_rate, curve.recall))
    return float(np.trapezoid(y, x))


def average_precision(curve: RankingCurve) -> float:
    """Return sum over thresholds of (rise in recall) x precision; NaN without positives."""
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * np.nan_to_num(curve.precision)))


def completeness_at_purity(curve: RankingCurve, purity: float) -> float:
    """Return the largest recall of a selection with at least this precision; 0 if there is none."""
    pure = np.nan_to_num(curve.precision) >= purity
    if np.isnan(curve.recall[-1]):
        return float("nan")
    return float(curve.recall[pure].max(initial=0.0))
