"""The likelihood of stars under clusters and a field, with each star's own errors (torch only)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.clustering.mixture import symmetric
from lightning_modules.clustering.mixture.footprint import (
    Footprint,
    log_profile,
    radius_squared,
)

PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
"""Entries of a packed symmetric 3x3 matrix."""


class Stars(NamedTuple):
    """What the likelihood needs of stars, float64.

    Attributes:
        position: x, y in degrees, (n, 2).
        motion: u = parallax [mas], proper motions [mas/yr], (n, 3); 0 where unknown.
        covariance: Of u, packed as `PAIRS`, (n, 6); 0 where unknown.
        known: Which entries of u were measured, (n, 3) bool.
    """

    position: Tensor
    motion: Tensor
    covariance: Tensor
    known: Tensor

    @classmethod
    def of_batch(cls, features: Tensor, covariance: Tensor, good: Tensor | None = None) -> "Stars":
        """Return the stars of a batch.

        Args:
            features: x, y [deg], parallax [mas], proper motions [mas/yr], (n, 5); NaN is unknown.
            covariance: Of the five, (n, 5, 5).
            good: Which features are usable, (n, 5); the others are unknown whatever they are.
        """
        motion, matrix = features[:, 2:5].double(), covariance[:, 2:5, 2:5].double()
        finite = motion.isfinite() & matrix.diagonal(dim1=1, dim2=2).isfinite()
        if good is not None:
            finite &= good[:, 2:5]
        packed = torch.stack([matrix[:, i, j] for i, j in PAIRS], 1)
        both = torch.stack([finite[:, i] & finite[:, j] for i, j in PAIRS], 1)
        return cls(
            features[:, :2].double(),
            torch.where(finite, motion, 0.0),
            torch.where(both, packed, 0.0),
            finite,
        )

    def take(self, rows: Tensor | slice) -> "Stars":
        """Return some of the stars."""
        return Stars(*(values[rows] for values in self))


class Parameters(NamedTuple):
    """A mixture of K clusters and F field components, in physical units, float64.

    Attributes:
        weight: Shares of the stars, clusters first, (K + F,).
        centre: Of the clusters in degrees, (K, 2).
        shape: Entries xx, xy, yy of the profile's shape matrix A in square degrees, (K, 3).
        degrees: ν of the profile, (K,): 2 is Plummer's, γ - 2 is EFF's.
        mean: Parallax [mas] and proper motion [mas/yr], (K, 3).
        dispersion: Of the proper motions at the centre, σ [mas/yr], (K,).
        field_mean: (F, 3), as `mean`.
        field_covariance: Of the field's true u, packed as `PAIRS`, (F, 6).
        error_scale: η, the factor on all formal errors, ().
        slope: Gradient of the log of the field's sky density, per degree, (2,).
    """

    weight: Tensor
    centre: Tensor
    shape: Tensor
    degrees: Tensor
    mean: Tensor
    dispersion: Tensor
    field_mean: Tensor
    field_covariance: Tensor
    error_scale: Tensor
    slope: Tensor

    @classmethod
    def zeros(cls, num_clusters: int, num_field: int) -> "Parameters":
        """Return parameters that are all 0.

        Args:
            num_clusters: K.
            num_field: F.
        """
        k, f = num_clusters, num_field
        of_clusters = (k, 2), (k, 3), (k,), (k, 3), (k,)
        sizes: tuple[tuple[int, ...], ...] = (k + f,), *of_clusters, (f, 3), (f, 6), (), (2,)
        return cls(*(torch.zeros(size, dtype=torch.float64) for size in sizes))

    @property
    def num_clusters(self) -> int:
        """K."""
        return self.dispersion.shape[-1]

    def padded(self, num_clusters: int) -> "Parameters":
        """Return the same with zeros for clusters that are not there, up to a number of them."""
        k, missing = self.num_clusters, num_clusters - self.num_clusters
        first = {name: getattr(self, name) for name in OF_CLUSTERS}
        grown = {n: torch.cat([v, v.new_zeros(missing, *v.shape[1:])]) for n, v in first.items()}
        gap = self.weight.new_zeros(missing)
        weight = torch.cat([self.weight[:k], gap, self.weight[k:]])
        return self._replace(weight=weight, **grown)

    def used(self, num_clusters: int) -> "Parameters":
        """Return the same without the clusters beyond a number, the inverse of `padded`."""
        k = num_clusters
        first = {name: getattr(self, name)[:k] for name in OF_CLUSTERS}
        weight = torch.cat([self.weight[:k], self.weight[self.num_clusters :]])
        return self._replace(weight=weight, **first)

    @property
    def radius(self) -> Tensor:
        """Scale radius √(ν √|A|) in degrees, (K,): Plummer's a."""
        xx, xy, yy = self.shape.unbind(-1)
        return (self.degrees * (xx * yy - xy * xy).sqrt()).sqrt()


OF_CLUSTERS = ("centre", "shape", "degrees", "mean", "dispersion")
"""Parameters with a row for each cluster and none for the field."""


