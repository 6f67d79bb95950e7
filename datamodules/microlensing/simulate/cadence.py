"""When a survey looks: regular epochs, OGLE, KMTNet, Roman, LSST (numpy only).

Times are days after `TIME_ZERO`. A survey's cadence is drawn for `num_fields` fields, each with
its own nights, weather and hours; all events of a field share its epochs, as they do in the sky.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from datamodules.microlensing.simulate.presets import Range
from datamodules.source import check_rules
from lightning_modules.physics.arrays import Array

TIME_ZERO = 2460676.5
"""Julian date of time 0 of simulated events: 2025 January 1, 0h."""

YEAR = 365.25
BULGE_MIDDLE = 172.0
"""Day of the year at which the Galactic bulge is highest at midnight (21 June)."""


class Cadence(ABC):
    """The epochs of a survey. A new survey is a new subclass with `draw`.

    Attributes:
        num_fields: Number of different lists of epochs.
    """

    num_fields: int = 1

    @abstractmethod
    def draw(self, rng: np.random.Generator, window: Range) -> Array:
        """Draw the epochs of one field, in days, sorted, within the window."""

    def parameters(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        settings = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        return {"class": type(self).__name__, **settings}

    def fields(self, rng: np.random.Generator, window: Range) -> Array:
        """Draw the epochs of every field.

        Returns:
            Times in days, shape (num_fields, T) float64, padded with NaN.

        Raises:
            ValueError: A field has no epoch in the window.
        """
        fields = [self.draw(rng, window) for _ in range(self.num_fields)]
        if min(len(times) for times in fields) == 0:
            raise ValueError(
                f"{type(self).__name__} has no epoch in data.source.window={list(window)}; widen it"
            )
        times = np.full((len(fields), max(map(len, fields))), np.nan)
        for row, values in zip(times, fields, strict=True):
            row[: len(values)] = values
        return times


@dataclass
class RegularCadence(Cadence):
    """Equidistant epochs over the window, the same for all events (the reference's).

    Args:
        num_epochs: Number of epochs.
    """

    num_epochs: int = 1500

    def __post_init__(self) -> None:
        """Refuse fewer than two epochs."""
        rule = f"num_epochs={self.num_epochs} must be at least 2"
        check_rules("data.source.cadence", {rule: self.num_epochs >= 2})

    def draw(self, rng: np.random.Generator, window: Range) -> Array:
        """Spread the epochs from the window's first day to its last."""
        return np.linspace(*window, self.num_epochs)


@dataclass
class GroundCadence(Cadence):
    """A survey from the ground: sites, nights, seasons, weather in spells.

    A site observes the bulge while it is high: for 9 hours about its highest point, cut by the
    night, within the season. Weather has a memory: a night is lost with probability `lost`, and
    lost nights come in spells of `spell` nights on average.

    Args:
        interval: Days between visits at one site: 0.01 (15 minutes) to 0.04 in the densest fields,
            1 to 3 in most others.
        season: Length of the bulge season in days.
        lost: Share of the nights lost at each site to weather and Moon.
        spell: Mean length of bad spells in nights.
        num_fields: Number of different lists of epochs.
    """

    interval: float = 1.0
    season: float = 260.0
    lost: float = 0.25
    spell: float = 3.0
    num_fields: int = 64
    sites: ClassVar[tuple[float, ...]] = (0.196,)
    """Middle of the night at each site, as the fraction of a UT day: Chile."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        check_rules(
            "data.source.cadence",
            {
                f"interval={self.interval} days must be positive": self.interval > 0,
                f"season={self.season} days must be within (0, 365.25]": 0 < self.season <= YEAR,
                f"lost={self.lost} must be within [0, 1)": 0 <= self.lost < 1,
                f"spell={self.spell} nights must be at least 1": self.spell >= 1,
                f"num_fields={self.num_fields} must be at least 1": self.num_fields >= 1,
            },
        )

    def draw(self, rng: np.random.Generator, window: Range) -> Array:
        """Draw one field's epochs at all sites."""
        days = np.arange(np.floor(window[0]) - 1, np.ceil(window[1]) + 1)
        times = np.concatenate([self._site(rng, days, middle) for middle in self.sites])
        inside = (times >= window[0]) & (times <= window[1])
        return np.sort(times[inside])

    def _site(self, rng: np.random.Generator, days: Array, middle: float) -> Array:
        """Draw the epochs at one site."""
        offset = (days - BULGE_MIDDLE + YEAR / 2) % YEAR - YEAR / 2  # days from the season's middle
        kept = (np.abs(offset) <= self.season / 2) & self._clear(rng, len(days))
        # The bulge culminates 24 h / year earlier each night; it is up for 9 h, the night lasts 9.
        nights, shift = days[kept], -offset[kept] / YEAR
        start = nights + middle + np.maximum(-0.1875, shift - 0.1875)
        length = np.maximum(0.3750 - np.abs(shift), 0.04)
        return self._visits(rng, start, length)

    def _visits(self, rng: np.random.Generator, start: Array, length: Array) -> Array:
        """Draw visits within nights: repeated within a night, or one every few nights."""
        if self.interval >= 0.5:
            kept = rng.random(len(start)) < np.minimum(1.0, 1.0 / self.interval)
            return start[kept] + length[kept] * rng.random(int(kept.sum()))
        count = np.ceil(length / self.interval).astype(int)
        night = np.repeat(np.arange(len(start)), count)
        number = np.arange(len(night)) - np.repeat(np.cumsum(count) - count, count)
        phase = self.interval * rng.random(len(start))
        jitter = 0.1 * self.interval * rng.standard_normal(len(night))
        times = phase[night] + number * self.interval
        within = times < length[night]
        return (start[night] + times + jitter)[within]

    def _clear(self, rng: np.random.Generator, count: int) -> Array:
        """Draw which nights are clear, by a two-state Markov chain."""
        to_clear = 1.0 / self.spell
        to_bad = min(1.0, to_clear * self.lost / (1.0 - self.lost))
        uniform = rng.random(count)
        clear = np.empty(count, dtype=bool)
        state = bool(rng.random() >= self.lost)
        for night in range(count):
            clear[night] = state
            state = bool(uniform[night] >= to_bad) if state else bool(uniform[night] < to_clear)
        return clear


@dataclass
class OGLECadence(GroundCadence):
    """OGLE-IV from Las Campanas: a visit every night or every few, in a season of 260 days."""


@dataclass
class KMTNetCadence(GroundCadence):
    """KMTNet from Chile, South Africa and Australia: round the clock at 15 minutes to 5 hours."""

    interval: float = 0.0417
    season: float = 240.0
    lost: float = 0.3
    num_fields: int = 16
    sites: ClassVar[tuple[float, ...]] = (0.196, 0.942, 0.586)


@dataclass
class LSSTCadence(GroundCadence):
    """Rubin's wide survey from Cerro Pachon: a visit every three nights or so, half a year long."""

    interval: float = 3.0
    season: float = 210.0
    lost: float = 0.2


@dataclass
class RomanCadence(Cadence):
    """Roman's Galactic Bulge Time Domain Survey: seasons of 72 days, twice a year, every 12.1 min.

    Args:
        interval: Days between visits.
        season: Length of a season in days; the two seasons of a year are around the equinoxes.
        gap: Share of the visits lost, in blocks of half a day (momentum dumps, the Moon).
        num_fields: Number of different lists of epochs.
    """

    interval: float = 0.0084
    season: float = 72.0
    gap: float = 0.02
    num_fields: int = 8

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        check_rules(
            "data.source.cadence",
            {
                f"interval={self.interval} days must be positive": self.interval > 0,
                f"season={self.season} days must be within (0, 182.6]": 0 < self.season <= YEAR / 2,
                f"gap={self.gap} must be within [0, 1)": 0 <= self.gap < 1,
                f"num_fields={self.num_fields} must be at least 1": self.num_fields >= 1,
            },
        )

    def draw(self, rng: np.random.Generator, window: Range) -> Array:
        """Draw one field's epochs."""
        times = np.arange(window[0] + self.interval * rng.random(), window[1], self.interval)
        phase = (times - 80.0) % (YEAR / 2)  # the equinoxes are days 80 and 263
        seen = np.minimum(phase, YEAR / 2 - phase) <= self.season / 2
        blocks = np.floor(2.0 * (times - window[0])).astype(int)
        lost = rng.random(int(blocks.max(initial=0)) + 1) < self.gap
        return times[seen & ~lost[blocks]]
