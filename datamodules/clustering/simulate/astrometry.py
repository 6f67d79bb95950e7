"""What Gaia DR3 makes of a star: errors by magnitude, correlations, noise (numpy only)."""

import numpy as np

from lightning_modules.physics.arrays import Array
from lightning_modules.physics.covariance import AXES, CORRELATIONS

ERROR_RATIOS = np.array([0.8, 0.7, 1.0, 1.03, 0.89])
"""Mean errors of (ra, dec, parallax, pmra, pmdec) in units of the parallax error."""

ERROR_SCATTER = 0.2
"""Natural-log scatter of a star's errors about the mean at its magnitude."""

CORRELATION_FREEDOM = 25
"""Degrees of freedom of a star's correlations: fewer scatter more about those of the field."""

MOTION = tuple(
    name
    for name in (*AXES[2:], *(f"{axis}_error" for axis in AXES[2:]), *CORRELATIONS)
    if name != "ra_dec_corr"
)
"""Columns that a two-parameter solution leaves empty."""

POSITION_ONLY_SPREAD = 0.5
"""Magnitudes over which the share of two-parameter solutions rises."""


def mean_parallax_error(magnitude: Array) -> Array:
    """Return the mean parallax error in mas: sqrt(40 + 800 z + 30 z^2) microarcseconds.

    z = max(10^(0.4 (13 - 15)), 10^(0.4 (G - 15))); within 11 % of DR3 for G of 13 to 21.
    """
    z = np.maximum(10.0**-0.8, 10.0 ** (0.4 * (magnitude - 15.0)))
    return np.sqrt(40.0 + 800.0 * z + 30.0 * z**2) / 1000.0


def draw_errors(rng: np.random.Generator, magnitude: Array) -> Array:
    """Draw errors of (ra, dec, parallax, pmra, pmdec) in mas and mas/yr, shape (n, 5)."""
    common = np.exp(ERROR_SCATTER * rng.standard_normal((len(magnitude), 1)))
    own = np.exp(0.25 * ERROR_SCATTER * rng.standard_normal((len(magnitude), 5)))
    return mean_parallax_error(magnitude)[:, None] * ERROR_RATIOS * common * own


def draw_correlations(rng: np.random.Generator, count: int) -> Array:
    """Draw correlation matrices: one pattern for the field, and scatter about it star by star.

    Both are normalised Wishart matrices, hence positive definite.

    Returns:
        Shape (count, 5, 5).
    """
    pattern = _correlations(rng.standard_normal((1, 5, 20)))[0]
    lower = np.linalg.cholesky(pattern)
    return _correlations(lower @ rng.standard_normal((count, 5, CORRELATION_FREEDOM)))


def _correlations(vectors: Array) -> Array:
    """Normalise A A^T to a unit diagonal; `vectors` has shape (n, 5, freedom)."""
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    return unit @ np.swapaxes(unit, 1, 2)


def draw_position_only(rng: np.random.Generator, magnitude: Array, share: float) -> Array:
    """Draw which stars have a two-parameter solution, mostly the faintest, (n,) bool.

    Args:
        rng: Random numbers.
        magnitude: G, shape (n,).
        share: Of the stars.
    """
    blurred = magnitude + POSITION_ONLY_SPREAD * rng.standard_normal(len(magnitude))
    return blurred > np.quantile(blurred, 1.0 - share)


def draw_noise(rng: np.random.Generator, errors: Array, correlations: Array) -> Array:
    """Draw errors of measurement from their covariance, shape (n, 5)."""
    lower = np.linalg.cholesky(correlations)
    normal = rng.standard_normal((len(errors), 5))
    return errors * np.einsum("nij,nj->ni", lower, normal)


def correlation_columns(correlations: Array) -> dict[str, Array]:
    """Return the ten Gaia columns of correlation matrices of shape (n, 5, 5)."""
    upper = np.triu_indices(len(AXES), k=1)
    return dict(zip(CORRELATIONS, correlations[:, upper[0], upper[1]].T, strict=True))


def photometric_errors(magnitude: Array) -> tuple[Array, Array]:
    """Return errors of G and BP-RP in magnitudes; the colour's reaches 0.2 at G = 20.5."""
    g = 0.003 + 0.002 * 10.0 ** (0.3 * (magnitude - 19.0))
    return g, np.hypot(0.01, 0.2 * 10.0 ** (0.4 * (magnitude - 20.5)))
