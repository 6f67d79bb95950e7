"""Scores of single maps that rise for maps of a foreign domain (numpy)."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

from callbacks.sidm.populations import Array, Population

NUM_NEIGHBOURS = 10


class MapScores:
    """Distances of single maps from the clouds of known simulations.

    In the latents of all members and, where the models have one, the profile of the map: the latent
    keeps what tells cross-sections, the profile also texture, which tells resolution and noise.

    Args:
        num_neighbours: The distance to the k-th nearest known map counts.
    """

    def __init__(self, num_neighbours: int = NUM_NEIGHBOURS) -> None:
        self.num_neighbours = num_neighbours

    def fit(self, known: Sequence[Population]) -> Self:
        """Fit one covariance about the means of the known simulations, and a tree of their maps."""
        clouds = [one.features for one in known]
        self._means = np.stack([cloud.mean(0) for cloud in clouds])
        residuals = [cloud - mean for cloud, mean in zip(clouds, self._means, strict=True)]
        fitted = EmpiricalCovariance(assume_centered=True).fit(np.concatenate(residuals))
        self._precision = fitted.precision_
        values, vectors = np.linalg.eigh(self._precision)
        self._whitening = vectors * np.sqrt(np.maximum(values, 0.0))
        count = min(self.num_neighbours, sum(map(len, clouds)))
        self._tree = NearestNeighbors(n_neighbors=count)
        self._tree.fit(np.concatenate(clouds) @ self._whitening)
        return self

    def mahalanobis(self, population: Population) -> Array:
        """Return the smallest squared Mahalanobis distance to a known simulation's mean, (n,).

        Reference: Lee et al. 2018 (arXiv:1807.03888).
        """
        offsets = population.features[:, None] - self._means
        return np.asarray(np.einsum("nkd,de,nke->nk", offsets, self._precision, offsets).min(1))

    def nearest_neighbours(self, population: Population) -> Array:
        """Return the whitened distance to the k-th nearest known map, (n,).

        Reference: Sun et al. 2022 (arXiv:2204.06507).
        """
        distance, _ = self._tree.kneighbors(population.features @ self._whitening)
        return np.asarray(distance[:, -1])
