"""What events there are: named boxes of parameters and how events are drawn from them (numpy only).

Every event, of one lens or of two, is drawn from the same box by the same calls; a single lens
merely has no use for separation, mass ratio and angle.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np

from datamodules.microlensing.simulate.noise import PhotometricErrors
from datamodules.source import check_rules
from lightning_modules.physics.arrays import Array

Range = tuple[float, float]
Preset = Literal["baseline", "distinct", "planetary", "stellar", "critical"]
SingleLensPrior = Literal["prior", "matched"]


def _box(
    s: Range, q: Range, u0: Range, rho: Range, einstein_time: Range, **others: Range
) -> dict[str, Range]:
    """Make a box in the order of the reference's table; angles are 0 to pi in all of them."""
    return {
        "separation": s,
        "mass_ratio": q,
        "impact_parameter": u0,
        "source_radius": rho,
        "angle": (0.0, float(np.pi)),
        "einstein_time": einstein_time,
        "baseline_magnitude": (19.0, 22.0),
        "blend": (0.0, 0.0),
        "parallax": (0.0, 0.0),
        "window": (0.0, 1000.0),
        **others,
    }


CRITICAL_TIMES = {"window": (-100.0, 100.0), "peak_time": (-20.0, 20.0)}
PRESETS: dict[Preset, dict[str, Range]] = {
    "baseline": _box((0.1, 10.0), (1e-3, 1.0), (1e-3, 1.0), (1e-4, 0.1), (10.0, 200.0)),
    "distinct": _box((0.8, 1.5), (0.01, 0.5), (1e-3, 0.15), (1e-4, 0.01), (20.0, 150.0)),
    "planetary": _box((0.5, 3.0), (1e-4, 0.01), (1e-3, 0.5), (1e-4, 0.05), (10.0, 150.0)),
    "stellar": _box((0.3, 5.0), (0.3, 1.0), (1e-3, 0.8), (1e-3, 0.1), (20.0, 200.0)),
    "critical": _box(
        (0.7, 1.5), (0.01, 0.5), (1e-3, 0.05), (1e-3, 0.01), (30.0, 100.0), **CRITICAL_TIMES
    ),
}
"""The boxes of kunalb541/Thesis: the first four as of c99d37b6, `critical` as of 19e22237."""

POSITIVE = ("separation", "mass_ratio", "source_radius", "einstein_time")
FREE = ("peak_time", "angle", "baseline_magnitude")
BINARY_ONLY = ("separation", "mass_ratio", "angle")
NOT_OF_LENS = ("baseline_magnitude",)


