"""The best single lens for many light curves at once: a batched fit of PSPL with blending.

The model is F(t) = F_s A(u(t)) + F_b, F_s >= 0, F_b >= 0 (so 0 <= blend <= 1). The fluxes are
solved in closed form within their bounds at every step (variable projection; Golub & Pereyra 1973,
with Kaufman's Jacobian), t_0, u_0 and ln t_E by Levenberg-Marquardt on normal equations that come
from one matrix of inner products a curve. Each curve starts from several guesses on thinned
epochs; the best go on with all epochs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_modules.physics.arrays import Array
from lightning_modules.physics.point_lens import blur, pspl, pspl_with_slope

CHUNK = 32
"""Curves fitted together: their arrays fit in the processor's cache."""

THINNED_EPOCHS = 150
FINALISTS = 3
SEARCH_STEPS = 12
TRIAL_STEPS = 4
POLISH_STEPS = 20
TOLERANCE = 1e-4
"""A curve whose chi2 fell by less than this share is done."""


@dataclass
class Curves:
    """Light curves to be fitted.

    Attributes:
        time: Days, shape (n, T) float64.
        flux: Shape (n, T).
        weight: 1 / sigma, 0 where not observed, shape (n, T).
        along: What parallax adds to tau, shape (n, T), or None.
        across: What parallax adds to u_0, shape (n, T), or None.
        crossing_time: Source radius over its speed, t_* = rho t_E in days, shape (n,), or None.
    """

    time: Array
    flux: Array
    weight: Array
    along: Array | None = None
    across: Array | None = None
    crossing_time: Array | None = None

    def take(self, rows: Array, epochs: Any = slice(None)) -> "Curves":
        """Select curves and epochs."""
        given = {name: values[rows] for name, values in vars(self).items() if values is not None}
        return Curves(**{name: v[:, epochs] if v.ndim > 1 else v for name, v in given.items()})


@dataclass
class SingleLensFit:
    """The best single lenses.

    Attributes:
        peak_time: t_0 in days, shape (n,).
        impact_parameter: u_0, shape (n,).
        einstein_time: t_E in days, shape (n,).
        source_flux: F_s, shape (n,).
        blend_flux: F_b, shape (n,).
        chi2: Of the residuals, shape (n,).
    """

    peak_time: Array
    impact_parameter: Array
    einstein_time: Array
    source_flux: Array
    blend_flux: Array
    chi2: Array

    def magnification(self, time: Array) -> Array:
        """Return A(t) of point sources without parallax at times in days, shape (n, T)."""
        tau = (time - self.peak_time[:, None]) / self.einstein_time[:, None]
        return pspl(np.hypot(tau, self.impact_parameter[:, None]))

    def residuals(self, curves: Curves) -> Array:
        """Return observed minus fitted flux in units of the errors, shape (n, T)."""
        model = self.source_flux[:, None] * self.magnification(curves.time)
        return (curves.flux - model - self.blend_flux[:, None]) * curves.weight


def fit_single_lens(curves: Curves, starts: Array) -> SingleLensFit:
    """Fit a single lens to each of n curves, from guesses (t_0, u_0, ln t_E), shape (n, K, 3)."""
    parts = []
    for first in range(0, len(starts), CHUNK):
        rows = np.arange(first, min(first + CHUNK, len(starts)))
        parts.append(_fit_chunk(curves.take(rows), starts[rows]))
    columns = np.concatenate(parts)
    t0, u0, log_time, chi2, source, blend = columns.T
    # Without parallax the sign of u_0 has no meaning.
    u0 = np.abs(u0) if curves.across is None else u0
    return SingleLensFit(t0, u0, np.exp(log_time), source, blend, chi2)


