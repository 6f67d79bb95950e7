"""Several telescopes as one light curve over its reference flux (no Lightning).

The main telescope gives the scale: its flux over the clipped mean of its quiet epochs. The others
are brought to it through a single-lens model of the main one, F_k = F_s,k A(t) + F_b,k, since
telescopes differ in zero point and in the light that they blend. Errors of each telescope are
scaled up to the scatter between successive epochs, which a slow change of flux does not raise.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from datamodules.microlensing.readers.light_curves import LightCurve
from datamodules.microlensing.simulate.events import FIRST_EPOCHS
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.single_lens_fit import Curves, SingleLensFit, fit_single_lens

Reference = Literal["quiet", "first"]

CLIP = 3.0
MAD_TO_SIGMA = 1.4826
MIN_EPOCHS = 10
MAX_STEP = 3.0
"""Days between epochs whose difference counts for the scatter."""

MAX_SOURCE_ERROR = 0.2
"""Relative error of F_s,k above which a telescope cannot be aligned by the model."""


@dataclass
class Event:
    """One event, all telescopes together.

    Attributes:
        name: Of the event.
        time: JD - 2450000, increasing, shape (n,).
        flux: Over the reference flux, shape (n,).
        error: In the same unit, shape (n,).
        reference_flux: Of the main telescope, in the unit of its file.
        reference_flux_error: Its error.
        problems: What was left out or changed.
    """

    name: str
    time: Array
    flux: Array
    error: Array
    reference_flux: float
    reference_flux_error: float
    problems: list[str] = field(default_factory=list)


def merge(name: str, curves: list[LightCurve], reference: Reference, rescale_errors: bool) -> Event:
    """Merge an event's telescopes in time.

    Args:
        name: Of the event.
        curves: At least one.
        reference: `quiet` takes the clipped mean of the main telescope's whole curve, `first` that
            of its first 30 epochs, which a live alert would have.
        rescale_errors: Whether errors are scaled up to the scatter between successive epochs.

    Raises:
        ValueError: The main telescope has too few epochs.
    """
    main = max(curves, key=lambda c: len(c.time) * (np.ptp(c.time) + 1.0))
    problems = [text for curve in curves for text in curve.problems]
    if len(main.time) < MIN_EPOCHS:
        raise ValueError(f"{main.path}: {len(main.time)} epochs; an event needs {MIN_EPOCHS}")
    used = np.arange(len(main.time)) < FIRST_EPOCHS if reference == "first" else _quiet(main)
    level = float(main.flux[used].mean())
    if level <= 0:
        raise ValueError(
            f"{main.path}: the reference flux is {level:g}; a difference flux needs "
            "data.source.reference_flux, or set data.source.reference"
        )
    factor = _error_factor(main) if rescale_errors else 1.0
    if factor > 1.05:
        problems.append(f"{main.path}: errors multiplied by {factor:.2f}")
    spread = float(np.sqrt(np.sum((factor * main.error[used]) ** 2)) / used.sum())
    parts = [(main.time, main.flux / level, factor * main.error / level)]
    others = [curve for curve in curves if curve is not main]
    if others:
        fit = _fit_main(parts[0])
        for curve in others:
            aligned, text = _align(curve, fit, rescale_errors)
            parts += [aligned] if aligned else []
            problems += [text] if text else []
    time, flux, error = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.argsort(time, kind="stable")
    return Event(name, time[order], flux[order], error[order], level, spread, problems)


def _quiet(curve: LightCurve) -> Array:
    """Find the quiet epochs: within three sigma of their own median, after clipping."""
    kept = np.ones(len(curve.flux), dtype=bool)
    for _ in range(20):
        middle = np.median(curve.flux[kept])
        scatter = MAD_TO_SIGMA * np.median(np.abs(curve.flux[kept] - middle))
        width = CLIP * max(scatter, 1e-9 * abs(middle))
        new = np.abs(curve.flux - middle) <= width
        if new.sum() < MIN_EPOCHS or (new == kept).all():
            break
        kept = new
    return kept


def _error_factor(curve: LightCurve) -> float:
    """Return the factor that makes errors as large as the scatter they claim, at least 1.

    It is the robust scatter of the differences of successive epochs, in units of their error.
    """
    close = np.diff(curve.time) < MAX_STEP
    if close.sum() < MIN_EPOCHS:
        return 1.0
    error = np.hypot(curve.error[1:], curve.error[:-1])
    return max(1.0, MAD_TO_SIGMA * float(np.median(np.abs(np.diff(curve.flux) / error)[close])))


def _fit_main(part: tuple[Array, Array, Array]) -> SingleLensFit:
    """Fit a single lens to the main telescope from guesses about its brightest epochs."""
    time, flux, error = part
    smooth = np.convolve(flux, np.ones(3) / 3, mode="same") if len(flux) > 5 else flux
    peak = time[np.argmax(smooth)]
    excess = max(float(smooth.max()) - 1, 1e-3)
    impact = np.clip(1 / (1 + excess), 0.01, 1.0)
    guesses = [
        (peak, u0, np.log(width)) for u0 in (impact, 0.3 * impact) for width in (3, 10, 30, 100)
    ]
    curves = Curves(time[None], flux[None], 1 / error[None])
    return fit_single_lens(curves, np.array(guesses)[None])


def _align(
    curve: LightCurve, fit: SingleLensFit, rescale: bool
) -> tuple[tuple[Array, Array, Array] | None, str]:
    """Bring a telescope to the main one's scale, or say why it is left out."""
    magnification = fit.magnification(curve.time[None])[0]
    design = np.stack([magnification, np.ones_like(magnification)], axis=1) / curve.error[:, None]
    if len(design) < 3 or np.linalg.cond(design) > 1e8:
        return None, f"{curve.path}: {len(design)} epochs cannot be aligned; left out"
    covariance = np.linalg.inv(design.T @ design)
    source, blend = covariance @ (design.T @ (curve.flux / curve.error))
    factor = _error_factor(curve) if rescale else 1.0
    if source <= 0 or factor * np.sqrt(covariance[0, 0]) > MAX_SOURCE_ERROR * source:
        return None, f"{curve.path}: sees too little of the event to be aligned; left out"
    scale = fit.source_flux[0] / source
    flux = (curve.flux - blend) * scale + fit.blend_flux[0]
    text = f"{curve.path}: errors multiplied by {factor:.2f}" if factor > 1.05 else ""
    return (curve.time, flux, factor * curve.error * scale), text
