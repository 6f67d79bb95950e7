"""The posterior of the cross-section of populations whose value is hidden (numpy).

Where the mean of a population falls on the path of the known simulations tells its σ/m. The spread
of single maps does not enter, but through the error of the mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from callbacks.metrics.calibration import conformal_factor
from callbacks.sidm.coordinate import Coordinate
from callbacks.sidm.path import Path
from callbacks.sidm.populations import Array, Population, concatenated

MIN_LEFT_OUT = 3
"""Known cross-sections below which none can be left out."""
LEVELS = (0.68, 0.9, 0.95)


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

    def intervals(self, posterior: Posterior) -> dict[float, tuple[float, float]]:
        """Return the scaled interval of σ/m in cm^2/g at each level; wider ones hold narrower ones.

        Args:
            posterior: Of a population.
        """
        found: dict[float, tuple[float, float]] = {}
        low, high = np.inf, -np.inf
        for level, factor in sorted(self.factors.items()):
            ends = posterior.interval(level, factor)
            low, high = min(low, ends[0]), max(high, ends[1])
            found[level] = low, high
        return found

    def too_few(self) -> list[float]:
        """Return the levels for which there are too few populations: the whole prior is stated."""
        return [level for level, factor in self.factors.items() if np.isinf(factor)]


def _deviation(density: Array, values: Array) -> Array:
    """Return the standard deviation of values under densities (R, G), shape (R,)."""
    mean = density @ values
    return np.asarray(np.sqrt(np.maximum(density @ values**2 - mean**2, 0.0)))


def joined(known: Sequence[Population]) -> list[Population]:
    """Return one population for each cross-section, rising."""
    values = sorted({one.cross_section for one in known})
    return [
        concatenated([one for one in known if one.cross_section == value], value)
        for value in values
    ]
