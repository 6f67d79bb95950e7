"""Projected density profiles of star clusters and how to draw radii from them (numpy only).

Each `*_fraction` gives M(<R) / M(infinity or tidal radius) of the surface density; `draw_radii`
inverts it.
"""

from typing import Literal

import numpy as np

from lightning_modules.physics.arrays import Array

Profile = Literal["plummer", "king", "eff"]


def plummer_fraction(radius: Array, scale: float) -> Array:
    """Plummer (1911): M(<R) / M = R^2 / (R^2 + a^2); half of the stars lie within a."""
    return radius**2 / (radius**2 + scale**2)


def eff_fraction(radius: Array, scale: float, slope: float) -> Array:
    """Elson, Fall & Freeman (1987): density (1 + R^2/a^2)^(-gamma/2), gamma > 2."""
    return 1.0 - (1.0 + (radius / scale) ** 2) ** (1.0 - slope / 2.0)


def king_fraction(radius: Array, scale: float, tidal_radius: float) -> Array:
    """King (1962), eq. 18: core radius `scale`, no star beyond the tidal radius."""
    edge = 1.0 + (tidal_radius / scale) ** 2

    def mass(x: Array) -> Array:
        """Return the mass within x = (R / r_c)^2 up to a constant."""
        return np.log1p(x) - 4.0 * (np.sqrt(1.0 + x) - 1.0) / np.sqrt(edge) + x / edge

    inside = np.minimum(radius, tidal_radius) / scale
    return mass(inside**2) / mass(np.array((tidal_radius / scale) ** 2))


def enclosed_fraction(
    radius: Array, profile: Profile, scale: float, tidal_radius: float, slope: float
) -> Array:
    """Return the share of stars within a projected radius, 1 at the tidal radius.

    Args:
        radius: R, in the units of `scale`.
        profile: `plummer`, `king` or `eff`.
        scale: Plummer's a, King's core radius or EFF's a.
        tidal_radius: Where the cluster ends.
        slope: gamma of EFF; unused by the others.
    """
    if profile == "king":
        return king_fraction(radius, scale, tidal_radius)
    radius = np.minimum(radius, tidal_radius)
    if profile == "plummer":
        return plummer_fraction(radius, scale) / plummer_fraction(np.array(tidal_radius), scale)
    return eff_fraction(radius, scale, slope) / eff_fraction(np.array(tidal_radius), scale, slope)


def draw_radii(
    uniform: Array, profile: Profile, scale: float, tidal_radius: float, slope: float
) -> Array:
    """Turn uniform numbers in [0, 1) into projected radii of a profile.

    The enclosed fraction is inverted by interpolation on 4096 radii, spaced evenly in the core and
    logarithmically outside; it is monotonic, so the result is too.
    """
    inner = np.linspace(0.0, 0.1, 1024, endpoint=False) * scale
    outer = np.geomspace(0.1 * scale, tidal_radius, 3072)
    grid = np.concatenate([inner, outer])
    fraction = enclosed_fraction(grid, profile, scale, tidal_radius, slope)
    return np.interp(uniform, fraction, grid)


def velocity_dispersion(radius: Array, scale: float, central: float) -> Array:
    """Return the projected dispersion of an isotropic Plummer sphere: central (1 + R^2/a^2)^(-1/4).

    Reference: Dejonghe (1987), eq. 40 with q = 0. Used for every profile, with its own scale.
    """
    return central * (1.0 + (radius / scale) ** 2) ** -0.25
