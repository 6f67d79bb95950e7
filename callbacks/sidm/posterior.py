"""The posterior of the cross-section of populations whose value is hidden (numpy).

The latent means of known simulations lie on a path that a Gaussian process interpolates; where the
mean of a population falls on the path tells its σ/m. The process lives in the coordinate in which
the effect on a map grows: the radius r1 of the isothermal core of a typical cluster, within which
particles have scattered once (Kaplinghat et al. 2016), or u = log10(1 + σ/σ0). The spread of single
maps does not enter, but through the error of the mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from callbacks.metrics.calibration import conformal_factor
from callbacks.sidm.populations import Array, MeanOfMaps, Population
from lightning_modules.physics.isothermal_jeans import typical_core_radius

Interpolation = Literal["core", "log"]
LENGTH_SCALES = (0.3, 0.45, 0.7, 1.0, 1.5, 2.2, 3.2)
"""Of the Gaussian process, over the distance from CDM to the largest known one; marginalised."""
AMPLITUDE = 1.5
"""Variance of the process over that of the known means."""
JITTER = 1e-8
MIN_LEFT_OUT = 3
"""Known cross-sections below which none can be left out."""
BEYOND = 1.6
"""The prior ends at so many times the largest known cross-section."""
LEVELS = (0.68, 0.9, 0.95)


@dataclass(frozen=True)
class Coordinate:
    """The coordinate u = log10(1 + σ/σ0), in which CDM is 0, and a grid on it.

    Args:
        largest: Largest known σ/m in cm^2/g; the prior ends at 1.6 times that.
        interpolation: Coordinate of the path: `core`, r1 of a typical cluster, or `log`, u.
        softening: σ0 in cm^2/g.
        num_points: Of the grid.
    """

    largest: float
    interpolation: Interpolation = "core"
    softening: float = 0.1
    num_points: int = 400

    def of(self, cross_section: Array | float) -> Array:
        """Return u of σ/m in cm^2/g."""
        return np.log10(1.0 + np.asarray(cross_section, np.float64) / self.softening)

    def inverse(self, u: Array | float) -> Array:
        """Return σ/m in cm^2/g of u."""
        return self.softening * (10.0 ** np.asarray(u, np.float64) - 1.0)

    def along(self, cross_section: Array) -> Array:
        """Return the coordinate of the path, 0 for CDM and 1 for the largest known σ/m, (n,).

        Args:
            cross_section: σ/m in cm^2/g, shape (n,).
        """
        effect = self.of if self.interpolation == "log" else typical_core_radius
        both = effect(np.append(cross_section, self.largest))
        return np.asarray(both[:-1] / both[-1])

    @cached_property
    def grid(self) -> Array:
        """Points of u from CDM to the end of the prior, which is flat in u, shape (G,)."""
        return np.linspace(0.0, float(self.of(BEYOND * self.largest)), self.num_points)

    @cached_property
    def places(self) -> Array:
        """The grid in the coordinate of the path, shape (G,)."""
        return self.along(self.inverse(self.grid))


@dataclass(frozen=True)
class Posterior:
    """The posterior of σ/m of one population.

    Args:
        coordinate: Where it lives.
        density: On the grid, sum 1, shape (G,).
        std_halos: Error in cm^2/g from the number of halos alone.
        std_interpolation: What the path between known simulations adds to it, in quadrature.
        std_members: Deviation of the members' medians.
        map_spread: Half the 16-84 % range of the σ/m of single maps, in cm^2/g.
    """

    coordinate: Coordinate
    density: Array
    std_halos: float
    std_interpolation: float
    std_members: float
    map_spread: float

    def quantile(self, share: float) -> float:
        """Return u below which a share of the posterior lies."""
        cumulative = np.cumsum(self.density) - 0.5 * self.density
        return float(np.interp(share, cumulative, self.coordinate.grid))

    @property
    def median(self) -> float:
        """The median σ/m in cm^2/g."""
        return float(self.coordinate.inverse(self.quantile(0.5)))

    def interval(self, level: float, factor: float = 1.0) -> tuple[float, float]:
        """Return the central interval of σ/m in cm^2/g, within the prior.

        Args:
            level: Its share, such as 0.68.
            factor: Scales both arms in u; see `Calibration`.
        """
        middle, end = self.quantile(0.5), self.coordinate.grid[-1]
        arms = (self.quantile(0.5 + sign * level / 2) - middle for sign in (-1, 1))
        low, high = (np.clip(middle + factor * arm, 0.0, end) if arm else middle for arm in arms)
        return float(self.coordinate.inverse(low)), float(self.coordinate.inverse(high))

    def miss(self, cross_section: float, level: float) -> float:
        """Return the distance of a true σ/m from the median in units of the interval's arm.

        Args:
            cross_section: In cm^2/g.
            level: Of the interval.
        """
        middle = self.quantile(0.5)
        step = float(self.coordinate.of(cross_section)) - middle
        arm = self.quantile(0.5 + np.sign(step) * level / 2) - middle
        return step / arm if arm else (0.0 if step == 0 else float("inf"))


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


class PosteriorModel:
    """Measures populations by the paths of the known simulations, one for each member.

    The posterior is the mean of the members' posteriors, so that members that differ widen it and
    a member that is repeated changes nothing.

    Args:
        known: Held-out maps of the known simulations; those of equal cross-section count as one.
        coordinate: Of the path. If None, that in which known simulations are predicted best by the
            path of the others; u where there are fewer than three.
        fitted: Maps of the same simulations that the discriminants are fitted on; `known` if None.

    Raises:
        ValueError: If there are fewer than two different cross-sections.
    """

    def __init__(
        self,
        known: Sequence[Population],
        coordinate: Coordinate | None = None,
        fitted: Sequence[Population] | None = None,
    ) -> None:
        self.known = joined(known)
        self._fitted = None if fitted is None else joined(fitted)
        if len(self.known) < 2:
            raise ValueError(
                f"a path needs known simulations of two cross-sections, not {len(self.known)}; "
                "name more of them in data.known"
            )
        self.coordinate = coordinate or self._best_coordinate()
        members = range(self.known[0].latent.shape[1])
        self.paths = [self._path(k) for k in members]

    def measure(self, population: Population) -> Posterior:
        """Return the posterior of one population of two or more halos."""
        found = [self._measure(path, population.member(k)) for k, path in enumerate(self.paths)]
        densities, halos = (np.stack(values) for values in zip(*found, strict=True))
        sigma = self.coordinate.inverse(self.coordinate.grid)
        total, only_halos = (_deviation(one, sigma) for one in (densities, halos))
        members = [Posterior(self.coordinate, one, 0, 0, 0, 0).median for one in densities]
        return Posterior(
            self.coordinate,
            densities.mean(0),
            std_halos=float(only_halos.mean()),
            std_interpolation=float(np.sqrt(np.maximum(total**2 - only_halos**2, 0.0)).mean()),
            std_members=float(np.std(members)),
            map_spread=self._map_spread(population),
        )

    def classify(self, population: Population) -> Array:
        """Return which known simulation the first member's discriminants take each map for."""
        return self.paths[0].classify(population.member(0))

    def _best_coordinate(self) -> Coordinate:
        """Return the coordinate of the smallest left-out errors in u; no hidden value is used."""
        largest = max(one.cross_section for one in self.known)
        choices = [Coordinate(largest, name) for name in ("log", "core")]
        if len(self.known) < MIN_LEFT_OUT:
            return choices[0]
        values = {one.name: one.cross_section for one in self.known}
        errors = []
        for choice in choices:
            found = PosteriorModel(self.known, choice, self._fitted).left_out().items()
            steps = [x.quantile(0.5) - float(choice.of(values[name])) for name, x in found]
            errors.append(float(np.abs(steps).sum()))
        return choices[int(np.argmin(errors))]

    def left_out(self) -> dict[str, Posterior]:
        """Return the posterior of each known simulation by the path of all others, by name."""
        if len(self.known) < MIN_LEFT_OUT:
            return {}
        found = {}
        for number, one in enumerate(self.known):
            others, fitted = (
                None if parts is None else [*parts[:number], *parts[number + 1 :]]
                for parts in (self.known, self._fitted)
            )
            found[one.name] = PosteriorModel(others or [], self.coordinate, fitted).measure(one)
        return found

    def _path(self, member: int) -> Path:
        """Return the path of one member."""
        known = [one.member(member) for one in self.known]
        fitted = None if self._fitted is None else [one.member(member) for one in self._fitted]
        return Path(known, self.coordinate, fitted)

    def _measure(self, path: Path, population: Population) -> tuple[Array, Array]:
        """Return a member's density, and the one that the error of the mean alone would give."""
        observed = path.mean_of(population)
        logs = [path.log_likelihood(observed, also) for also in (True, False)]
        whole, halos = (np.exp(one - one.max()) for one in logs)
        return whole / whole.sum(), halos / halos.sum()

    def _map_spread(self, population: Population) -> float:
        """Return half the 16-84 % range of single maps in cm^2/g, the mean over members."""
        spreads = []
        for number, path in enumerate(self.paths):
            u = path.single_maps(population.member(number))
            low, high = self.coordinate.inverse(np.quantile(u, [0.16, 0.84]))
            spreads.append((high - low) / 2)
        return float(np.mean(spreads))