class Integrals(NamedTuple):
    """What normalises the sky densities inside the footprint.

    Attributes:
        log_share: Of each cluster's profile inside, (K,).
        log_sky: Log of the integral of exp(slope · x), ().
    """

    log_share: Tensor
    log_sky: Tensor

    @classmethod
    def of(cls, parameters: Parameters, footprint: Footprint) -> "Integrals":
        """Return the integrals for these parameters.

        Args:
            parameters: Of the mixture.
            footprint: The sky that was looked at.
        """
        profile = parameters.centre, parameters.shape, parameters.degrees
        return cls(footprint.log_share(*profile), footprint.log_integral(parameters.slope))


class Components(NamedTuple):
    """Parts of the densities of n stars under C = K + F components.

    Attributes:
        log_sky: Log density on the sky per square degree, (n, C).
        residual: u - m, three of (n, C); 0 where unknown.
        covariance: η² C_i + Σ, six of (n, C).
        squared: r² in the clusters' profiles, (n, K).
    """

    log_sky: Tensor
    residual: Sequence[Tensor]
    covariance: Sequence[Tensor]
    squared: Tensor


def components(parameters: Parameters, integrals: Integrals, stars: Stars) -> Components:
    """Return the parts of the densities.

    Every parameter may carry a leading axis of n, a copy for each star, so that one backward pass
    gives each star's own derivatives.

    Args:
        parameters: Of the mixture.
        integrals: That belong to them.
        stars: n of them.
    """
    p, count, field = parameters, len(stars.motion), parameters.field_mean.shape[-2]
    squared, log_determinant = radius_squared(stars.position, p.centre, p.shape)
    clusters = log_profile(squared, log_determinant, p.degrees) - integrals.log_share
    tilt = stars.position[:, 0] * p.slope[..., 0] + stars.position[:, 1] * p.slope[..., 1]
    sky = (tilt - integrals.log_sky)[:, None].expand(count, field)
    intrinsic = _intrinsic(p, 1.0 + squared / p.degrees, log_determinant)
    errors = (p.error_scale.square()[..., None] * stars.covariance)[:, :, None]
    wide = p.field_covariance.expand(count, field, 6)
    covariance = [
        errors[:, i] + torch.cat([intrinsic[i], wide[..., i]], 1) for i in range(len(PAIRS))
    ]
    means = torch.cat([p.mean, p.field_mean], -2)
    residual = [stars.motion[:, None, i] - means[..., i] for i in range(3)]
    if not bool(stars.known.all()):
        residual, covariance = marginalise(residual, covariance, stars.known)
    return Components(torch.cat([clusters, sky], 1), residual, covariance, squared)


def _intrinsic(p: Parameters, wide: Tensor, log_determinant: Tensor) -> list[Tensor]:
    """Return Σ_k of the clusters, six of (n, K); `wide` is 1 + r²/ν.

    Σ_k = diag(0, s², s²) + δ² m mᵀ: s² = σ² (1 + r²/ν)^(-1/2) is the dispersion, and δ the depth of
    a sphere along the line of sight over its distance: parallax and proper motion of a star fall
    alike with its distance. A Student-t of radius √|A| on the sky has δ² = √|A| (1 + r²/ν), in
    square radians.
    """
    falling = p.dispersion.square() * wide**-0.5
    depth = (0.5 * log_determinant).exp() * wide * math.radians(1.0) ** 2
    return [
        depth * p.mean[..., i] * p.mean[..., j] + (falling if i == j > 0 else 0.0) for i, j in PAIRS
    ]


def log_terms(
    parameters: Parameters, integrals: Integrals, stars: Stars, odds: Tensor | None = None
) -> Tensor:
    """Return log π_k + log S_k(x_i) + log N(u_i; m_k, η² C_i + Σ_k(r_i)), (n, K + F).

    What is unknown of u is marginalised, not imputed.

    Args:
        parameters: Of the mixture.
        integrals: That belong to them.
        stars: n of them.
        odds: Log of the factor on each share that a star's photometry gives, (n, K + F); the shares
            are then normalised star by star.
    """
    parts = components(parameters, integrals, stars)
    kinematic = symmetric.log_normal(parts.residual, parts.covariance)
    share = parameters.weight.clamp_min(1e-300).log()
    if odds is not None:
        share = (share + odds).log_softmax(1)
    return share + parts.log_sky + kinematic


def marginalise(
    residual: list[Tensor], covariance: list[Tensor], known: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Make the entries that are unknown count for nothing: log N(0; 0, 1 / 2π) = 0.

    Args:
        residual: Three of (n, C).
        covariance: Six of (n, C), as `PAIRS`.
        known: (n, 3) bool.
    """
    nothing = 0.5 / math.pi
    residual = [torch.where(known[:, i, None], r, 0.0) for i, r in enumerate(residual)]
    matrix = [
        torch.where((known[:, i] & known[:, j])[:, None], entry, nothing if i == j else 0.0)
        for (i, j), entry in zip(PAIRS, covariance, strict=True)
    ]
    return residual, matrix
