"""Whether a population comes from the domain of the known simulations (numpy).

The paper's overlap of projected latents, with a p-value; and a classifier two-sample test. Neither
has seen the population's domain in training.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import gaussian_kde
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GroupKFold, cross_val_predict

from callbacks.metrics.ranking import Ranking, area_under_roc
from callbacks.sidm.coordinate import Coordinate
from callbacks.sidm.populations import Array, Population, concatenated, resampled_halos

NUM_POINTS = 100
NUM_FOLDS = 5
MIN_P_VALUE = 0.05
"""Below, the overlap says that the population is foreign."""
MAX_AUC = 0.75
"""Above, the two-sample test says so; small populations need more."""
MIN_HALOS = 2 * NUM_FOLDS
"""Halos below which there is no two-sample test."""
NUM_SIGMA = 3.0
"""By how much an AUC must exceed 1/2, in standard deviations of equal populations."""


class TwoSample(NamedTuple):
    """What a classifier two-sample test found.

    Attributes:
        auc: How well held-out maps are told apart, 0.5 if they are alike.
        limit: Above it the population is foreign.
    """

    auc: float
    limit: float


def density_overlap(first: Array, second: Array) -> float:
    """Return ∫ min(p, q) of the densities of two samples, between 0 and 1.

    Gaussian kernels of Scott's width on 100 points over the joint range (Tregidga et al. 2025).

    Args:
        first: Shape (n,).
        second: Shape (m,).
    """
    both = np.concatenate([first, second])
    grid = np.linspace(both.min(), both.max(), NUM_POINTS)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float(np.array_equal(np.unique(first), np.unique(second)))
    density = np.minimum(gaussian_kde(first)(grid), gaussian_kde(second)(grid))
    return float(np.clip(np.trapezoid(density, grid), 0.0, 1.0))


def latent_overlap(first: Population, second: Population) -> float:
    """Return the overlap of two populations, the mean over members.

    Projected on the line between their means, in all dimensions of the latent but the first, which
    is the cross-section (Tregidga et al. 2025, their confidence).

    Args:
        first: Of the simulation in question.
        second: A known one.
    """
    return float(np.mean([_member_overlap(first, second, k) for k in range(first.latent.shape[1])]))


def _member_overlap(first: Population, second: Population, member: int) -> float:
    """Return the overlap in one member's latents."""
    a, b = (x.latent[:, member, min(1, x.latent.shape[2] - 1) :] for x in (first, second))
    line = b.mean(0) - a.mean(0)
    length = float(np.linalg.norm(line))
    if length == 0:
        line, length = np.ones_like(line), float(np.sqrt(len(line)))
    return density_overlap(a @ line / length, b @ line / length)


class OverlapTest:
    """How unusual an overlap is beside that of the known simulations on either side.

    A population of the same domain lies between two neighbours on the path, or beside the last, and
    so overlaps one of them at least as much as they overlap each other: the p-value is
    conservative, far above 0.05 for most of them.

    Args:
        known: Of rising cross-section.
        num_resamples: By halo.
        seed: Fixes them.
    """

    def __init__(
        self, known: Sequence[Population], num_resamples: int = 100, seed: int = 0
    ) -> None:
        self.known = list(known)
        self.num_resamples = num_resamples
        self.seed = seed
        self._null: dict[tuple[int, int], Array] = {}

    def overlaps(self, population: Population) -> dict[str, float]:
        """Return the overlap with each known simulation, by its name."""
        return {one.name: latent_overlap(population, one) for one in self.known}

    def p_value(self, overlap: float, num_maps: int, cross_section: float) -> float:
        """Return how often the neighbours of a value, resampled at this size, overlap no more.

        Args:
            overlap: The largest with any known simulation.
            num_maps: Of the population.
            cross_section: Of the population, as measured, in cm^2/g.
        """
        values = [one.cross_section for one in self.known]
        low = int(np.clip(np.searchsorted(values, cross_section) - 1, 0, len(values) - 2))
        smallest = min(one.num_maps for one in self.known[low : low + 2])
        null = self._null_of(low, min(num_maps, smallest))
        return float((1 + (null <= overlap).sum()) / (1 + len(null)))

    def _null_of(self, low: int, num_maps: int) -> Array:
        """Return the overlaps of two resampled neighbours."""
        if (low, num_maps) not in self._null:
            pair = self.known[low : low + 2]
            draws = [resampled_halos(x.halo, num_maps, self.seed + k) for k, x in enumerate(pair)]
            found = [
                latent_overlap(*(x.take(next(d)) for x, d in zip(pair, draws, strict=True)))
                for _ in range(self.num_resamples)
            ]
            self._null[low, num_maps] = np.array(found)
        return self._null[low, num_maps]


def nearest_known(
    known: Sequence[Population], cross_section: float, coordinate: Coordinate, seed: int = 0
) -> Population:
    """Return maps of the two known simulations on either side of a cross-section.

    In shares that interpolate the coordinate of the path, so that their mean stands where a
    straight path would be; of the first or last alone beyond it.

    Args:
        known: Of rising cross-section.
        cross_section: In cm^2/g.
        coordinate: In which is interpolated.
        seed: Fixes which maps.
    """
    values = np.array([one.cross_section for one in known])
    *places, place = coordinate.along(np.append(values, cross_section))
    above = int(np.searchsorted(places, place))
    if above in (0, len(known)):
        return known[min(above, len(known) - 1)]
    low, high = known[above - 1], known[above]
    share = (place - places[above - 1]) / (places[above] - places[above - 1])
    size = min(low.num_maps / max(1 - share, 1e-9), high.num_maps / max(share, 1e-9))
    parts = [
        one.first_halos(max(1, round(size * part)), seed)
        for one, part in ((low, 1 - share), (high, share))
    ]
    return concatenated(parts, cross_section)


def two_sample_test(population: Population, reference: Population) -> TwoSample:
    """Return how well a linear classifier tells a population from a reference.

    By their latents and, where the models see one, the profile of the maps; the area under the ROC
    curve of held-out maps in five folds of halos. The limit is 0.75, or three standard deviations
    of the AUC of equal populations, √((n + m + 1) / (12 n m)) for n and m halos (Mann & Whitney
    1947), above 1/2 if that is more.

    Args:
        population: In question.
        reference: Of the known domain, such as `nearest_known` gives.

    Reference: Lopez-Paz & Oquab 2017 (arXiv:1610.06545).
    """
    features = np.concatenate([reference.features, population.features])
    label = np.repeat([0, 1], [reference.num_maps, population.num_maps])
    halo = np.concatenate([reference.halo, population.halo])
    folds = GroupKFold(min(NUM_FOLDS, len(np.unique(halo))))
    classifier = LinearDiscriminantAnalysis(priors=[0.5, 0.5])
    score = cross_val_predict(
        classifier, features, label, groups=halo, cv=folds, method="decision_function"
    )
    n, m = (len(np.unique(one.halo)) for one in (population, reference))
    limit = 0.5 + NUM_SIGMA * np.sqrt((n + m + 1) / (12 * n * m))
    return TwoSample(area_under_roc(Ranking(label, score).curve()), max(MAX_AUC, float(limit)))