class Calibration:
    """Factors by which intervals are scaled so that they hold what they say (split-conformal).

    Args:
        posteriors: Of calibration populations.
        cross_sections: Their true σ/m in cm^2/g.
    """

    def __init__(
        self, posteriors: Sequence[Posterior] = (), cross_sections: Sequence[float] = ()
    ) -> None:
        self._pairs = list(zip(posteriors, cross_sections, strict=True))
        self.factors: Mapping[float, float] = {level: self.factor(level) for level in LEVELS}

    def factor(self, level: float) -> float:
        """Return the factor of a level; 1 if there are no calibration populations."""
        misses = [posterior.miss(value, level) for posterior, value in self._pairs]
        return conformal_factor(misses, level) if misses else 1.0

    def interval(self, posterior: Posterior, level: float) -> tuple[float, float]:
        """Return the scaled interval of σ/m in cm^2/g.

        Args:
            posterior: Of a population.
            level: One of `LEVELS`.
        """
        return posterior.interval(level, self.factors[level])


def _kernel(first: Array, second: Array, length: float) -> Array:
    """Return the correlation of the path at two sets of places, shape (n, m)."""
    return np.asarray(np.exp(-0.5 * ((first[:, None] - second) / length) ** 2))


def _deviation(density: Array, values: Array) -> Array:
    """Return the standard deviation of values under densities (R, G), shape (R,)."""
    mean = density @ values
    return np.asarray(np.sqrt(np.maximum(density @ values**2 - mean**2, 0.0)))


def joined(known: Sequence[Population]) -> list[Population]:
    """Return one population for each cross-section, rising."""
    joined = []
    for value in sorted({one.cross_section for one in known}):
        same = [one for one in known if one.cross_section == value]
        latent, halo = (np.concatenate([getattr(x, k) for x in same]) for k in ("latent", "halo"))
        joined.append(Population("+".join(one.name for one in same), latent, halo, value))
    return joined
