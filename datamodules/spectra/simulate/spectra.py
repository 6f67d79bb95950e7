"""APOGEE-like spectra of giants with known factors, nuisances, noise and masks (numpy and scipy).

Every star and every row has its own stream of random numbers, a function of (seed, star) or
(seed, row) alone, so that blocks and workers change nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr, ndtri

from datamodules.spectra.grid import GRIDS, Grid
from datamodules.spectra.schema import ELEMENTS
from datamodules.spectra.simulate.emulator import EmulatorSpectrum
from datamodules.spectra.simulate.line_formation import (
    ALPHA_ELEMENTS,
    LineFormation,
    broadening_width,
)
from datamodules.spectra.simulate.line_table import Array, line_table
from datamodules.spectra.simulate.nuisances import (
    CONTINUUM_TERMS,
    DIB_PER_EXTINCTION,
    Foreground,
    broaden,
)
from datamodules.spectra.simulate.observation import (
    BROKEN,
    TELLURIC,
    TELLURIC_LIMIT,
    Instrument,
    observe,
)

STAR, ROW = 0, 1
"""First numbers of the spawn keys: what belongs to a star, and to one spectrum of it."""

TEFF_RANGE, LOGG_RANGE = (4000.0, 5500.0), (0.3, 3.5)

ABUNDANCE_SCATTER = {
    **dict.fromkeys(("o", "mg", "si", "ca", "ni"), 0.03),
    **dict.fromkeys(("ti", "cr"), 0.04),
    **dict.fromkeys(("s", "k", "mn"), 0.06),
    **dict.fromkeys(("v",), 0.07),
    **dict.fromkeys(("na", "al"), 0.08),
    **dict.fromkeys(("c", "n", "ce"), 0.10),
}
"""Standard deviation in dex of [X/Fe] about its mean (0, or [alpha/M] for the alpha elements)."""

LABEL_ERRORS = {"teff": (80.0, 110.0), "logg": (0.03, 0.07), "fe_h": (0.007, 0.02)}
"""Range of the labels' errors, in K and dex."""

ABUNDANCE_ERRORS = (0.02, 0.06)
NUM_STAR_UNIFORMS = 96
NUM_ROW_UNIFORMS = 32


class LineSpectrum:
    """Spectra from the line table in this repository (no file is needed)."""

    def __init__(self) -> None:
        self.formation = LineFormation(line_table())

    def labels(self, uniform: Array) -> dict[str, Array]:
        """Draw giants: a branch in Teff and logg, and two sequences of [alpha/M]."""
        teff = _truncated(uniform[:, 0], 4700.0, 330.0, *TEFF_RANGE)
        logg = _truncated(uniform[:, 1], 2.4 + 0.0024 * (teff - 4750.0), 0.35, *LOGG_RANGE)
        fe_h = _truncated(uniform[:, 2], -0.15, 0.3, -2.5, 0.6)
        share = 0.05 + 0.85 / (1.0 + np.exp((fe_h + 0.45) / 0.15))
        mean = np.where(uniform[:, 3] < share, 0.22, 0.03)
        alpha_m = mean + 0.03 * ndtri(uniform[:, 4])
        return {"teff": teff, "logg": logg, "fe_h": fe_h, "alpha_m": alpha_m}

    def absorption(self, factors: Mapping[str, Array]) -> tuple[Array, float]:
        """Return one minus the flux, before any broadening, shape (n, 8575)."""
        return -np.expm1(-self.formation.optical_depth(factors)), 0.0

    def scatter(self, grid: Grid) -> Array:
        """Return a fixed scatter between 0.2 % and 1.7 %, median 0.6 %."""
        rng = np.random.Generator(np.random.PCG64(grid.num_pixels))
        return np.clip(0.006 * np.exp(0.45 * rng.standard_normal(grid.num_pixels)), 0.002, 0.017)


