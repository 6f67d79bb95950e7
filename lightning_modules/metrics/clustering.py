"""Scores of a clustering and of its probabilities (numpy and scikit-learn; no Lightning)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix


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


def match_labels(label: ArrayLike, assignment: ArrayLike) -> dict[int, int]:
    """Return the one-to-one map from clusters to classes that shares most objects.

    The Hungarian method on the contingency table (Kuhn 1955). If there are more clusters than
    classes, the clusters left over are not in the map.

    Args:
        label: True classes, integers, shape (num_objects,).
        assignment: Clusters, integers, shape (num_objects,).
    """
    classes, clusters = np.unique(_paired(label, assignment)[0]), np.unique(assignment)
    rows, columns = linear_sum_assignment(contingency_matrix(label, assignment), maximize=True)
    return {int(clusters[c]): int(classes[r]) for r, c in zip(rows, columns, strict=True)}


def hungarian_accuracy(label: ArrayLike, assignment: ArrayLike) -> float:
    """Return the share of objects in the right class under the best one-to-one match.

    ACC of the deep-clustering papers (Xie et al. 2016, eq. 10).

    Args:
        label: True classes, integers, shape (num_objects,).
        assignment: Clusters, integers, shape (num_objects,).
    """
    truth, found = _paired(label, assignment)
    table = contingency_matrix(truth, found)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / len(truth))


def clustering_scores(label: ArrayLike, assignment: ArrayLike) -> dict[str, float]:
    """Return `ari`, `nmi` and `accuracy` of a clustering against the true classes.

    All three are invariant to renaming clusters: adjusted Rand index (Hubert & Arabie 1985),
    mutual information normalised by the mean of the entropies, Hungarian accuracy.

    Args:
        label: True classes, integers, shape (num_objects,).
        assignment: Clusters, integers, shape (num_objects,).
    """
    truth, found = _paired(label, assignment)
    return {
        "ari": float(adjusted_rand_score(truth, found)),
        "nmi": float(normalized_mutual_info_score(truth, found)),
        "accuracy": hungarian_accuracy(truth, found),
    }


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
