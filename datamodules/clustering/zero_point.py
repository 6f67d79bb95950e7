"""The parallax zero point of Gaia (E)DR3 (Lindegren et al. 2021, A&A 649, A4, appendix A)."""

import numpy as np

from lightning_modules.physics.arrays import Array

OBLIQUITY = np.radians(84381.41100 / 3600)
"""Of the ecliptic in the frame of Gaia, radians."""

FIVE_TERMS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (3, 0), (4, 0))
FIVE_PARAMETER = np.array(
    [
        [6.0, -26.98, -9.62, 27.4, -25.1, 0.0, -1257.0, 0.0, 0.0],
        [10.8, -27.23, -3.07, 23.04, 35.3, 15.7, -1257.0, 0.0, 0.0],
        [11.2, -30.33, -9.23, 9.08, -88.4, -11.8, -1257.0, 0.0, 0.0],
        [11.8, -33.54, -10.08, 13.28, -126.7, 11.6, -1257.0, 0.0, 0.0],
        [12.2, -13.65, -0.07, 9.35, -111.4, 40.6, -1257.0, 0.0, 0.0],
        [12.9, -19.53, -1.64, 15.86, -66.8, 20.6, -1257.0, 0.0, 0.0],
        [13.1, -37.99, 2.63, 16.14, -5.7, 14.0, -1257.0, 107.9, 104.3],
        [15.9, -38.33, 5.61, 15.42, 0.0, 18.7, -1189.0, 243.8, 155.2],
        [16.1, -31.05, 2.83, 8.59, 0.0, 15.5, -1404.0, 105.5, 170.7],
        [17.5, -29.18, -0.09, 2.41, 0.0, 24.5, -1165.0, 189.7, 325.0],
        [19.0, -18.4, 5.98, -6.46, 0.0, 5.5, 0.0, 0.0, 276.6],
        [20.0, -12.65, -4.57, -7.46, 0.0, 97.9, 0.0, 0.0, 0.0],
        [21.0, -18.22, -15.24, -18.54, 0.0, 128.2, 0.0, 0.0, 0.0],
    ]
)
"""Five-parameter solutions (their table 9): G, then q_jk in microarcseconds for `FIVE_TERMS`."""

SIX_TERMS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0))
SIX_PARAMETER = np.array(
    [
        [6.0, -27.85, -7.78, 27.47, -32.1, 14.4, 9.5, -67.0],
        [10.8, -28.91, -3.57, 22.92, 7.7, 12.6, 1.6, -572.0],
        [11.2, -26.72, -8.74, 9.36, -30.3, 5.6, 17.2, -1104.0],
        [11.8, -29.04, -9.69, 13.63, -49.4, 36.3, 17.7, -1129.0],
        [12.2, -12.39, -2.16, 10.23, -92.6, 19.8, 27.6, -365.0],
        [12.9, -18.99, -1.93, 15.9, -57.2, -8.0, 19.9, -554.0],
        [13.1, -38.29, 2.59, 16.2, -10.5, 1.4, 0.4, -960.0],
        [15.9, -36.83, 4.2, 15.76, 22.3, 11.1, 10.0, -1367.0],
        [16.1, -28.37, 1.99, 9.28, 50.4, 17.2, 13.7, -1351.0],
        [17.5, -24.68, -1.37, 3.52, 86.8, 19.8, 21.3, -1380.0],
        [19.0, -15.32, 4.01, -6.03, 29.2, 14.1, 0.4, -563.0],
        [20.0, -13.73, -10.92, -8.3, -74.4, 196.4, -42.0, 536.0],
        [21.0, -29.53, -20.34, -18.74, -39.5, 326.8, -262.3, 1598.0],
    ]
)
"""Six-parameter solutions (their table 10): G, then q_jk in microarcseconds for `SIX_TERMS`."""

FIVE_RANGE, SIX_RANGE = (1.1, 1.9), (1.24, 1.72)
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
    five = _expansion(magnitude, nu_eff, latitude, FIVE_TERMS, FIVE_PARAMETER, FIVE_RANGE)
    six = _expansion(magnitude, pseudocolour, latitude, SIX_TERMS, SIX_PARAMETER, SIX_RANGE)
    return np.where(np.isfinite(nu_eff), five, six) / 1000.0


def _expansion(
    magnitude: Array,
    wavenumber: Array,
    latitude: Array,
    terms: tuple[tuple[int, int], ...],
    coefficients: Array,
    colours: tuple[float, float],
) -> Array:
    """Sum q_jk(G) c_j(nu) b_k(beta), in microarcseconds; each q_jk is linear between knots in G."""
    nu = np.clip(wavenumber.astype(np.float64), *colours)
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
    for (j, k), knots in zip(terms, coefficients.T[1:], strict=True):
        total = total + np.interp(magnitude, coefficients[:, 0], knots) * c[j] * b[k]
    return total
