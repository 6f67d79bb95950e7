"""Closed-form algebra of symmetric 3x3 matrices, element by element over any batch (torch only).

A matrix is its six entries (00, 01, 02, 11, 12, 22), each a tensor of the batch's shape; a vector
is its three entries. Many tiny matrices are far faster so than by batched linear algebra.
"""

import math
from collections.abc import Sequence

from torch import Tensor

Entries = Sequence[Tensor]
TINY = 1e-12


def log_normal(residual: Entries, covariance: Entries) -> Tensor:
    """Return log N(residual; 0, covariance), by Cholesky, of the batch's shape.

    Args:
        residual: Three entries.
        covariance: Six entries, positive definite.
    """
    xx, xy, xz, yy, yz, zz = covariance
    a = xx.clamp_min(TINY).sqrt()
    b, d = xy / a, xz / a
    c = (yy - b * b).clamp_min(TINY).sqrt()
    e = (yz - d * b) / c
    f = (zz - d * d - e * e).clamp_min(TINY).sqrt()
    x = residual[0] / a
    y = (residual[1] - b * x) / c
    z = (residual[2] - d * x - e * y) / f
    return -0.5 * (x * x + y * y + z * z) - (a * c * f).log() - 1.5 * math.log(2.0 * math.pi)


def inverse(matrix: Entries) -> Entries:
    """Return the inverse of a positive definite matrix by its cofactors."""
    xx, xy, xz, yy, yz, zz = matrix
    a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    factor = 1.0 / (xx * a + xy * b + xz * c)
    d, e, f = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    return [entry * factor for entry in (a, b, c, d, e, f)]


def times(matrix: Entries, vector: Entries) -> Entries:
    """Return the product of a matrix and a vector.

    Args:
        matrix: Six entries.
        vector: Three entries.
    """
    xx, xy, xz, yy, yz, zz = matrix
    x, y, z = vector
    return [xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z]


def sandwich(outer: Entries, inner: Entries) -> Entries:
    """Return outer inner outer, which is symmetric.

    Args:
        outer: Six entries.
        inner: Six entries.
    """
    xx, xy, xz, yy, yz, zz = outer
    rows = (xx, xy, xz), (xy, yy, yz), (xz, yz, zz)
    left = [times(inner, row) for row in rows]
    pairs = (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)
    return [
        left[i][0] * rows[j][0] + left[i][1] * rows[j][1] + left[i][2] * rows[j][2]
        for i, j in pairs
    ]
