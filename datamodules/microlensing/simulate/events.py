"""Microlensing events as a survey would see them, one lens and two by one code path (numpy only).

The only difference between the classes is the magnification: parameters, epochs, gaps, blending,
noise, errors and storage are the same calls on the same arrays.
"""

import numpy as np

from datamodules.microlensing.simulate.magnification import MagnificationEngine
from datamodules.microlensing.simulate.presets import BINARY_ONLY, NOT_OF_LENS, EventSettings
from datamodules.microlensing.simulate.variables import variable_star
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.single_lens_fit import (
    Curves,
    SingleLensFit,
    fit_single_lens,
    starting_points,
)

SINGLE, BINARY, FLAT, VARIABLE = 0, 1, 2, 3
"""Labels: one lens, two lenses, constant star, variable star."""

FIRST_EPOCHS = 30
"""Kept epochs whose mean is the reference flux if there are no quiet epochs."""

MAX_DRAWS = 1000
"""Redraws of one event before the settings count as impossible."""


def simulate_block(
    settings: EventSettings, times: Array, labels: Array, seed: np.random.SeedSequence
) -> tuple[dict[str, Array], dict[str, int]]:
    """Simulate the events of one block.

    Args:
        settings: What events there are and how they are measured.
        times: Epochs of each field in days, shape (F, T), NaN-padded.
        labels: Class of each event, shape (n,) int64.
        seed: Of this block; its result is a function of these four arguments alone.

    Returns:
        Columns of the store (without names), and how many draws were thrown away and why.
    """
    block = Block(settings, times, labels, seed)
    counts = block.draw_accepted()
    columns = block.observe()
    absent = {name: labels != BINARY for name in BINARY_ONLY} | dict.fromkeys(NOT_OF_LENS, False)
    parameters = {
        name: np.where(absent.get(name, labels > BINARY), np.nan, values)
        for name, values in block.parameters.items()
    }
    delta_chi2 = np.where((labels == SINGLE) & settings.fits, 0.0, block.delta_chi2)
    return {
        **columns,
        **parameters,
        "label": labels.astype(np.int64),
        "field": block.field,
        "delta_chi2": delta_chi2.astype(np.float32),
    }, counts


