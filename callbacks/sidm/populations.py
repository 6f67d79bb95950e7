"""Populations: the maps of one simulation as a model sees them, the unit of inference (numpy)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Population:
    """The maps of one simulation, or of one survey.

    Args:
        name: Of the simulation.
        latent: What each of R models makes of each of n maps, shape (n, R, Z).
        halo: Halo of each map, shape (n,); maps of one halo are resampled together.
        cross_section: σ/m in cm^2/g; NaN if unknown.
    """

    name: str
    latent: Array
    halo: Array
    cross_section: float = float("nan")

    @property
    def num_maps(self) -> int:
        """Number of maps n."""
        return len(self.latent)

    def take(self, rows: Array) -> "Population":
        """Return the population of some of its maps, by mask or positions."""
        return replace(self, latent=self.latent[rows], halo=self.halo[rows])

    def member(self, number: int) -> "Population":
        """Return the population as one of the models sees it, latent (n, 1, Z)."""
        return replace(self, latent=self.latent[:, number : number + 1])

    def first_halos(self, num_maps: int, seed: int) -> "Population":
        """Return the maps of so many random halos that there are about `num_maps`.

        Args:
            num_maps: Wanted; a halo is taken whole.
            seed: Fixes the choice.
        """
        halos = np.random.default_rng(seed).permutation(np.unique(self.halo))
        order = np.argsort(halos)
        rank = order[np.searchsorted(halos[order], self.halo)]
        counts = np.cumsum(np.bincount(rank, minlength=len(halos)))
        return self.take(rank <= np.searchsorted(counts, num_maps))


def mean_and_error(values: Array, halo: Array) -> tuple[Array, Array]:
    """Return the mean over maps and the variance of it over halos.

    The variance is that of a bootstrap over halos in the limit of many resamples: with residuals
    summed over each of H halos, Σ_h (Σ_i r_hi)^2 H / (H - 1) / n^2.

    Args:
        values: Shape (n, D).
        halo: Shape (n,).

    Returns:
        Mean and variance of the mean, shape (D,) each; the variance of one halo is infinite.
    """
    mean = values.mean(0)
    _, member = np.unique(halo, return_inverse=True)
    count = int(member.max()) + 1
    if count < 2:
        return mean, np.full(values.shape[1:], np.inf)
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, member, values - mean)
    return mean, (sums**2).sum(0) * count / (count - 1) / len(values) ** 2


def resampled_halos(halo: Array, num_maps: int, seed: int) -> Iterator[Array]:
    """Yield positions of maps of halos drawn with replacement, about `num_maps` of them, for ever.

    Args:
        halo: Halo of each map, shape (n,).
        num_maps: Maps wanted in a resample.
        seed: Fixes the draws.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(halo, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(halo[order])) + 1)
    while True:
        drawn = rng.integers(len(groups), size=-(-num_maps * len(groups) // len(halo)))
        yield np.concatenate([groups[number] for number in drawn])