def _fit_chunk(curves: Curves, starts: Array) -> Array:
    """Fit some curves: search on thinned epochs, then the best with all; shape (n, 6)."""
    count, guesses = starts.shape[:2]
    step = max(1, curves.time.shape[1] // THINNED_EPOCHS)
    each = np.repeat(np.arange(count), guesses)
    thinned = curves.take(each, slice(None, None, step))
    theta, state = _levenberg(thinned, starts.reshape(-1, 3), SEARCH_STEPS)
    chosen = _finalists(theta.reshape(count, guesses, 3), state[:, 0].reshape(count, guesses))
    theta, state = _levenberg(curves.take(chosen // guesses), theta[chosen], TRIAL_STEPS)
    order = np.lexsort((state[:, 0], chosen // guesses))
    _, first = np.unique((chosen // guesses)[order], return_index=True)
    winner = order[first]
    theta, state = _levenberg(curves, theta[winner], POLISH_STEPS)
    return np.concatenate([theta, state], axis=1)


def _finalists(theta: Array, chi2: Array) -> Array:
    """Choose of each curve's solutions the best, and the second best if it is another and no worse.

    Args:
        theta: Solutions, shape (n, K, 3).
        chi2: On the thinned epochs, shape (n, K).

    Returns:
        Flat positions into (n, K), at least one of each curve.
    """
    rows = np.arange(len(chi2))[:, None]
    order = np.argsort(chi2, axis=1)
    sorted_theta, sorted_chi2 = theta[rows, order], chi2[rows, order]
    keep = np.zeros(chi2.shape, dtype=bool)
    keep[:, 0] = True
    for rank in range(1, chi2.shape[1]):
        distance = np.abs(sorted_theta[:, :rank] - sorted_theta[:, rank : rank + 1])
        distance[:, :, 0] /= np.exp(sorted_theta[:, :rank, 2])
        new = ((distance > 0.02).any(axis=2) | ~keep[:, :rank]).all(axis=1)
        near = sorted_chi2[:, rank] < 4 * sorted_chi2[:, 0] + 10
        keep[:, rank] = new & near & (keep.sum(axis=1) < FINALISTS)
    return np.sort((rows * chi2.shape[1] + order)[keep])


def _levenberg(curves: Curves, theta: Array, steps: int) -> tuple[Array, Array]:
    """Improve guesses by Levenberg-Marquardt steps.

    Returns:
        (t_0, u_0, ln t_E), shape (n, 3), and (chi2, F_s, F_b), shape (n, 3).
    """
    normal, slope, state = _linearise(curves, theta)
    damping = np.full(len(theta), 1e-2)
    active = np.arange(len(theta))
    for _ in range(steps):
        part, lifted = curves if len(active) == len(theta) else curves.take(active), normal[active]
        scale = np.diagonal(lifted, axis1=1, axis2=2)
        lifted = lifted + (damping[active, None] * scale + 1e-12)[:, :, None] * np.eye(3)
        move = np.linalg.solve(lifted, slope[active][:, :, None])[:, :, 0]
        trial = theta[active] + _limited(move, theta[active])
        new = _linearise(part, trial)
        gain = state[active, 0] - new[2][:, 0]
        better = gain > 0
        damping[active] = np.clip(damping[active] * np.where(better, 0.15, 6.0), 1e-9, 1e6)
        rows = active[better]
        theta[rows], normal[rows], slope[rows] = trial[better], new[0][better], new[1][better]
        state[rows] = new[2][better]
        active = active[~better | (gain > TOLERANCE * (state[active, 0] + 1))]
        if not len(active):
            break
    return theta, state


def _limited(move: Array, theta: Array) -> Array:
    """Keep a step within what the linear model can know, and t_E within 0.01 to 10^5 days."""
    reach = np.exp(theta[:, 2])
    move = np.nan_to_num(move)
    limits = np.stack([reach, np.maximum(0.5, np.abs(theta[:, 1])), np.ones_like(reach)], axis=1)
    move = np.clip(move, -limits, limits)
    move[:, 2] = np.clip(theta[:, 2] + move[:, 2], np.log(0.01), np.log(1e5)) - theta[:, 2]
    return move


def _linearise(curves: Curves, theta: Array) -> tuple[Array, Array, Array]:
    """Linearise the model about guesses, with the best fluxes.

    Returns:
        Normal matrix (n, 3, 3), gradient (n, 3), and (chi2, F_s, F_b), shape (n, 3).
    """
    basis, chain = _basis(curves, theta)
    gram = basis @ basis.transpose(0, 2, 1)  # rows: A, 1, dA/dt_0, dA/du_0, dA/dln t_E, F
    gram = gram * chain[:, :, None] * chain[:, None, :]
    source, blend, free = _fluxes(gram)
    residual = gram[:, :, 5] - source[:, None] * gram[:, :, 0] - blend[:, None] * gram[:, :, 1]
    chi2 = residual[:, 5] - source * residual[:, 0] - blend * residual[:, 1]
    tiny = 1e-300
    cross = gram[:, 2:5, 0]  # (n, 3): derivatives with A
    normal = (
        gram[:, 2:5, 2:5]
        - cross[:, :, None] * cross[:, None, :] / (gram[:, 0, 0] + tiny)[:, None, None]
    )
    # The constant, made orthogonal to A, is projected out where the blend is free.
    share = gram[:, 0, 1] / (gram[:, 0, 0] + tiny)
    flat = gram[:, 2:5, 1] - share[:, None] * cross
    rest = gram[:, 1, 1] - share * gram[:, 0, 1]
    use = (free & (rest > 1e-12 * gram[:, 1, 1]))[:, None, None]
    outer = flat[:, :, None] * flat[:, None, :] / np.maximum(rest, tiny)[:, None, None]
    normal = normal - np.where(use, outer, 0.0)
    normal = normal * (source**2)[:, None, None]
    slope = residual[:, 2:5] * source[:, None]
    return normal, slope, np.stack([chi2, source, blend], axis=1)


def _fluxes(gram: Array) -> tuple[Array, Array, Array]:
    """Solve for F_s and F_b within their bounds; also say where F_b is not at its bound."""
    aa, a1, oo = gram[:, 0, 0], gram[:, 0, 1], gram[:, 1, 1]
    af, of = gram[:, 0, 5], gram[:, 1, 5]
    determinant = aa * oo - a1 * a1
    solvable = determinant > 1e-13 * aa * oo
    safe = np.where(solvable, determinant, 1.0)
    source = np.where(solvable, (oo * af - a1 * of) / safe, 0.0)
    blend = np.where(solvable, (aa * of - a1 * af) / safe, of / oo)
    dark, flat = blend < 0, source < 0
    source = np.where(dark, af / aa, np.where(flat, 0.0, source))
    blend = np.where(dark, 0.0, np.where(flat, of / oo, blend))
    return source, blend, ~dark


def _basis(curves: Curves, theta: Array) -> tuple[Array, Array]:
    """Evaluate the weighted functions of the model.

    Returns:
        Rows (A, 1, A_x p, A_x b, A_x p tau, F), weighted, shape (n, 6, T), with x = u^2, p and b
        the source's position along and across; and what each row is multiplied by, (n, 6), so that
        rows 2 to 4 are the derivatives by t_0, u_0 and ln t_E.
    """
    t0, u0, log_time = theta[:, 0:1], theta[:, 1:2], theta[:, 2:3]
    width = np.exp(log_time)
    dtype = curves.flux.dtype
    tau = ((curves.time - t0) / width).astype(dtype)
    along = tau if curves.along is None else tau + curves.along
    across = u0.astype(dtype) if curves.across is None else u0.astype(dtype) + curves.across
    square = along * along
    square += across * across + dtype.type(1e-12)
    weight = curves.weight
    basis = np.empty((len(tau), 6, tau.shape[1]), dtype)
    amplification, derivative = pspl_with_slope(square)
    if curves.crossing_time is not None:
        blur(amplification, derivative, square, curves.crossing_time[:, None] / width)
    np.multiply(amplification, weight, out=basis[:, 0])
    basis[:, 1] = weight
    derivative *= weight
    np.multiply(derivative, along, out=basis[:, 2])
    np.multiply(derivative, across, out=basis[:, 3])
    np.multiply(basis[:, 2], tau, out=basis[:, 4])
    np.multiply(curves.flux, weight, out=basis[:, 5])
    one = np.ones(len(theta))
    chain = np.stack([one, one, -2 / width[:, 0], 2 * one, -2 * one, one], axis=1)
    return basis, chain


def starting_points(events: Mapping[str, Array], time: Array, flux: Array) -> Array:
    """Guess single lenses that may look like a binary: its centre, its bodies, its light.

    Args:
        events: Parameters of binaries, each of shape (n,).
        time: Days, shape (n, T).
        flux: True flux in units of the baseline, 0 where not observed, shape (n, T).

    Returns:
        (t_0, u_0, ln t_E), shape (n, 6, 3).
    """
    t0, u0, width = events["peak_time"], events["impact_parameter"], events["einstein_time"]
    s, q, angle = events["separation"], events["mass_ratio"], events["angle"]
    guesses = [np.stack([t0, u0, np.log(width)], axis=1)]
    for mass, place in ((1 / (1 + q), -q * s / (1 + q)), (q / (1 + q), s / (1 + q))):
        closest = t0 - place * np.cos(angle) * width
        impact = (u0 - place * np.sin(angle)) / np.sqrt(mass)
        impact = np.sign(impact) * np.clip(np.abs(impact), 0.003, 3.0)
        guesses.append(np.stack([closest, impact, np.log(width * np.sqrt(mass))], axis=1))
    rows = np.arange(len(time))
    top = np.argmax(flux, axis=1)
    excess = np.maximum(flux[rows, top] - 1, 1e-3)
    high = (flux - 1 > 0.5 * excess[:, None]).sum(axis=1)
    spacing = (time.max(axis=1) - time.min(axis=1)) / time.shape[1]
    impact = np.clip(1 / (1 + excess), 0.01, 1.0)
    half = np.maximum(high * spacing, spacing) / 2
    guesses.append(np.stack([time[rows, top], impact, np.log(half / (1.73 * impact))], axis=1))
    lower = guesses[0].copy()  # the centre again, higher and longer: strongly blended
    lower[:, 1] *= 0.3
    lower[:, 2] += 1.0
    weight = np.maximum(flux - 1, 0) ** 2
    total = weight.sum(axis=1) + 1e-30
    middle = (weight * time).sum(axis=1) / total
    spread = np.sqrt((weight * (time - middle[:, None]) ** 2).sum(axis=1) / total) + spacing
    guesses += [lower, np.stack([middle, np.full(len(time), 0.3), np.log(2 * spread)], axis=1)]
    return np.stack(guesses, axis=1)
