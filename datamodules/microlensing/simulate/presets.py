"""What events there are: named boxes of parameters and how events are drawn from them (numpy only).

Every event, of one lens or of two, is drawn from the same box by the same calls; a single lens
merely has no use for separation, mass ratio and angle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from lightning_modules.physics.arrays import Array

Range = tuple[float, float]
Preset = Literal["baseline", "distinct", "planetary", "stellar", "critical"]

NO_EFFECTS: dict[str, Range] = {
    "baseline_magnitude": (19.0, 22.0),
    "blend": (0.0, 0.0),
    "parallax": (0.0, 0.0),
}


@dataclass(frozen=True)
class Box:
    """A named box of parameters.

    Attributes:
        window: First and last time in days.
        ranges: Parameter to range; `peak_time` is the window if absent.
    """

    window: Range
    ranges: Mapping[str, Range] = field(default_factory=dict)


def _box(
    s: Range, q: Range, u0: Range, rho: Range, einstein_time: Range, *, critical: bool = False
) -> Box:
    """Make a box in the order of the reference's table; angles are 0 to pi in all of them."""
    ranges = {
        "separation": s,
        "mass_ratio": q,
        "impact_parameter": u0,
        "source_radius": rho,
        "angle": (0.0, float(np.pi)),
        "einstein_time": einstein_time,
        **NO_EFFECTS,
    }
    if critical:
        return Box((-100.0, 100.0), {**ranges, "peak_time": (-20.0, 20.0)})
    return Box((0.0, 1000.0), ranges)


PRESETS: dict[Preset, Box] = {
    "baseline": _box((0.1, 10.0), (1e-3, 1.0), (1e-3, 1.0), (1e-4, 0.1), (10.0, 200.0)),
    "distinct": _box((0.8, 1.5), (0.01, 0.5), (1e-3, 0.15), (1e-4, 0.01), (20.0, 150.0)),
    "planetary": _box((0.5, 3.0), (1e-4, 0.01), (1e-3, 0.5), (1e-4, 0.05), (10.0, 150.0)),
    "stellar": _box((0.3, 5.0), (0.3, 1.0), (1e-3, 0.8), (1e-3, 0.1), (20.0, 200.0)),
    "critical": _box(
        (0.7, 1.5), (0.01, 0.5), (1e-3, 0.05), (1e-3, 0.01), (30.0, 100.0), critical=True
    ),
}
"""The boxes of kunalb541/Thesis: the first four as of c99d37b6, `critical` as of 19e22237."""

POSITIVE = ("separation", "mass_ratio", "source_radius", "einstein_time")
BINARY_ONLY = ("separation", "mass_ratio", "angle")
NOT_OF_LENS = ("baseline_magnitude",)


@dataclass(frozen=True)
class Priors:
    """The distribution of events: uniform within ranges, but for what `log` names.

    Attributes:
        ranges: Parameter to (lowest, highest): `separation` s and `source_radius` rho in Einstein
            radii, `mass_ratio` q, `impact_parameter` u0, `angle` alpha in radians, `einstein_time`
            t_E and `peak_time` t_0 in days, `baseline_magnitude`, `blend` (share of the baseline's
            light that is not lensed), `parallax` (length of pi_E; its direction is random).
        log: Parameters that are uniform in the logarithm.
        binary_source_share: Share of events whose source is two stars.
        flux_ratio: Range of the second star's flux over the first's.
    """

    ranges: Mapping[str, Range]
    log: tuple[str, ...] = ()
    binary_source_share: float = 0.0
    flux_ratio: Range = (0.01, 1.0)

    def draw(self, rng: np.random.Generator, count: int) -> dict[str, Array]:
        """Draw parameters of events, each an array of shape (count,) float64.

        Besides the ranges' names these are `parallax_north`, `parallax_east`, `parallax_time` (at
        which its frame is at rest), and of the second source `flux_ratio` (0: one source),
        `second_impact_parameter`, `second_peak_time`.
        """
        events = {name: self._uniform(rng, count, name) for name in sorted(self.ranges)}
        length, direction = events.pop("parallax"), rng.uniform(0.0, 2.0 * np.pi, count)
        events["parallax_north"] = length * np.cos(direction)
        events["parallax_east"] = length * np.sin(direction)
        events["parallax_time"] = events["peak_time"].copy()
        two = rng.random(count) < self.binary_source_share
        events["flux_ratio"] = np.where(two, rng.uniform(*self.flux_ratio, count), 0.0)
        events["second_impact_parameter"] = self._uniform(rng, count, "impact_parameter")
        lag = rng.uniform(-2.0, 2.0, count) * events["einstein_time"]
        events["second_peak_time"] = events["peak_time"] + lag
        return events

    def _uniform(self, rng: np.random.Generator, count: int, name: str) -> Array:
        """Draw one parameter."""
        low, high = self.ranges[name]
        if name not in self.log:
            return rng.uniform(low, high, count)
        return np.exp(rng.uniform(np.log(low), np.log(high), count))


def make_ranges(
    preset: Preset, window: Sequence[float] | None, given: Mapping[str, Sequence[float]]
) -> tuple[Range, dict[str, Range]]:
    """Put the user's window and ranges over those of a preset.

    Returns:
        The window and the range of every parameter.

    Raises:
        ValueError: A name or a range is wrong; the message names it.
    """
    if preset not in PRESETS:
        raise ValueError(f"data.source.preset={preset!r}: choose from {list(PRESETS)}")
    box = PRESETS[preset]
    limits = _pair("data.source.window", box.window if window is None else window)
    if limits[0] >= limits[1]:
        raise ValueError(f"data.source.window={list(limits)} must be [first, last] day")
    ranges: dict[str, Range] = {"peak_time": limits, **box.ranges}
    unknown = sorted(set(given) - set(ranges))
    if unknown:
        raise ValueError(f"data.source.ranges: {unknown} are none of {sorted(ranges)}")
    for name, values in given.items():
        ranges[name] = _pair(f"data.source.ranges.{name}", values)
    for name, (low, high) in ranges.items():
        bounds = (0.0, 1.0) if name == "blend" else (0.0, np.inf)
        free = name in ("peak_time", "angle", "baseline_magnitude")
        lowest = np.nextafter(0.0, 1.0) if name in POSITIVE else bounds[0]
        if low > high or (not free and not (lowest <= low and high <= bounds[1])):
            raise ValueError(
                f"data.source.ranges.{name}=[{low:g}, {high:g}] must be ordered"
                + ("" if free else f" and within {'(' if name in POSITIVE else '['}0, {bounds[1]}]")
            )
    return limits, ranges


def _pair(name: str, values: Sequence[float]) -> Range:
    """Check that a range is two finite numbers."""
    if len(values) != 2 or not np.isfinite(values).all():
        raise ValueError(f"{name}={list(values)} must be two numbers: [lowest, highest]")
    return float(values[0]), float(values[1])
