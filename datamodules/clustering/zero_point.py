"""The parallax zero point of Gaia (E)DR3 (Lindegren et al. 2021, A&A 649, A4, appendix A)."""

from pathlib import Path

import numpy as np

from lightning_modules.physics.arrays import Array

OBLIQUITY = np.radians(84381.41100 / 3600)
"""Of the ecliptic in the frame of Gaia, radians."""

COEFFICIENTS = np.genfromtxt(Path(__file__).with_suffix(".csv"), delimiter=",", names=True)
"""Solutions of 5 `parameters` (their table 9) and of 6 (table 10): G and q_jk, microarcseconds."""

COLOURS = {5: (1.1, 1.9), 6: (1.24, 1.72)}
"""Effective wavenumbers (1/um) within which the recipe holds; beyond, its edge is taken."""


def ecliptic_latitude(ra: Array, dec: Array) -> Array:
    """Find the ecliptic latitude in degrees of positions in degrees."""
    alpha, delta = np.radians(ra), np.radians(dec)
    sine = np.sin(delta) * np.cos(OBLIQUITY) - np.cos(delta) * np.sin(OBLIQUITY) * np.sin(alpha)
    return np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0)))


def parallax_zero_point(
    magnitude: Array, nu_eff: Array, pseudocolour: Array, latitude: Array
) -> Array:
    """Find the zero point Z; the corrected parallax is parallax - Z.

    Z = sum_jk q_jk(G) c_j(nu) b_k(beta) (their eq. A.3 to A.5). Magnitudes outside 6..21 and
    colours outside the range of the recipe are taken at its edge.

    Args:
        magnitude: G, shape (n,).
        nu_eff: Effective wavenumber in 1/um of five-parameter solutions, NaN for others.
        pseudocolour: Astrometric wavenumber in 1/um of six-parameter solutions, NaN for others.
        latitude: Ecliptic latitude in degrees.

    Returns:
        Z in mas, NaN where magnitude or both colours are missing, shape (n,).
    """
    five = _expansion(magnitude, nu_eff, latitude, 5)
    six = _expansion(magnitude, pseudocolour, latitude, 6)
    return np.where(np.isfinite(nu_eff), five, six) / 1000.0


def _expansion(magnitude: Array, wavenumber: Array, latitude: Array, parameters: int) -> Array:
    """Sum q_jk(G) c_j(nu) b_k(beta), in microarcseconds; each q_jk is linear between knots in G."""
    knots = COEFFICIENTS[COEFFICIENTS["parameters"] == parameters]
    nu = np.clip(wavenumber.astype(np.float64), *COLOURS[parameters])
    sine = np.sin(np.radians(latitude))
    c = [
        np.ones_like(nu),
        np.clip(nu - 1.48, -0.24, 0.24),
        np.minimum(0.24, np.maximum(0.0, 1.48 - nu)) ** 3,
        np.minimum(0.0, nu - 1.24),
        np.maximum(0.0, nu - 1.72),
    ]
    b = [np.ones_like(sine), sine, sine**2 - 1 / 3]
    total = np.where(np.isfinite(nu), 0.0, np.nan)
    for name in knots.dtype.names[2:]:
        j, k = int(name[1]), int(name[2])
        total = total + np.interp(magnitude, knots["magnitude"], knots[name]) * c[j] * b[k]
    return total
