"""Projection along the line of sight, and fast maps of elliptical profiles."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from lightning_modules.physics.arrays import Array

DEPTH = 5000.0
"""Matter is projected to this distance in front and behind, kpc."""

NODES, WEIGHTS = np.polynomial.legendre.leggauss(32)

RADII = np.geomspace(1.0, 12000.0, 128)
"""Projected radii where profiles are computed, kpc; they are constant inside."""

LOOKUP_SIZE = 2048
LOG_START = float(np.log(RADII[0]))
LOG_STEP = float(np.log(RADII[-1] / RADII[0]) / (LOOKUP_SIZE - 1))
LOOKUP_LOG = LOG_START + LOG_STEP * np.arange(LOOKUP_SIZE)
LOOKUP_RADII = np.exp(LOOKUP_LOG)
"""The finer radii of lookup tables, evenly spaced in the logarithm, kpc."""

OVERSAMPLING = 3
CORE_PIXELS = 22
"""Side of the square around a centre where a pixel is the mean of 3 x 3 points."""


def line_of_sight(
    density: Callable[[Array], Array], radius: Array, start: Array | float, stop: Array | float
) -> Array:
    """Integrate a spherical density over both sides of the plane of the sky.

    With z = R sinh(t) the integrand is smooth for cusps and cores alike.

    Args:
        density: Of radii in kpc.
        radius: Projected R in kpc, shape (n,).
        start: |z| where the integral begins, kpc, shape (n,) or ().
        stop: |z| where it ends, kpc.

    Returns:
        Density times kpc, shape (n,).
    """
    first, last = np.arcsinh(start / radius), np.arcsinh(stop / radius)
    half = 0.5 * (last - first)
    r = radius[:, None] * np.cosh(first[:, None] + half[:, None] * (1 + NODES))
    return np.asarray(2 * half * ((density(r) * r) @ WEIGHTS))


def lookup_table(values: Array) -> Array:
    """Interpolate a positive profile given at `RADII` to `LOOKUP_RADII`, by logarithms."""
    return np.exp(np.interp(LOOKUP_LOG, np.log(RADII), np.log(values)))


@dataclass(frozen=True)
class Shape:
    """Where an elliptical profile is on the sky; its radius is sqrt(q u^2 + v^2/q).

    Attributes:
        centre: x and y in kpc, shape (2,).
        axis_ratio: q far out.
        angle: Of the long axis u, radians from x to y.
        round_radius: Within it q approaches 1 by 60 %; zero for none.
    """

    centre: Array
    axis_ratio: float
    angle: float
    round_radius: float = 0.0


@dataclass(frozen=True)
class Grid:
    """Square pixels around the centre.

    Attributes:
        num_pixels: On a side.
        pixel_scale: Their side in kpc.
    """

    num_pixels: int
    pixel_scale: float

    @property
    def area(self) -> float:
        """Area of a pixel in kpc^2."""
        return self.pixel_scale**2

    @cached_property
    def coordinate(self) -> Array:
        """Centres of the pixels along x, and along y, in kpc, shape (n,)."""
        return (np.arange(self.num_pixels) - 0.5 * (self.num_pixels - 1)) * self.pixel_scale

    @cached_property
    def fine_coordinate(self) -> Array:
        """Centres of the sub-pixels, in kpc, shape (OVERSAMPLING n,)."""
        count = OVERSAMPLING * self.num_pixels
        return (np.arange(count) - 0.5 * (count - 1)) * (self.pixel_scale / OVERSAMPLING)

    def image(self, tables: Array, shape: Shape) -> Array:
        """Return images of profiles of one shape.

        Args:
            tables: Values at `LOOKUP_RADII`, shape (p, LOOKUP_SIZE).
            shape: Where they are.

        Returns:
            Shape (p, n, n), rows along y.
        """
        image = _evaluate(tables, shape, self.coordinate, self.coordinate)
        columns, rows = (self._core(float(place)) for place in shape.centre)
        x, y = (self.fine_coordinate[_finer(part)] for part in (columns, rows))
        fine = _evaluate(tables, shape, x, y)
        parts = (len(y) // OVERSAMPLING, OVERSAMPLING, len(x) // OVERSAMPLING, OVERSAMPLING)
        image[:, rows, columns] = fine.reshape(-1, *parts).mean(axis=(2, 4))
        return image

    def _core(self, centre: float) -> slice:
        """Return the pixels along one axis that are resolved finer."""
        width = min(CORE_PIXELS, self.num_pixels)
        nearest = round(centre / self.pixel_scale + 0.5 * (self.num_pixels - width))
        first = min(max(nearest, 0), self.num_pixels - width)
        return slice(first, first + width)


def _finer(part: slice) -> slice:
    """Return the sub-pixels of some pixels along one axis."""
    return slice(OVERSAMPLING * part.start, OVERSAMPLING * part.stop)


def _evaluate(tables: Array, shape: Shape, x: Array, y: Array) -> Array:
    """Look profiles up at the points of a grid, shape (p, len(y), len(x)).

    With r^2 = u^2 + v^2 the elliptical radius squared is (q - 1/q) u^2 + r^2/q.
    """
    cos, sin = np.cos(shape.angle), np.sin(shape.angle)
    along, across = x - shape.centre[0], (y - shape.centre[1])[:, None]
    square = along**2 + across**2
    u2 = (cos * along + sin * across) ** 2
    ratio: Array | float = shape.axis_ratio
    if shape.round_radius > 0:
        rounding = 0.6 * (1 - shape.axis_ratio)
        ratio = shape.axis_ratio + rounding * np.exp(square * (-1 / shape.round_radius**2))
    inverse = 1 / ratio
    position = np.multiply(u2, ratio - inverse, out=u2)
    position += np.multiply(square, inverse, out=square)
    np.log(np.maximum(position, RADII[0] ** 2, out=position), out=position)
    position *= 0.5 / LOG_STEP
    position -= LOG_START / LOG_STEP
    lower = position.astype(np.intp)
    position -= lower
    steps = np.diff(tables, axis=1)
    return np.asarray(np.take(tables, lower, axis=1) + position * np.take(steps, lower, axis=1))


@lru_cache(maxsize=1)
def hernquist_profile() -> tuple[Array, Array]:
    """Return ln(R/a) and ln of Hernquist's (1990) surface density over M/a^2, each (n,)."""
    ratio = np.geomspace(1e-3, 1e3, 400)

    def density(s: Array) -> Array:
        return np.asarray(1 / (2 * np.pi * s * (1 + s) ** 3))

    return np.log(ratio), np.log(line_of_sight(density, ratio, 0.0, 1e6))
