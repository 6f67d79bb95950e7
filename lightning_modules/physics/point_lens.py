"""How a point lens magnifies a point source, and how the size of a source smooths that (numpy)."""

import numpy as np
from scipy.special import ellipe, ellipk

from lightning_modules.physics.arrays import Array

TABLE_END = 10.0
TABLE_STEP = 0.005


def pspl(u: Array) -> Array:
    """Magnify a point source by a single lens: (u^2 + 2) / (u sqrt(u^2 + 4)) (Paczynski 1986)."""
    square = np.maximum(u * u, np.finfo(u.dtype).tiny)
    return (square + 2) / np.sqrt(square * (square + 4))


def pspl_with_slope(square: Array) -> tuple[Array, Array]:
    """Return the magnification and its derivative by u^2, from u^2 > 0, each of its shape."""
    product = square * (square + 4)
    root = 1 / np.sqrt(product)
    return (square + 2) * root, -4 * root / product


def _disc_table() -> Array:
    """Tabulate B_0(z), the mean of z / |distance| over a uniform disc (Gould 1994, Yoo+ 2004)."""
    z = np.arange(TABLE_STEP, TABLE_END + TABLE_STEP, TABLE_STEP)
    inside, outside = np.minimum(z, 1.0) ** 2, np.minimum(1.0 / z, 1.0) ** 2
    within = ellipe(inside)
    with np.errstate(invalid="ignore"):
        term = np.where(outside < 1.0, (1.0 - outside) * ellipk(outside), 0.0)
    beyond = z * (ellipe(outside) - term)
    return np.append(0.0, 4.0 / np.pi * z * np.where(z <= 1.0, within, beyond))


DISC = _disc_table()


def blur(amplification: Array, derivative: Array, square: Array, radius: Array) -> None:
    """Multiply A by B_0(u / rho) near the lens and correct its derivative, in place.

    Args:
        amplification: A, shape (n, T).
        derivative: dA / du^2, shape (n, T).
        square: u^2, shape (n, T).
        radius: rho, shape (n, 1).
    """
    rows, epochs = np.nonzero(square < ((TABLE_END - TABLE_STEP) * radius) ** 2)
    if not len(rows):
        return
    u = np.sqrt(square[rows, epochs])
    place = u / (radius[rows, 0] * TABLE_STEP)
    node = place.astype(np.int64)
    low, high = DISC[node], DISC[node + 1]
    slope = (high - low) / TABLE_STEP
    factor = low + (place - node) * (high - low)
    before = amplification[rows, epochs]
    change = before * slope / (2 * u * radius[rows, 0])
    derivative[rows, epochs] = derivative[rows, epochs] * factor + change
    amplification[rows, epochs] = before * factor
