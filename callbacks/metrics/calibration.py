"""Probabilities against what happened, in bins (numpy; no Lightning)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from callbacks.metrics.ranking import paired


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

    @property
    def error(self) -> float:
        """Expected calibration error: Σ_b (n_b/N) |observed frequency_b - mean probability_b|.

        Reference: Naeini, Cooper & Hauskrecht 2015 (AAAI), with the bins of Nguyen & O'Connor 2015.
        """
        gaps = np.abs(self.frequency - self.probability)
        return float(np.average(gaps, weights=self.num_objects))


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
    truth, predicted = paired(member, probability)
    edges = np.quantile(predicted, np.arange(1, num_bins) / num_bins, method="higher")
    bins = np.searchsorted(np.unique(edges), predicted, side="right")
    sums = (np.bincount(bins, weights=values) for values in (predicted, truth, None))
    stated, happened, count = np.stack(list(sums))[:, np.unique(bins)]
    return ReliabilityTable(stated / count, happened / count, count.astype(np.int64))


def interval_coverage(low: ArrayLike, high: ArrayLike, truth: ArrayLike) -> NDArray[np.bool_]:
    """Return which intervals hold the truth, ends included, shape (n,).

    Args:
        low: Lower ends, shape (n,).
        high: Upper ends, shape (n,).
        truth: What they should hold, shape (n,).
    """
    values = np.asarray(truth)
    return np.asarray((np.asarray(low) <= values) & (values <= np.asarray(high)))


def conformal_factor(scores: ArrayLike, level: float) -> float:
    """Return the ⌈(n + 1) level⌉-th smallest score; infinity if there are too few for the level.

    A new score of the same distribution is at most that with a probability of at least `level`,
    whatever the distribution (split-conformal prediction; Lei et al. 2018, JASA 113, 1094).

    Args:
        scores: Errors in units of the stated ones, shape (n,).
        level: Between 0 and 1.

    Raises:
        ValueError: A score is NaN.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    if np.isnan(ordered).any():
        raise ValueError("a calibration score is NaN; leave out objects whose truth is unknown")
    place = int(np.ceil((len(ordered) + 1) * level - 1e-9))
    return float(ordered[place - 1]) if place <= len(ordered) else float("inf")