@dataclass
class EventSettings:
    """What events there are, uniform within ranges, and how they are measured.

    Args:
        preset: Box of parameters: `baseline`, `distinct`, `planetary`, `stellar`, `critical`.
        ranges: Ranges that replace the preset's, for example `{mass_ratio: [1.0e-4, 1.0]}`. Names:
            `separation` s and `source_radius` rho in Einstein radii, `mass_ratio` q,
            `impact_parameter` u0, `angle` alpha in radians, `einstein_time` t_E and `peak_time`
            t_0 in days, `baseline_magnitude`, `blend` (share of the baseline's light that is not
            lensed), `parallax` (length of pi_E; its direction is random).
        log_mass_ratio: Whether the mass ratio is uniform in the logarithm.
        window: First and last day; the preset's if None.
        missing_fraction: Share of the epochs that are lost at random.
        photometry: Photometric errors.
        quiet_epochs: Epochs long before the event that set the reference flux; with 0 it is the
            mean of the first 30 epochs kept.
        single_lens_prior: `prior` draws single lenses from the same box; `matched` takes the
            best-fitting single lenses of binaries.
        delta_chi2: Whether each binary gets its Delta chi^2, without noise, against the best
            blended single lens with its parallax and source size (and one source).
        min_delta_chi2: Binaries below are drawn again; with `single_lens_prior: prior` the
            classes then differ by this selection too.
        finite_source: Whether sources have a size, in both classes.
        binary_source_share: Share of events, of both classes, whose source is two stars.
        flux_ratio: Range of the second star's flux over the first's.
        coordinates: (ra, dec) of the field in degrees, for parallax.
    """

    preset: Preset = "baseline"
    _: KW_ONLY
    ranges: dict[str, list[float]] | None = None
    log_mass_ratio: bool = False
    window: list[float] | None = None
    missing_fraction: float = 0.2
    photometry: PhotometricErrors | None = None
    quiet_epochs: int = 50
    single_lens_prior: SingleLensPrior = "prior"
    delta_chi2: bool = True
    min_delta_chi2: float = 0.0
    finite_source: bool = True
    binary_source_share: float = 0.0
    flux_ratio: tuple[float, float] = (0.01, 1.0)
    coordinates: tuple[float, float] = (268.0, -29.0)

    def __post_init__(self) -> None:
        """Put the user's window and ranges over those of the preset; refuse what makes no sense."""
        self.errors = self.photometry or PhotometricErrors()
        share, prior = self.binary_source_share, self.single_lens_prior
        rules = {
            f"preset={self.preset!r} must be one of {list(PRESETS)}": self.preset in PRESETS,
            "missing_fraction must be in [0, 1)": 0 <= self.missing_fraction < 1,
            "quiet_epochs must not be negative": self.quiet_epochs >= 0,
            "min_delta_chi2 must not be negative": self.min_delta_chi2 >= 0,
            "single_lens_prior must be prior or matched": prior in ("prior", "matched"),
            "binary_source_share must be in [0, 1]": 0 <= share <= 1,
            "binary sources need single_lens_prior: prior (a matched single lens has one source, "
            "so the second would mark the class)": share == 0 or prior == "prior",
        }
        check_rules("data.source", rules)
        box = dict(PRESETS[self.preset])
        usual = box.pop("window")
        self.days = _pair("data.source.window", usual if self.window is None else self.window)
        self.window = list(self.days)
        if self.days[0] >= self.days[1]:
            raise ValueError(f"data.source.window={self.window} must be [first, last] day")
        self.limits = {"peak_time": self.days, **box}
        unknown = sorted(set(self.ranges or {}) - set(self.limits))
        if unknown:
            raise ValueError(f"data.source.ranges: {unknown} are none of {sorted(self.limits)}")
        for name, values in (self.ranges or {}).items():
            self.limits[name] = _pair(f"data.source.ranges.{name}", values)
        for name, limits in self.limits.items():
            _check_limits(name, *limits)

    @property
    def fits(self) -> bool:
        """Whether binaries are fitted by single lenses."""
        return self.delta_chi2 or self.min_delta_chi2 > 0 or self.single_lens_prior == "matched"

    def draw(self, rng: np.random.Generator, count: int) -> dict[str, Array]:
        """Draw parameters of events, each an array of shape (count,) float64.

        Besides the ranges' names these are `parallax_north`, `parallax_east`, `parallax_time` (at
        which its frame is at rest), and of the second source `flux_ratio` (0: one source),
        `second_impact_parameter`, `second_peak_time`.

        Args:
            rng: Random numbers.
            count: Number of events.
        """
        events = {name: self._uniform(rng, count, name) for name in sorted(self.limits)}
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
        low, high = self.limits[name]
        if name == "mass_ratio" and self.log_mass_ratio:
            return np.exp(rng.uniform(np.log(low), np.log(high), count))
        return rng.uniform(low, high, count)


def _pair(name: str, values: Sequence[float]) -> Range:
    """Check that a range is two finite numbers."""
    if len(values) != 2 or not np.isfinite(values).all():
        raise ValueError(f"{name}={list(values)} must be two numbers: [lowest, highest]")
    return float(values[0]), float(values[1])


def _check_limits(name: str, low: float, high: float) -> None:
    """Refuse a range that is not ordered, or not within what its parameter may be."""
    top = 1.0 if name == "blend" else np.inf
    within = name in FREE or ((low > 0 if name in POSITIVE else low >= 0) and high <= top)
    if low > high or not within:
        raise ValueError(
            f"data.source.ranges.{name}=[{low:g}, {high:g}] must be ordered"
            + ("" if name in FREE else f" and within {'(' if name in POSITIVE else '['}0, {top}]")
        )
