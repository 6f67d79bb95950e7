"""The path of known simulations through a latent space, by a Gaussian process (numpy).

It lives in the coordinate in which the effect on a map grows: the radius r1 of the isothermal core
of a typical cluster, within which particles have scattered once (Kaplinghat et al. 2016,
arXiv:1508.03339), or u = log10(1 + σ/σ0).
"""

from collections.abc import Sequence

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from callbacks.sidm.coordinate import Coordinate
from callbacks.sidm.populations import Array, MeanOfMaps, Population

LENGTH_SCALES = (0.3, 0.45, 0.7, 1.0, 1.5, 2.2, 3.2)
"""Of the Gaussian process, over the distance from CDM to the largest known one; marginalised."""
AMPLITUDE = 1.5
"""Variance of the process over that of the known means."""
JITTER = 1e-8


class Path:
    """The path of the known simulations through one model's latent space.

    Latents are first projected on the directions that tell the known simulations apart (Fisher's
    discriminants, one fewer than there are simulations), in which maps scatter by about one. The
    means of simulations that share halos have errors in common.

    Args:
        known: Two or more, of different cross-sections, latent (n, 1, Z).
        coordinate: Of the path.
        fitted: Maps of the same simulations that the discriminants are fitted on; `known` if None.

    Attributes:
        anchors: u of the known simulations, shape (A,).
        means: Their means in the discriminants, shape (A, D).
        mean: The path on the grid, shape (G, D).
        error: Its standard deviation, shape (G, D).
    """

    def __init__(
        self,
        known: Sequence[Population],
        coordinate: Coordinate,
        fitted: Sequence[Population] | None = None,
    ) -> None:
        self.coordinate = coordinate
        values = np.array([one.cross_section for one in known])
        self.anchors, self._places = coordinate.of(values), coordinate.along(values)
        features = [one.latent[:, 0].astype(np.float64) for one in fitted or known]
        if sum(map(len, features)) <= len(features):
            raise ValueError(
                f"discriminants of {len(features)} known simulations need more maps than that; "
                "bring more maps of data.known"
            )
        labels = np.repeat(np.arange(len(features)), [len(one) for one in features])
        self._discriminants = LinearDiscriminantAnalysis().fit(np.concatenate(features), labels)
        self._known = [self.mean_of(one) for one in known]
        self.means = np.stack([one.mean for one in self._known])
        self._centre = self.means.mean(0)
        self._amplitude = AMPLITUDE * self.means.var(0) + np.finfo(float).tiny
        self._noise = np.stack(
            [[a.covariance(b) for b in self._known] for a in self._known]
        )  # (A, A, D)
        self._evidence = np.array([self._log_evidence(length) for length in LENGTH_SCALES])
        weights = np.exp(self._evidence - self._evidence.max())
        weights /= weights.sum()
        found = [self._predict(length, np.zeros_like(self.means)) for length in LENGTH_SCALES]
        paths, variances = (np.stack(values) for values in zip(*found, strict=True))
        self.mean = np.tensordot(weights, paths, 1)
        scatter = np.tensordot(weights, (paths - self.mean) ** 2 + variances, 1)
        self.error = np.sqrt(np.maximum(scatter, 0.0))

    def project(self, population: Population) -> Array:
        """Return the maps in the discriminants, shape (n, D)."""
        return np.asarray(self._discriminants.transform(population.latent[:, 0]))

    def mean_of(self, population: Population) -> MeanOfMaps:
        """Return the mean of a population in the discriminants."""
        return MeanOfMaps.of(self.project(population), population.halo)

    def classify(self, population: Population) -> Array:
        """Return the position of the known simulation that each map is taken for, shape (n,)."""
        return np.asarray(self._discriminants.predict(population.latent[:, 0]))

    def log_likelihood(self, observed: MeanOfMaps, interpolated: bool = True) -> Array:
        """Return ln p of a population's mean on the grid, length scale marginalised, shape (G,).

        Args:
            observed: The mean; what its error shares with those of the path counts once.
            interpolated: Whether the path has an error.
        """
        own = observed.covariance(observed)
        common = np.stack([observed.covariance(one) for one in self._known])  # (A, D)
        terms = []
        for length, evidence in zip(LENGTH_SCALES, self._evidence, strict=True):
            path, error = self._predict(length, common)
            total = np.maximum(own + error, JITTER * own) if interpolated else own
            residual = (observed.mean - path) ** 2
            terms.append(evidence - 0.5 * (residual / total + np.log(total)).sum(1))
        return np.asarray(np.logaddexp.reduce(np.stack(terms)))

    def single_maps(self, population: Population) -> Array:
        """Return the most likely u of each map on its own, shape (n,)."""
        distance = (self.mean**2).sum(1) - 2 * self.project(population) @ self.mean.T
        return np.asarray(self.coordinate.grid[distance.argmin(1)])

    def _covariance(self, length: float) -> Array:
        """Return the covariance of the known means, shape (D, A, A)."""
        kernel = _kernel(self._places, self._places, length) + JITTER * np.eye(len(self.means))
        return np.asarray(self._amplitude[:, None, None] * kernel + np.moveaxis(self._noise, 2, 0))

    def _log_evidence(self, length: float) -> float:
        """Return ln p of the known means under the process."""
        covariance, residual = self._covariance(length), (self.means - self._centre).T[..., None]
        quadratic = (residual * np.linalg.solve(covariance, residual)).sum()
        return float(-0.5 * (quadratic + np.linalg.slogdet(covariance)[1].sum()))

    def _predict(self, length: float, common: Array) -> tuple[Array, Array]:
        """Return the mean at each u and what the path adds to the variance of an observed one.

        Args:
            length: Scale of the process.
            common: Covariance of the observed mean with the known ones, shape (A, D).

        Returns:
            Shape (G, D) each; the second may be negative where errors are shared.
        """
        kernel = _kernel(self.coordinate.places, self._places, length)
        across = self._amplitude[:, None, None] * kernel + common.T[:, None]  # (D, G, A)
        residual = (self.means - self._centre).T[..., None]
        covariance = self._covariance(length)
        path = (across @ np.linalg.solve(covariance, residual))[..., 0]
        explained = (across * np.linalg.solve(covariance, across.mT).mT).sum(2)
        return path.T + self._centre, (self._amplitude[:, None] - explained).T


def _kernel(first: Array, second: Array, length: float) -> Array:
    """Return the correlation of the path at two sets of places, shape (n, m)."""
    return np.asarray(np.exp(-0.5 * ((first[:, None] - second) / length) ** 2))
