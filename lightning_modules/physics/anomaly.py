"""How badly one lens fits a light curve, and where (numpy only).

Of each curve two numbers: what the best-fitting single lens leaves unexplained, chi^2 minus the
degrees of freedom, and the largest windowed residual, max over windows of consecutive kept epochs
of (sum r / sigma)^2 / size, the Delta chi^2 that a constant offset in the window would win. The
second is the idea of KMTNet's AnomalyFinder (Zang et al. 2021, arXiv:2103.11880).
"""

import numpy as np

from lightning_modules.physics.arrays import Array
from lightning_modules.physics.single_lens_fit import Curves, fit_single_lens

WINDOWS = (1, 3, 10, 30, 100)
"""Sizes of windows in kept epochs."""

SMOOTHED = 9
"""Kept epochs of the running mean in which guesses see the peak."""

WIDTHS = (2.0, 8.0, 30.0, 100.0)
"""Einstein times of guesses in days."""

NUM_PARAMETERS = 5
"""Free parameters of the fit: t_0, u_0, t_E, F_s, F_b."""


def anomaly_scores(time: Array, flux: Array, error: Array, good: Array) -> Array:
    """Fit single lenses and return how badly they fit.

    Args:
        time: Days, shape (n, T).
        flux: Over the reference flux, shape (n, T).
        error: Of the flux, shape (n, T).
        good: Epochs that count, shape (n, T); curves with fewer than six score 0.

    Returns:
        chi^2 minus degrees of freedom, and the largest windowed residual, shape (n, 2).
    """
    scores = np.zeros((len(flux), 2))
    counts = good.sum(axis=1)
    rows = np.flatnonzero(counts > NUM_PARAMETERS)
    if not len(rows):
        return scores
    curves, kept = _pack(time[rows], flux[rows], error[rows], good[rows])
    fit = fit_single_lens(curves, observed_guesses(curves, kept))
    scores[rows, 0] = fit.chi2 - (counts[rows] - NUM_PARAMETERS)
    scores[rows, 1] = largest_window(fit.residuals(curves))
    return scores


def largest_window(residuals: Array) -> Array:
    """Return the largest (sum of residuals)^2 / size over all windows, shape (n,).

    Args:
        residuals: In units of their errors, 0 beyond the last epoch, shape (n, T).
    """
    sizes = [size for size in WINDOWS if size <= residuals.shape[1]]
    sums = [(_running_sums(residuals, size) ** 2).max(axis=1) / size for size in sizes]
    return np.max([np.zeros(len(residuals)), *sums], axis=0)


def observed_guesses(curves: Curves, kept: Array) -> Array:
    """Guess single lenses from what is seen: the most significant rise, and the brightest one.

    Args:
        curves: Kept epochs moved together.
        kept: Which entries are epochs, shape (n, T).

    Returns:
        (t_0, u_0, ln t_E), shape (n, 8, 3).
    """
    size = min(SMOOTHED, curves.flux.shape[1])
    deviation = np.where(kept, curves.flux - 1, 0.0)
    rise = _running_sums(deviation * curves.weight**2, size)
    certainty = _running_sums(curves.weight**2, size) + 1e-30
    whole = _running_sums(kept.astype(np.float64), size) >= min(size, 3)
    mean = np.where(whole, rise / certainty, -np.inf)
    significance = np.where(whole, rise / np.sqrt(certainty), -np.inf)
    rows, guesses = np.arange(len(kept)), []
    for places in (significance.argmax(axis=1), mean.argmax(axis=1)):
        middle = np.minimum(places + size // 2, kept.sum(axis=1) - 1)
        peak = curves.time[rows, middle]
        excess = np.maximum(np.nan_to_num(mean[rows, places], neginf=0.0), 0.03)
        impact = np.clip(1 / (1 + excess), 0.01, 1.0)
        guesses += [
            np.stack([peak, impact, np.full(len(kept), np.log(width))], axis=1) for width in WIDTHS
        ]
    return np.stack(guesses, axis=1)


def _running_sums(values: Array, size: int) -> Array:
    """Sum `size` consecutive values, from each place on, shape (n, T - size + 1)."""
    total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    return total[:, size:] - total[:, :-size]


def _pack(time: Array, flux: Array, error: Array, good: Array) -> tuple[Curves, Array]:
    """Move the kept epochs of each curve together; what is beyond has no weight."""
    length = int(good.sum(axis=1).max())
    order = np.argsort(~good, axis=1, kind="stable")[:, :length]
    kept = np.take_along_axis(good, order, axis=1)
    packed = [np.take_along_axis(x, order, axis=1) for x in (time, flux, error)]
    first = packed[0][:, :1]
    days = np.where(kept, packed[0], first).astype(np.float64)
    values = np.where(kept, packed[1], 0.0).astype(np.float64)
    weight = np.where(kept, 1 / np.where(kept, packed[2], 1.0), 0.0).astype(np.float64)
    return Curves(days, values, weight), kept
