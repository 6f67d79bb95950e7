"""How well single latents answer to single true factors: MIG, DCI, SAP, modularity (numpy)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import entropy, rankdata
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.metrics import mutual_info_score

Array = NDArray[Any]
NUM_BINS = 20
NUM_TREES = 40


class DCI(NamedTuple):
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018).

    Attributes:
        disentanglement: 1 if each latent serves one factor, 0 if all serve all alike.
        completeness: 1 if each factor is served by one latent.
        informativeness: Mean R^2 of the factors on rows not fitted.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def equal_count_bins(values: Array, num_bins: int = NUM_BINS) -> NDArray[np.int64]:
    """Return the bin of each value, all bins with the same number of values but for ties.

    Args:
        values: Shape (n, d); each column is binned by itself.
        num_bins: Bins B.

    Returns:
        Numbers 0..B-1, shape (n, d).
    """
    ranks = rankdata(values, "min", axis=0).astype(np.int64) - 1  # equal values share the lowest
    return ranks * num_bins // len(values)


def binned_information(
    latent: Array, factor: Array, num_bins: int = NUM_BINS
) -> NDArray[np.float64]:
    """Return the mutual information of each latent with each factor in nats, from equal-count bins.

    The bias of the plug-in estimate, (occupied cells - rows - columns + 1) / (2 n) with all cells
    taken as occupied (Miller 1955), is taken off; what remains is at least 0.

    Args:
        latent: Shape (n, d).
        factor: Shape (n, k).
        num_bins: Bins of each variable.

    Returns:
        Shape (d, k).
    """
    bins_latent, bins_factor = (equal_count_bins(x, num_bins) for x in (latent, factor))
    bias = (num_bins - 1) ** 2 / (2 * len(latent))
    result = np.empty((latent.shape[1], factor.shape[1]))
    for (row, column), _ in np.ndenumerate(result):
        cells = bins_latent[:, row] * num_bins + bins_factor[:, column]
        joint = np.bincount(cells, minlength=num_bins**2).reshape(num_bins, num_bins)
        result[row, column] = mutual_info_score(None, None, contingency=joint) - bias
    return result.clip(0)


def mutual_information_gap(
    information: Array, factor: Array, num_bins: int = NUM_BINS
) -> NDArray[np.float64]:
    """Return MIG of each factor: the gap of its two most informative latents over its entropy.

    1 if one latent knows the factor and no other knows anything of it (Chen et al. 2018, eq. 6).

    Args:
        information: Of `binned_information`, shape (d, k), d > 1.
        factor: Shape (n, k).
        num_bins: Bins of each variable.
    """
    whole = [entropy(np.bincount(own)) for own in equal_count_bins(factor, num_bins).T]
    best = np.sort(information, 0)[::-1]
    return (best[0] - best[1]) / np.maximum(whole, np.finfo(float).tiny)


def modularity(information: Array) -> float:
    """Return the mean over latents of how much each informs about one factor only.

    1 - sum of the squares of the other factors' information over (k - 1) times the square of the
    largest (Ridgeway & Mozer 2018); each latent counts with its largest information, so that those
    that inform about nothing do not count.

    Args:
        information: Of `binned_information`, shape (d, k), k > 1.
    """
    largest = information.max(1)
    informed = largest > 0
    if not informed.any():
        return float("nan")
    squares = np.square(information[informed] / largest[informed, None]).sum(1) - 1
    mean = np.average(squares, weights=largest[informed])
    return float(1 - mean / (information.shape[1] - 1))


def separated_attribute_predictability(latent: Array, factor: Array) -> NDArray[np.float64]:
    """Return SAP of each factor: gap of the two largest squared correlations with single latents.

    Kumar et al. (2018); the squared correlation is R^2 of a line through one latent.

    Args:
        latent: Shape (n, d), d > 1; a constant latent has correlation 0.
        factor: Shape (n, k).
    """
    squared = np.sort(np.square(correlations(latent, factor)), 0)[::-1]
    return squared[0] - squared[1]


def correlations(first: Array, second: Array) -> NDArray[np.float64]:
    """Return the correlation of each column with each other column, 0 for constant ones.

    Args:
        first: Shape (n, d).
        second: Shape (n, k).

    Returns:
        Shape (d, k).
    """
    a, b = (_standardise(np.asarray(x, dtype=np.float64)) for x in (first, second))
    return np.asarray(a.T @ b / len(a))


def importance_scores(importance: Array) -> tuple[float, float]:
    """Return disentanglement and completeness of a matrix of importances.

    One less the entropy of the factors of a latent, with base k, averaged over latents with their
    shares of all importance as weights; and the same for the latents of a factor.

    Args:
        importance: Of each latent for each factor, not negative, shape (d, k).
    """
    rows, columns = importance.sum(1), importance.sum(0)
    if importance.sum() == 0:
        return float("nan"), float("nan")
    return _concentration(importance[rows > 0]), _concentration(importance[:, columns > 0].T)


def dci(latent: Array, factor: Array, fitted: Array, seed: int = 0) -> DCI:
    """Return DCI with importances of boosted trees.

    Args:
        latent: Shape (n, d).
        factor: Shape (n, k).
        fitted: Rows that the trees are fitted on, the others score them, bool, shape (n,).
        seed: Fixes the trees.
    """
    importance = np.zeros((latent.shape[1], factor.shape[1]))
    scores = np.zeros(factor.shape[1])
    for column, own in enumerate(_standardise(np.asarray(factor, dtype=np.float64)).T):
        trees = GradientBoostingRegressor(
            n_estimators=NUM_TREES, max_depth=3, subsample=0.5, learning_rate=0.2, random_state=seed
        ).fit(latent[fitted], own[fitted])
        importance[:, column] = trees.feature_importances_
        scores[column] = trees.score(latent[~fitted], own[~fitted])
    # A factor that cannot be told from the latents has importances of noise: they do not count.
    importance *= np.maximum(scores, 0.0)
    return DCI(*importance_scores(importance), float(scores.mean()))


def _concentration(importance: Array) -> float:
    """Return the weighted mean over rows of 1 - entropy / ln(number of columns)."""
    spread = entropy(importance, axis=1) / np.log(max(importance.shape[1], 2))
    return float(np.average(1 - spread, weights=importance.sum(1)))


def _standardise(values: Array) -> NDArray[np.float64]:
    """Return columns with mean 0 and deviation 1; constant ones become 0."""
    centred = values - values.mean(0)
    scale = centred.std(0)
    return np.asarray(centred / np.where(scale > 0, scale, np.inf))
