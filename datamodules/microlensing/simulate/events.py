"""Microlensing events as a survey would see them, one lens and two by one code path (numpy only).

The only difference between the classes is the magnification: parameters, epochs, gaps, blending,
noise, errors and storage are the same calls on the same arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from datamodules.microlensing.simulate.magnification import MagnificationEngine
from datamodules.microlensing.simulate.noise import PhotometricErrors
from datamodules.microlensing.simulate.parallax import parallax_offsets
from datamodules.microlensing.simulate.presets import BINARY_ONLY, NOT_OF_LENS, Priors
from datamodules.microlensing.simulate.variables import variable_star
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.single_lens_fit import (
    Curves,
    SingleLensFit,
    fit_single_lens,
    starting_points,
)

SingleLensPrior = Literal["prior", "matched"]

SINGLE, BINARY, FLAT, VARIABLE = 0, 1, 2, 3
"""Labels: one lens, two lenses, constant star, variable star."""

FIRST_EPOCHS = 30
"""Kept epochs whose mean is the reference flux if there are no quiet epochs."""

MAX_DRAWS = 1000
"""Redraws of one event before the settings count as impossible."""


@dataclass(frozen=True)
class Simulation:
    """All that determines the events of a block, but its random numbers and labels.

    Attributes:
        priors: Distribution of parameters.
        photometry: Photometric errors.
        times: Epochs of each field in days, shape (F, T), NaN-padded.
        missing_fraction: Share of the epochs that are lost at random.
        single_lens_prior: Single lenses drawn from the priors, or matched to binaries.
        delta_chi2: Whether each binary gets its Delta chi^2 against the best single lens.
        min_delta_chi2: Binaries below are drawn again.
        quiet_epochs: Epochs before the event that set the reference flux; 0 for the first 30.
        finite_source: Whether sources have a size.
        ra: Of the field in degrees.
        dec: Of the field in degrees.
    """

    priors: Priors
    photometry: PhotometricErrors
    times: Array
    missing_fraction: float = 0.2
    single_lens_prior: SingleLensPrior = "prior"
    delta_chi2: bool = True
    min_delta_chi2: float = 0.0
    quiet_epochs: int = 50
    finite_source: bool = True
    ra: float = 268.0
    dec: float = -29.0

    @property
    def fits(self) -> bool:
        """Whether binaries are fitted by single lenses."""
        return self.delta_chi2 or self.min_delta_chi2 > 0 or self.single_lens_prior == "matched"


@dataclass
class Events:
    """Events in the making.

    Attributes:
        parameters: Each of shape (n,).
        flux: True flux in units of the baseline, shape (n, T) float32.
        delta_chi2: Against the best single lens, NaN if unknown, shape (n,).
    """

    parameters: dict[str, Array]
    flux: Array
    delta_chi2: Array


def simulate_block(
    simulation: Simulation, labels: Array, seed: np.random.SeedSequence
) -> tuple[dict[str, Array], dict[str, int]]:
    """Simulate the events of one block.

    Args:
        simulation: The settings.
        labels: Class of each event, shape (n,) int64.
        seed: Of this block; its result is a function of these three arguments alone.

    Returns:
        Columns of the store (without names), and how many draws were thrown away and why.
    """
    rng = np.random.default_rng(seed)
    engine = MagnificationEngine(simulation.ra, simulation.dec, simulation.finite_source)
    field = rng.integers(0, len(simulation.times), len(labels)).astype(np.int32)
    time = simulation.times[field]
    good = np.isfinite(time) & (rng.random(time.shape, np.float32) >= simulation.missing_fraction)
    _keep_enough(good, time)
    events, counts = _draw_accepted(simulation, engine, rng, labels, time, good)
    columns = _observe(simulation, rng, events, good)
    absent = {name: labels != BINARY for name in BINARY_ONLY} | dict.fromkeys(NOT_OF_LENS, False)
    parameters = {
        name: np.where(absent.get(name, labels > BINARY), np.nan, values)
        for name, values in events.parameters.items()
    }
    delta_chi2 = np.where((labels == SINGLE) & simulation.fits, 0.0, events.delta_chi2)
    return {
        **columns,
        **parameters,
        "label": labels.astype(np.int64),
        "field": field,
        "delta_chi2": delta_chi2.astype(np.float32),
    }, counts


def _keep_enough(good: Array, time: Array) -> None:
    """Leave no event without an epoch: its first planned one is kept, in place."""
    empty = np.flatnonzero(~good.any(axis=1))
    good[empty, np.argmax(np.isfinite(time[empty]), axis=1)] = True


def _draw_accepted(
    simulation: Simulation,
    engine: MagnificationEngine,
    rng: np.random.Generator,
    labels: Array,
    time: Array,
    good: Array,
) -> tuple[Events, dict[str, int]]:
    """Draw events until all are accepted; count those that are not."""
    counts = {"failed": 0, "below_min_delta_chi2": 0}
    count = len(labels)
    todo = np.arange(count)
    events: Events | None = None
    for _ in range(MAX_DRAWS):
        new = _draw(simulation, engine, rng, labels[todo], time[todo], good[todo])
        failed = ~np.isfinite(new.flux).all(axis=1)
        weak = ~failed & (new.delta_chi2 < simulation.min_delta_chi2)
        counts["failed"] += int(failed.sum())
        counts["below_min_delta_chi2"] += int(weak.sum())
        if events is None:
            events = new
        else:
            for name, values in new.parameters.items():
                events.parameters[name][todo] = values
            events.flux[todo], events.delta_chi2[todo] = new.flux, new.delta_chi2
        todo = todo[failed | weak]
        if not len(todo):
            return events, counts
    raise ValueError(
        f"data.source: {len(todo)} of {count} events were refused {MAX_DRAWS} times "
        f"({counts}); lower min_delta_chi2={simulation.min_delta_chi2} or change the ranges"
    )


def _draw(
    simulation: Simulation,
    engine: MagnificationEngine,
    rng: np.random.Generator,
    labels: Array,
    time: Array,
    good: Array,
) -> Events:
    """Draw events once, with true fluxes."""
    parameters = simulation.priors.draw(rng, len(labels))
    magnitude = parameters["baseline_magnitude"]
    peak = 1 + 1 / np.maximum(parameters["impact_parameter"], 1e-3)
    tolerance = simulation.photometry.tolerance(peak, magnitude)
    matched = simulation.single_lens_prior == "matched"
    binary = labels <= BINARY if matched else labels == BINARY
    flux = _blended(engine.magnify(parameters, binary, time, good, tolerance), parameters)
    flux[labels == FLAT] = 1.0
    if (labels == VARIABLE).any():
        flux[labels == VARIABLE] = variable_star(rng, time[labels == VARIABLE])
    events = Events(parameters, flux, np.full(len(labels), np.nan))
    fitted = np.flatnonzero(binary & np.isfinite(flux).all(axis=1))
    if simulation.fits and len(fitted):
        fit = _fit(simulation, events, fitted, time, good)
        events.delta_chi2[fitted] = fit.chi2
        if matched:
            _replace_singles(engine, events, fit, fitted, labels, time, good, tolerance)
    return events


def _blended(magnification: Array, parameters: Mapping[str, Array]) -> Array:
    """Add light that is not lensed: F = (1 - blend) A + blend in units of the baseline."""
    blend = parameters["blend"][:, None].astype(np.float32)
    flux: Array = (1 - blend) * magnification + blend
    return flux


def _fit(
    simulation: Simulation, events: Events, rows: Array, time: Array, good: Array
) -> SingleLensFit:
    """Fit single lenses to true curves, weighted by the errors that observations would have."""
    some = {name: values[rows] for name, values in events.parameters.items()}
    seen, true = good[rows], events.flux[rows].astype(np.float64)
    sigma = simulation.photometry.sigma(true, some["baseline_magnitude"][:, None])
    days = np.where(np.isfinite(time[rows]), time[rows], some["peak_time"][:, None])
    along = across = None
    north, east = some["parallax_north"], some["parallax_east"]
    if north.any() or east.any():
        along, across = parallax_offsets(
            days,
            some["parallax_time"][:, None],
            north[:, None],
            east[:, None],
            simulation.ra,
            simulation.dec,
        )
    size = some["source_radius"] * some["einstein_time"] if simulation.finite_source else None
    flux = np.where(seen, true, 0.0)
    curves = Curves(days, flux, np.where(seen, 1 / sigma, 0.0), along, across, size)
    return fit_single_lens(curves, starting_points(some, days, flux))


def _replace_singles(
    engine: MagnificationEngine,
    events: Events,
    fit: SingleLensFit,
    fitted: Array,
    labels: Array,
    time: Array,
    good: Array,
    tolerance: Array,
) -> None:
    """Make events of one lens from the best fits of their binaries, in place."""
    chosen = labels[fitted] == SINGLE
    rows = fitted[chosen]
    if not len(rows):
        return
    parameters = events.parameters
    crossing_time = parameters["source_radius"][rows] * parameters["einstein_time"][rows]
    for name in ("peak_time", "impact_parameter", "einstein_time"):
        parameters[name][rows] = getattr(fit, name)[chosen]
    parameters["source_radius"][rows] = crossing_time / fit.einstein_time[chosen]
    total = fit.source_flux[chosen] + fit.blend_flux[chosen]
    parameters["blend"][rows] = fit.blend_flux[chosen] / total
    some = {name: values[rows] for name, values in parameters.items()}
    single = np.zeros(len(rows), dtype=bool)
    magnification = engine.magnify(some, single, time[rows], good[rows], tolerance[rows])
    events.flux[rows] = _blended(magnification, some)


def _observe(
    simulation: Simulation, rng: np.random.Generator, events: Events, good: Array
) -> dict[str, Array]:
    """Measure, find the reference flux and normalise; the same for every event."""
    magnitude = events.parameters["baseline_magnitude"][:, None]
    flux, error = simulation.photometry.measure(rng, events.flux, magnitude)
    if simulation.quiet_epochs:
        quiet = np.ones((len(flux), simulation.quiet_epochs), dtype=np.float32)
        before, before_error = simulation.photometry.measure(rng, quiet, magnitude)
        used = np.ones_like(before, dtype=bool)
    else:
        used = good & (np.cumsum(good, axis=1) <= FIRST_EPOCHS)
        before, before_error = flux, error
    number = used.sum(axis=1, keepdims=True)
    reference = np.where(used, before, 0).sum(axis=1, keepdims=True) / number
    reference_error = np.sqrt(np.where(used, before_error**2, 0).sum(axis=1)) / number[:, 0]
    absent = np.float32(np.nan)
    return {
        "flux": np.where(good, flux / reference, absent).astype(np.float32),
        "flux_error": np.where(good, error / reference, absent).astype(np.float32),
        "good": good,
        "reference_flux": reference[:, 0].astype(np.float32),
        "reference_flux_error": reference_error.astype(np.float32),
    }
