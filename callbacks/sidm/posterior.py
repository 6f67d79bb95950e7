"""The posterior of the cross-section of populations whose value is hidden (numpy).

The latent means of known simulations lie on a path that a Gaussian process interpolates in
u = log10(1 + σ/σ0); where the mean of a population falls on the path tells its σ/m. The spread of
single maps does not enter, but through the error of the mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from callbacks.metrics.calibration import conformal_factor
from callbacks.sidm.populations import Array, Population, mean_and_error

LENGTH_SCALES = (0.3, 0.45, 0.7, 1.0, 1.5, 2.2, 3.2)
"""Of the Gaussian process in u, over which is marginalised."""
AMPLITUDE = 1.5
"""Variance of the process over that of the known means."""
JITTER = 1e-8
BEYOND = 1.6
"""The prior ends at so many times the largest known cross-section."""
LEVELS = (0.68, 0.9, 0.95)


@dataclass(frozen=True)
class Coordinate:
    """The coordinate u = log10(1 + σ/σ0), in which CDM is 0, and a grid on it.

    Args:
        largest: Largest σ/m of the prior in cm^2/g.
        softening: σ0 in cm^2/g.
        num_points: Of the grid.
    """

    largest: float
    softening: float = 0.1
    num_points: int = 400

    def of(self, cross_section: Array | float) -> Array:
        """Return u of σ/m in cm^2/g."""
        return np.log10(1.0 + np.asarray(cross_section, np.float64) / self.softening)

    def inverse(self, u: Array | float) -> Array:
        """Return σ/m in cm^2/g of u."""
        return self.softening * (10.0 ** np.asarray(u, np.float64) - 1.0)

    @cached_property
    def grid(self) -> Array:
        """Points of u from CDM to the end of the prior, which is flat in u, shape (G,)."""
        return np.linspace(0.0, float(self.of(self.largest)), self.num_points)


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
    discriminants, one fewer than there are simulations), in which maps scatter by about one.

    Args:
        known: Two or more, of different cross-sections, latent (n, 1, Z).
        coordinate: Of the path.
        fitted: Maps of the same simulations that the discriminants are fitted on; `known` if None.

    Attributes:
        anchors: u of the known simulations, shape (A,).
        means: Their means in the discriminants, shape (A, D).
        variances: Of these means, shape (A, D).
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
        self.anchors = coordinate.of(np.array([one.cross_section for one in known]))
        features = [one.latent[:, 0].astype(np.float64) for one in fitted or known]
        labels = np.repeat(np.arange(len(features)), [len(one) for one in features])
        self._discriminants = LinearDiscriminantAnalysis().fit(np.concatenate(features), labels)
        found = [mean_and_error(self.project(one), one.halo) for one in known]
        self.means, self.variances = (np.stack(values) for values in zip(*found, strict=True))
        self._centre = self.means.mean(0)
        self._amplitude = AMPLITUDE * self.means.var(0) + np.finfo(float).tiny
        fits = [self._interpolate(length) for length in LENGTH_SCALES]
        self._evidence = np.array([evidence for _, _, evidence in fits])
        self._paths = [(mean, variance) for mean, variance, _ in fits]
        weights = np.exp(self._evidence - self._evidence.max())
        weights /= weights.sum()
        paths, variances = (np.stack(values) for values in zip(*self._paths, strict=True))
        self.mean = np.tensordot(weights, paths, 1)
        scatter = np.tensordot(weights, (paths - self.mean) ** 2 + variances, 1)
        self.error = np.sqrt(scatter)

    def project(self, population: Population) -> Array:
        """Return the maps in the discriminants, shape (n, D)."""
        return np.asarray(self._discriminants.transform(population.latent[:, 0]))

    def classify(self, population: Population) -> Array:
        """Return the position of the known simulation that each map is taken for, shape (n,)."""
        return np.asarray(self._discriminants.predict(population.latent[:, 0]))

    def log_likelihood(self, mean: Array, variance: Array, interpolated: bool = True) -> Array:
        """Return ln p of a population's mean on the grid, length scale marginalised, shape (G,).

        Args:
            mean: Of its maps in the discriminants, shape (D,).
            variance: Of that mean, shape (D,).
            interpolated: Whether the path has an error.
        """
        terms = []
        for (path, error), evidence in zip(self._paths, self._evidence, strict=True):
            total = variance + (error if interpolated else 0.0)
            terms.append(evidence - 0.5 * ((mean - path) ** 2 / total + np.log(total)).sum(1))
        return np.asarray(np.logaddexp.reduce(np.stack(terms)))

    def single_maps(self, population: Population) -> Array:
        """Return the most likely u of each map on its own, shape (n,)."""
        distance = (self.mean**2).sum(1) - 2 * self.project(population) @ self.mean.T
        return np.asarray(self.coordinate.grid[distance.argmin(1)])

    def _interpolate(self, length: float) -> tuple[Array, Array, float]:
        """Return the path (G, D), its variance and the log-evidence for a length scale."""
        grid, anchors = self.coordinate.grid, self.anchors
        kernel = np.exp(-0.5 * ((anchors[:, None] - anchors) / length) ** 2)
        across = np.exp(-0.5 * ((grid[:, None] - anchors) / length) ** 2)
        means, variances, evidence = [], [], 0.0
        for number, amplitude in enumerate(self._amplitude):
            noise = self.variances[:, number] + JITTER * amplitude
            covariance = amplitude * kernel + np.diag(noise)
            residual = self.means[:, number] - self._centre[number]
            solved = np.linalg.solve(covariance, np.column_stack([residual, amplitude * across.T]))
            means.append(self._centre[number] + amplitude * across @ solved[:, 0])
            explained = amplitude * np.einsum("ga,ag->g", across, solved[:, 1:])
            variances.append(np.maximum(amplitude - explained, 0.0))
            evidence -= 0.5 * (residual @ solved[:, 0] + np.linalg.slogdet(covariance)[1])
        return np.stack(means, 1), np.stack(variances, 1), evidence


class PosteriorModel:
    """Measures populations by the paths of the known simulations, one for each member.

    The posterior is the mean of the members' posteriors, so that members that differ widen it and
    a member that is repeated changes nothing.

    Args:
        known: Held-out maps of the known simulations; those of equal cross-section count as one.
        coordinate: Of the path; up to 1.6 times the largest known cross-section if None.
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
        largest = max(one.cross_section for one in self.known)
        self.coordinate = coordinate or Coordinate(BEYOND * largest)
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

    def left_out(self) -> dict[str, Posterior]:
        """Return the posterior of each known simulation by the path of all others, by name."""
        if len(self.known) < 3:
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
        mean, variance = mean_and_error(path.project(population), population.halo)
        logs = [path.log_likelihood(mean, variance, also) for also in (True, False)]
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