@dataclass
class Simulation:
    """All that determines the spectra but their seed: arguments of `SyntheticSpectra`, see there.

    Unless `broken_fractions` says so, no spectrum is broken.

    Attributes:
        grid: The pixels.
        base: Where labels and noise-free spectra come from: the line table or an emulator.
        foreground: What multiplies the spectra.
        instrument: What adds noise and masks.
    """

    num_spectra: int = 1000
    grid_pixels: int = 7514
    emulator_path: str | None = None
    snr_median: float = 300.0
    snr_range: tuple[float, float] = (200.0, 1500.0)
    repeat_fraction: float = 0.0
    broken_fractions: Mapping[str, float] = field(default_factory=dict)
    scatter: float = 0.0
    error_floor: float = 0.005

    def __post_init__(self) -> None:
        """Make what all spectra share."""
        path = self.emulator_path
        self.grid = GRIDS[self.grid_pixels]
        self.base = LineSpectrum() if path is None else EmulatorSpectrum(path)
        self.foreground = Foreground(self.grid)
        self.instrument = Instrument(self.grid, self.error_floor)

    @property
    def num_stars(self) -> int:
        """Number of stars."""
        return -int(-self.num_spectra // (1.0 + self.repeat_fraction))

    def stars(self, rows: Array) -> Array:
        """Return the star of each row."""
        return np.where(rows < self.num_stars, rows, rows - self.num_stars)


def simulate_block(simulation: Simulation, rows: Array, seed: int) -> dict[str, Array]:
    """Simulate some rows.

    Args:
        simulation: The settings.
        rows: Row numbers below `num_spectra`, shape (n,) int64.
        seed: Everything random is a function of it and of the row.

    Returns:
        Columns of the store (see `SpectraSource`), and `broken`, bits of `BROKEN`.
    """
    rows = np.asarray(rows)
    factors, uniform = draw_factors(simulation, rows, seed)
    columns = _catalogue(simulation, rows, factors, uniform)
    truth = true_flux(simulation, factors).astype(np.float32)
    flux, error = truth.copy(), simulation.instrument.errors(columns["snr"])
    telluric = simulation.foreground.telluric(factors) > TELLURIC_LIMIT
    mask = np.where(telluric, TELLURIC, 0).astype(np.int32)
    scatter = (simulation.scatter * simulation.base.scatter(simulation.grid)).astype(np.float32)
    for n, row in enumerate(rows):
        rng = _stream(seed, ROW, row)
        rng.random(NUM_ROW_UNIFORMS)  # those of `draw_factors`
        if simulation.scatter:
            flux[n] += scatter * rng.standard_normal(len(scatter), np.float32)
        velocity, broken = float(factors["sky_velocity"][n]), int(columns["broken"][n])
        observe(simulation.instrument, rng, (flux[n], error[n], mask[n]), velocity, broken)
    columns |= {f"true_{name}": values.astype(np.float32) for name, values in factors.items()}
    return {**columns, "flux": flux, "flux_error": error, "pixel_mask": mask, "true_flux": truth}


def true_flux(simulation: Simulation, factors: Mapping[str, Array]) -> Array:
    """Compute spectra without noise.

    Args:
        simulation: The settings.
        factors: As `draw_factors` gives them, each (n,); change one to see what it does.

    Returns:
        Shape (n, P).
    """
    absorption, already = simulation.base.absorption(factors)
    width = broadening_width(factors["lsf"], factors["vmacro"])
    width = np.sqrt(np.maximum(width**2 - already**2, 0.0))
    absorption = broaden(absorption, width, factors["rv"])
    return simulation.foreground.apply(1.0 - simulation.grid.take(absorption), factors)


def draw_factors(simulation: Simulation, rows: Array, seed: int) -> tuple[dict[str, Array], Array]:
    """Draw all that determines the noise-free spectra of some rows.

    Args:
        simulation: The settings.
        rows: Row numbers, shape (n,).
        seed: As of `simulate_block`.

    Returns:
        Factors, each (n,): `teff`, `logg`, `fe_h`, `alpha_m`, `<x>_fe`, `vmacro`, `dib_depth`,
        `dib_velocity` of the star and `rv`, `lsf`, `sky_velocity`, `telluric`, `continuum_<k>` of
        the row; and the uniform numbers of what is left to draw, (n, .).
    """
    stars = simulation.stars(rows)
    of_star = np.stack([_stream(seed, STAR, star).random(NUM_STAR_UNIFORMS) for star in stars])
    of_row = np.stack([_stream(seed, ROW, row).random(NUM_ROW_UNIFORMS) for row in rows])
    factors = simulation.base.labels(of_star[:, :8])
    for place, element in enumerate(ELEMENTS, start=8):
        mean = factors["alpha_m"] * (element in ALPHA_ELEMENTS)
        factors[f"{element}_fe"] = mean + ABUNDANCE_SCATTER[element] * ndtri(of_star[:, place])
    factors["vmacro"] = 3.0 + 5.0 * of_star[:, 24]
    factors["dib_depth"] = np.minimum(-0.3 * np.log1p(-of_star[:, 25]), 2.0)
    factors["dib_depth"] *= DIB_PER_EXTINCTION
    factors["dib_velocity"] = 30.0 * ndtri(of_star[:, 26])
    factors["rv"] = 0.2 * ndtri(of_row[:, 0])
    factors["lsf"] = 0.95 + 0.1 * of_row[:, 1]
    factors["sky_velocity"] = 25.0 * ndtri(of_row[:, 2])
    factors["telluric"] = 0.005 * ndtri(of_row[:, 3])
    amplitude = (0.002 + 0.003 * of_row[:, 4]) / np.sqrt(3.0)
    for term in range(CONTINUUM_TERMS):
        factors[f"continuum_{term}"] = amplitude * ndtri(of_row[:, 5 + term])
    return factors, np.concatenate([of_star[:, 32:], of_row[:, 16:]], axis=1)


def _catalogue(
    simulation: Simulation, rows: Array, factors: Mapping[str, Array], uniform: Array
) -> dict[str, Array]:
    """Make what a survey's table says: labels and abundances with errors, S/N and flags."""
    of_star, of_row = uniform[:, : NUM_STAR_UNIFORMS - 32], uniform[:, NUM_STAR_UNIFORMS - 32 :]
    low, high = simulation.snr_range
    logarithm = _truncated(
        of_row[:, 0], np.log(simulation.snr_median), 0.5, np.log(low), np.log(high)
    )
    broken = np.zeros(len(rows), np.int64)
    for place, (name, bit) in enumerate(BROKEN.items(), start=1):
        broken |= np.where(of_row[:, place] < simulation.broken_fractions.get(name, 0.0), bit, 0)
    flagged = (broken & BROKEN["flagged"]) != 0
    ranges = LABEL_ERRORS | {f"{element}_fe": ABUNDANCE_ERRORS for element in ELEMENTS}
    reals: dict[str, Array] = {}
    for place, (name, (least, largest)) in enumerate(ranges.items()):
        error = least + (largest - least) * of_star[:, 2 * place]
        reals[f"{name}_error"] = error
        reals[name] = factors[name] + error * ndtri(of_star[:, 2 * place + 1])
    reals["alpha_m"] = factors["alpha_m"] + 0.01 * ndtri(of_star[:, 40])
    for values in reals.values():
        values[(broken & BROKEN["missing_labels"]) != 0] = np.nan
    reals["snr"] = np.exp(logarithm)
    return {
        "name": np.array([f"SIM{star:08d}" for star in simulation.stars(rows)]),
        "broken": broken,
        "aspcapflag": np.where(flagged, 1 << 23, 0),
        "starflag": np.where(flagged, 1, 0),
        **{name: values.astype(np.float32) for name, values in reals.items()},
    }


def _stream(seed: int, kind: int, number: int) -> np.random.Generator:
    """Make the stream of random numbers of a star or a row."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(kind, int(number))))


def _truncated(uniform: Array, mean: Array | float, sigma: float, low: float, high: float) -> Array:
    """Turn uniform numbers into normal ones between two limits."""
    least, largest = ndtr((low - mean) / sigma), ndtr((high - mean) / sigma)
    return np.asarray(mean + sigma * ndtri(least + (largest - least) * uniform))