class Block:
    """Events in the making; rows are numbered within the block.

    Attributes:
        field: Field of each event, shape (n,) int32.
        time: Its epochs in days, shape (n, T), NaN-padded.
        good: Epochs that are kept, shape (n, T).
        parameters: Each of shape (n,).
        tolerance: Relative error of the magnification that noise hides, shape (n,).
        flux: True flux in units of the baseline, shape (n, T) float32.
        delta_chi2: Against the best single lens, NaN if unknown, shape (n,).
    """

    def __init__(
        self, settings: EventSettings, times: Array, labels: Array, seed: np.random.SeedSequence
    ) -> None:
        self.settings = settings
        self.labels = labels
        self.rng = np.random.default_rng(seed)
        self.engine = MagnificationEngine(*settings.coordinates, settings.finite_source)
        self.field = self.rng.integers(0, len(times), len(labels)).astype(np.int32)
        self.time = times[self.field]
        kept = self.rng.random(self.time.shape, np.float32) >= settings.missing_fraction
        self.good = np.isfinite(self.time) & kept
        empty = np.flatnonzero(~self.good.any(axis=1))  # none stays without an epoch
        self.good[empty, np.argmax(np.isfinite(self.time[empty]), axis=1)] = True
        self.parameters: dict[str, Array] = {}
        self.tolerance = np.empty(len(labels))
        self.flux = np.empty(self.time.shape, np.float32)
        self.delta_chi2 = np.empty(len(labels))

    def draw_accepted(self) -> dict[str, int]:
        """Draw events until all are accepted; count those that are not."""
        counts = {"failed": 0, "below_min_delta_chi2": 0}
        rows = np.arange(len(self.labels))
        for _ in range(MAX_DRAWS):
            self._draw(rows)
            failed = ~np.isfinite(self.flux[rows]).all(axis=1)
            weak = ~failed & (self.delta_chi2[rows] < self.settings.min_delta_chi2)
            counts["failed"] += int(failed.sum())
            counts["below_min_delta_chi2"] += int(weak.sum())
            rows = rows[failed | weak]
            if not len(rows):
                return counts
        raise ValueError(
            f"data.source: {len(rows)} of {len(self.labels)} events were refused {MAX_DRAWS} times "
            f"({counts}); lower min_delta_chi2={self.settings.min_delta_chi2} or change the ranges"
        )

    def observe(self) -> dict[str, Array]:
        """Measure, find the reference flux and normalise; the same for every event."""
        settings, good = self.settings, self.good
        magnitude = self.parameters["baseline_magnitude"][:, None]
        flux, error = settings.errors.measure(self.rng, self.flux, magnitude)
        if settings.quiet_epochs:
            quiet = np.ones((len(flux), settings.quiet_epochs), dtype=np.float32)
            before, before_error = settings.errors.measure(self.rng, quiet, magnitude)
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

    def _draw(self, rows: Array) -> None:
        """Draw the events of some rows once, with true fluxes."""
        for name, values in self.settings.draw(self.rng, len(rows)).items():
            self.parameters.setdefault(name, np.empty(len(self.labels)))[rows] = values
        events, labels = self._events(rows), self.labels[rows]
        peak = 1 + 1 / np.maximum(events["impact_parameter"], 1e-3)
        magnitude = events["baseline_magnitude"]
        self.tolerance[rows] = self.settings.errors.tolerance(peak, magnitude)
        matched = self.settings.single_lens_prior == "matched"
        binary = labels <= BINARY if matched else labels == BINARY
        self._magnify(rows, binary)
        self.flux[rows[labels == FLAT]] = 1.0
        variable = rows[labels == VARIABLE]
        if len(variable):
            self.flux[variable] = variable_star(self.rng, self.time[variable])
        self.delta_chi2[rows] = np.nan
        fitted = rows[binary & np.isfinite(self.flux[rows]).all(axis=1)]
        if self.settings.fits and len(fitted):
            fit = self._fit(fitted)
            self.delta_chi2[fitted] = fit.chi2
            if matched:
                self._replace_singles(fitted, fit)

    def _events(self, rows: Array) -> dict[str, Array]:
        """Return the parameters of some rows."""
        return {name: values[rows] for name, values in self.parameters.items()}

    def _magnify(self, rows: Array, binary: Array) -> None:
        """Compute the true flux: F = (1 - blend) A + blend in units of the baseline."""
        events = self._events(rows)
        given = (self.time[rows], self.good[rows], self.tolerance[rows])
        blend = events["blend"][:, None].astype(np.float32)
        self.flux[rows] = (1 - blend) * self.engine.magnify(events, binary, *given) + blend

    def _fit(self, rows: Array) -> SingleLensFit:
        """Fit single lenses to true curves, weighted by the errors that observations would have."""
        events, time, seen = self._events(rows), self.time[rows], self.good[rows]
        true = self.flux[rows].astype(np.float64)
        sigma = self.settings.errors.sigma(true, events["baseline_magnitude"][:, None])
        days = np.where(np.isfinite(time), time, events["peak_time"][:, None])
        along, across = self.engine.parallax(events, days) or (None, None)
        size = events["source_radius"] * events["einstein_time"]
        crossing_time = size if self.settings.finite_source else None
        flux, weight = np.where(seen, true, 0.0), np.where(seen, 1 / sigma, 0.0)
        curves = Curves(days, flux, weight, along, across, crossing_time)
        return fit_single_lens(curves, starting_points(events, days, flux))

    def _replace_singles(self, fitted: Array, fit: SingleLensFit) -> None:
        """Make events of one lens from the best fits of their binaries."""
        chosen = self.labels[fitted] == SINGLE
        rows, events = fitted[chosen], self.parameters
        if not len(rows):
            return
        crossing_time = events["source_radius"][rows] * events["einstein_time"][rows]
        for name in ("peak_time", "impact_parameter", "einstein_time"):
            events[name][rows] = getattr(fit, name)[chosen]
        events["source_radius"][rows] = crossing_time / fit.einstein_time[chosen]
        total = fit.source_flux[chosen] + fit.blend_flux[chosen]
        events["blend"][rows] = fit.blend_flux[chosen] / total
        self._magnify(rows, np.zeros(len(rows), dtype=bool))
