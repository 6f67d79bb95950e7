"""Astrometric errors as covariance matrices: built, rotated into a frame, inflated (numpy)."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from sklearn.neighbors import KDTree

from lightning_modules.physics.arrays import Array

AXES = ("ra", "dec", "parallax", "pmra", "pmdec")
"""Order of the five astrometric parameters in every covariance matrix."""

CORRELATIONS = tuple(f"{first}_{second}_corr" for first, second in combinations(AXES, 2))
"""The ten correlation columns of Gaia, row by row of the upper triangle."""

MAS_PER_DEG = 3.6e6


def correlation_matrix(columns: Mapping[str, Array]) -> Array:
    """Build the correlations of (ra, dec, parallax, pmra, pmdec); a column not there counts as 0.

    Returns:
        Shape (n, 5, 5), float64.
    """
    matrix = np.tile(np.eye(5), (len(columns["parallax_error"]), 1, 1))
    for (i, j), name in zip(combinations(range(5), 2), CORRELATIONS, strict=True):
        if name in columns:
            matrix[:, i, j] = matrix[:, j, i] = columns[name]
    return matrix


def covariance_matrix(columns: Mapping[str, Array]) -> Array:
    """Build C_ij = rho_ij sigma_i sigma_j of (ra, dec, parallax, pmra, pmdec).

    Returns:
        Shape (n, 5, 5), float64, in products of mas and mas/yr.
    """
    errors = np.stack([columns[f"{axis}_error"] for axis in AXES], axis=1).astype(np.float64)
    return correlation_matrix(columns) * errors[:, :, None] * errors[:, None, :]


def rotate_covariance(covariance: Array, jacobian: Array) -> Array:
    """Turn a covariance of (ra, dec, parallax, pmra, pmdec) into the frame: C' = J C J^T.

    Args:
        covariance: Shape (n, 5, 5).
        jacobian: Shape (n, 2, 2); acts on positions and on proper motions.

    Returns:
        Covariance of (x, y, parallax, mu_x, mu_y), units unchanged, shape (n, 5, 5).
    """
    full = np.zeros_like(covariance)
    full[:, :2, :2] = full[:, 3:, 3:] = jacobian
    full[:, 2, 2] = 1.0
    return full @ covariance @ np.swapaxes(full, 1, 2)


def positions_to_degrees(covariance: Array) -> Array:
    """Bring the position rows and columns of a covariance from mas to degrees."""
    scale = np.array([1 / MAS_PER_DEG, 1 / MAS_PER_DEG, 1.0, 1.0, 1.0])
    return covariance * scale[:, None] * scale[None, :]


def inflation_factor(density: Array, slope: float, scale: float = 10.0) -> Array:
    """Return the factor on formal errors: (1 + Sigma / Sigma_0)^slope.

    Formal errors are 10 to 20 % too small in dense cores (Vasiliev & Baumgardt 2021, sect. 3;
    slope about 0.04 and Sigma_0 about 10 / arcmin^2).

    Args:
        density: Sigma, stars per square arcminute, shape (n,).
        slope: Power of the density term; 0 for none.
        scale: Sigma_0.
    """
    return (1.0 + density / scale) ** slope


def local_density(x: Array, y: Array, neighbours: int = 10) -> Array:
    """Estimate the stars per square arcminute around each star: (k - 1) / (pi r_k^2).

    The factor k - 1 makes the mean right for a uniform field.

    Args:
        x: East, degrees.
        y: North, degrees.
        neighbours: k; fewer where the field has fewer stars.
    """
    points = np.stack([x, y], axis=1) * 60.0
    k = min(neighbours, len(points) - 1)
    if k < 2:
        return np.zeros(len(points))
    radius = KDTree(points).query(points, k=k + 1)[0][:, -1]
    return (k - 1) / (np.pi * np.maximum(radius, 1e-4) ** 2)
