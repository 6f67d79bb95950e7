"""Clusters that a search begins from: on a star, or about another cluster (torch only)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.clustering.mixture import symmetric
from lightning_modules.clustering.mixture.footprint import (
    Footprint,
    log_profile,
    radius_squared,
)
from lightning_modules.clustering.mixture.likelihood import PAIRS, Parameters, Stars, marginalise

SCALES = (0.03, 0.1, 0.3)
"""Radii of candidate clusters, in radii of the footprint."""
SHARES = (0.02, 0.1, 0.3, 0.6)
"""Shares of the stars that candidates have."""


@dataclass(frozen=True)
class Candidate:
    """A cluster to begin from.

    Attributes:
        gain: In mean log likelihood a star.
        centre: In degrees, (2,).
        mean: Parallax [mas] and proper motion [mas/yr], (3,).
        error: Of the mean, (3,).
        radius: Scale radius in degrees.
        variance: Of the motions, (mas/yr)².
        share: Of the stars.
    """

    gain: float
    centre: Tensor
    mean: Tensor
    error: Tensor
    radius: float
    variance: float
    share: float


def wide(parameters: Parameters) -> list[Candidate]:
    """Return for each cluster one of tenfold dispersion beside it, for badly measured members."""
    p = parameters
    return [
        Candidate(
            0.0, p.centre[k], p.mean[k], torch.zeros_like(p.mean[k]), float(p.radius[k]),
            float(100.0 * p.dispersion[k].square()), 0.2 * float(p.weight[k]),
        )
        for k in range(p.num_clusters)
    ]  # fmt: skip


def score(
    star: int, variance: float, before: Tensor, stars: Stars, footprint: Footprint
) -> list[Candidate]:
    """Return the clusters on a star, of every radius and share, with their gains.

    The gain is the mean of log(1 + w (f_c / f_0 - 1)): f_c is the density under the cluster, whose
    mean is known no better than the star's own motion, f_0 the density without it.

    Args:
        star: Row of the star.
        variance: Of the cluster's motions, (mas/yr)².
        before: log f_0, (n,).
        stars: n of them.
        footprint: The sky that was looked at.
    """
    depth = (math.radians(SCALES[1] * footprint.radius) * stars.motion[star]).tolist()
    covariance = [
        stars.covariance[:, entry, None]
        + stars.covariance[star, entry]
        + (depth[i] * depth[j] + (variance if i == j > 0 else 0.0))
        for entry, (i, j) in enumerate(PAIRS)
    ]
    residual = list((stars.motion - stars.motion[star])[:, None].unbind(-1))
    if not bool(stars.known.all()):
        residual, covariance = marginalise(residual, covariance, stars.known)
    moving = symmetric.log_normal(residual, covariance)[:, 0] - before
    unit = stars.position.new_tensor([[1.0, 0.0, 1.0]])
    squared = radius_squared(stars.position, stars.position[None, star], unit)[0][:, 0]
    error = stars.covariance[star, [0, 3, 5]].sqrt()
    place = stars.position[star], stars.motion[star], error
    found = []
    for scale in SCALES:
        area = (scale * footprint.radius) ** 2 / 2.0
        degrees, log_determinant = squared.new_tensor(2.0), squared.new_tensor(2 * math.log(area))
        sky = log_profile(squared / area, log_determinant, degrees)
        ratio = (sky + moving).clamp(max=50.0).exp() - 1.0
        for share in SHARES:
            gain = float(torch.log1p(share * ratio).mean())
            radius = scale * footprint.radius
            found.append(Candidate(gain, *place, radius, variance, share))
    return found
