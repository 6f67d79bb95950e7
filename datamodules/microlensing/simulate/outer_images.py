"""A point source far from both bodies of a binary: its three images by iteration (numpy only).

At `REACH` and more from both bodies, with s >= `CLOSEST`, the source is outside all caustics and
has three images: one beside itself and a faint one beside each body. Each is a fixed point of
the lens equation in the right form, z -> zeta + sum m_i / (conj(z) - x_i) for the first and
conj(z) -> x_i + m_i / (z - zeta - m_j / (conj(z) - x_j)) for those beside body i, and the
iterations contract. A whole block of epochs is solved at once, several times faster than by the
roots of the fifth-order polynomial; epochs that have not converged are left to the engine.
"""

import numpy as np

from lightning_modules.physics.arrays import Array

REACH = 1.75
"""Least distance from both bodies, in Einstein radii."""

CLOSEST = 0.6
"""Least separation: the triangular caustics of closer binaries lie far from both bodies."""

CHUNK = 1 << 14
MAIN_STEPS = 9
FAINT_STEPS = 6
ACCURACY = 3e-5
"""Change of an image's place in the last step above which an epoch is left to the engine."""


def is_outer(s: Array, q: Array, radius: Array, y1: Array, y2: Array, tolerance: Array) -> Array:
    """Say where the iteration holds and the size of the source does not matter.

    The size changes the magnification by about 4 rho^2 / d^6 at distance d (Gould 2008), which has
    to be below a twentieth of the tolerance. All arguments broadcast.
    """
    reach = np.maximum(REACH, (80 * radius**2 / tolerance) ** (1 / 6))
    first, second = -q * s / (1 + q), s / (1 + q)
    across = y2 * y2
    near = np.minimum((y1 - first) ** 2, (y1 - second) ** 2) + across
    return (near > reach**2) & (s >= CLOSEST)


def outer_magnification(s: Array, q: Array, y1: Array, y2: Array) -> Array:
    """Magnify point sources for which `is_outer` holds.

    Args:
        s: Separation, shape (n,).
        q: Mass ratio, shape (n,).
        y1: Source along the axis from the centre of mass, shape (n,).
        y2: Source across the axis, shape (n,).

    Returns:
        Magnification, shape (n,) float32; NaN where the iteration has not converged.
    """
    result = np.empty(len(s), dtype=np.float32)
    for first in range(0, len(s), CHUNK):
        part = slice(first, first + CHUNK)
        result[part] = _magnify(s[part], q[part], y1[part], y2[part])
    return result


def _magnify(s: Array, q: Array, y1: Array, y2: Array) -> Array:
    """Magnify some sources."""
    source = (y1 + 1j * y2).astype(np.complex64)
    light = (q / (1 + q)).astype(np.float32)
    heavy = 1 - light
    places = ((-light * s).astype(np.float32), (heavy * s).astype(np.float32))
    masses = (heavy, light)
    image = before = source
    for _ in range(MAIN_STEPS):
        before = image
        image = source + _inverse(before - places[0], heavy) + _inverse(before - places[1], light)
    moved = np.abs(image - before)
    total = 1 / (1 - _squared_shear(image, places, masses))
    for body in (0, 1):
        place, mass = places[body], masses[body]
        image = place.astype(np.complex64)
        for _ in range(FAINT_STEPS):
            other = _inverse(image - places[1 - body], masses[1 - body])
            image = place + _inverse(image - source - other, mass)
        shear = _squared_shear(image, places, masses)
        total = total + 1 / (shear - 1)
    return np.where(moved < ACCURACY, total, np.float32(np.nan))


def _inverse(value: Array, mass: Array) -> Array:
    """Return mass / conj(value): the deflection by a body, from the image's place beside it."""
    square = value.real**2 + value.imag**2
    return value * (mass / square)


def _squared_shear(image: Array, places: tuple[Array, Array], masses: tuple[Array, Array]) -> Array:
    """Return |sum m_i / (conj(z) - x_i)^2|^2; the magnification is 1 / |1 - it|."""
    one = np.ones(1, dtype=np.float32)
    first, second = (_inverse(image - place, one) ** 2 for place in places)
    shear = masses[0] * first + masses[1] * second
    return shear.real**2 + shear.imag**2
