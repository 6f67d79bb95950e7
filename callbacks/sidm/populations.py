"""Populations: the maps of one simulation as a model sees them, the unit of inference (numpy)."""

from collections.abc import Iterator, Sequence
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
        profile: What the models see of the rings of each map, shape (n, F); None if nothing.
    """

    name: str
    latent: Array
    halo: Array
    cross_section: float = float("nan")
    profile: Array | None = None

    @property
    def num_maps(self) -> int:
        """Number of maps n."""
        return len(self.latent)

    def take(self, rows: Array) -> "Population":
        """Return the population of some of its maps, by mask or positions."""
        profile = None if self.profile is None else self.profile[rows]
        return replace(self, latent=self.latent[rows], halo=self.halo[rows], profile=profile)

    @property
    def num_halos(self) -> int:
        """Number of halos."""
        return len(np.unique(self.halo))

    @property
    def features(self) -> Array:
        """Latents of all members, and the profile, beside each other, shape (n, R Z + F)."""
        latent = self.latent.reshape(self.num_maps, -1).astype(np.float64)
        return latent if self.profile is None else np.concatenate([latent, self.profile], axis=1)

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


def suites(known: Sequence[Population]) -> list[list[Population]]:
    """Return simulations that share halos together, the suite of most cross-sections first.

    Simulations of one code start from the same halos; those of another code differ by more than
    their cross-section, and are no neighbours on a path.

    Args:
        known: Of rising cross-section or not; their order is kept.
    """
    found: list[list[Population]] = []
    for one in known:
        related = [s for s in found if any(np.isin(one.halo, x.halo).any() for x in s)]
        merged = [x for suite in related for x in suite]
        found = [suite for suite in found if suite not in related] + [[*merged, one]]
    return sorted(found, key=lambda suite: -len({one.cross_section for one in suite}))


def concatenated(parts: Sequence[Population], cross_section: float) -> Population:
    """Return the maps of several populations as one, named by all of them.

    Args:
        parts: All with a profile, or none.
        cross_section: Of the whole, in cm^2/g.
    """
    keys = ["latent", "halo", *(["profile"] if parts[0].profile is not None else [])]
    columns = {key: np.concatenate([getattr(one, key) for one in parts]) for key in keys}
    name = "+".join(one.name for one in parts)
    return Population(name, cross_section=cross_section, **columns)


@dataclass(frozen=True)
class MeanOfMaps:
    """The mean over the maps of a population, and what each of its halos contributes to its error.

    Args:
        mean: Shape (D,).
        halo: Its halos, sorted, shape (H,).
        share: Of each, the sum of its maps' residuals over the number of all maps, times
            √(H / (H - 1)), shape (H, D); infinite for one halo, which tells no error.
    """

    mean: Array
    halo: Array
    share: Array

    @classmethod
    def of(cls, values: Array, halo: Array) -> "MeanOfMaps":
        """Return the mean of maps.

        Args:
            values: Shape (n, D).
            halo: Of each map, shape (n,).
        """
        mean = values.mean(0)
        halos, member = np.unique(halo, return_inverse=True)
        sums = np.zeros((len(halos), values.shape[1]))
        np.add.at(sums, member, values - mean)
        if len(halos) < 2:
            return cls(mean, halos, np.full_like(sums, np.inf))
        return cls(mean, halos, sums / len(values) * np.sqrt(len(halos) / (len(halos) - 1)))

    def covariance(self, other: "MeanOfMaps") -> Array:
        """Return the covariance of two means, shape (D,), from the halos that they share.

        That of a bootstrap over halos in the limit of many resamples, Σ_h share_h share'_h: with
        itself the variance of the mean, with a twin (the same halos in another simulation) nearly
        as much, with another population 0.
        """
        _, own, others = np.intersect1d(self.halo, other.halo, True, return_indices=True)
        return np.asarray((self.share[own] * other.share[others]).sum(0))


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
