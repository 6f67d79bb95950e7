"""Information of Gaussian variables: mutual information and total correlation (torch, in nats).

Covariances are shrunk as correlations, so that the units of the variables play no role, and the
positive bias of finite samples is taken off. Everything is differentiable and done in float64.
"""

import torch
from torch import Tensor

FLOOR = 1e-9
"""Shrinkage below which a singular matrix would give an infinity: caps the answers near 10 nat."""


def gaussian_mutual_information(
    x: Tensor, y: Tensor, shrinkage: float | None = 0.0, bias_correction: bool = True
) -> Tensor:
    """Return the mutual information of two blocks of variables as if jointly Gaussian, in nats.

    I(x; y) = -1/2 (ln det R - ln det R_xx - ln det R_yy) with R the joint correlation matrix. The
    estimate from N independent rows is too high by about p q / (2 N) (Bartlett 1938 for the next
    order), which is taken off: for independent variables the mean over samples is then zero, and
    single estimates may be negative.

    Args:
        x: Shape (N, p); a constant column counts as independent of all.
        y: Shape (N, q).
        shrinkage: Weight of the identity in the correlation matrix, 0 to 1; None chooses it from
            the data (`optimal_shrinkage`).
        bias_correction: Whether to take off the bias of the finite sample.

    Returns:
        A float64 scalar.
    """
    joint = torch.cat([x, y], 1).double()
    covariance = _covariance(joint)
    weight = optimal_shrinkage(covariance, len(joint)) if shrinkage is None else shrinkage
    count = len(joint) if bias_correction else None
    return mutual_information_of_covariance(covariance, x.shape[1], weight, count)


def mutual_information_of_covariance(
    covariance: Tensor,
    num_first: int,
    shrinkage: float | Tensor = 0.0,
    num_samples: float | Tensor | None = None,
) -> Tensor:
    """Return the Gaussian mutual information of the first variables with the others, in nats.

    Args:
        covariance: Of all variables, shape (p + q, p + q).
        num_first: p.
        shrinkage: Weight of the identity in the correlation matrix, 0 to 1.
        num_samples: Independent rows that the covariance was estimated from (of a running
            estimate, its effective number), to take off the bias; None leaves the bias in.

    Returns:
        A float64 scalar.
    """
    whole = shrunk_correlation(covariance, shrinkage)
    first, second = whole[:num_first, :num_first], whole[num_first:, num_first:]
    information = 0.5 * (_log_det(first) + _log_det(second) - _log_det(whole))
    if num_samples is None:
        return information
    p, q = (_degrees_of_freedom(block, shrinkage) for block in (first, second))
    effective = (num_samples - 1 - (p + q + 1) / 2).clamp_min(1.0)
    return information - p * q / (2 * effective)


def total_correlation(x: Tensor) -> Tensor:
    """Return the total correlation of variables as if jointly Gaussian, -1/2 ln det R, in nats.

    The estimate from N independent rows is too high by about d (d - 1) / (4 N) (Bartlett 1954 for
    the next order), which is taken off.

    Args:
        x: Shape (N, d).

    Returns:
        A float64 scalar.
    """
    count, size = x.shape
    result = -0.5 * _log_det(shrunk_correlation(_covariance(x.double())))
    return result - size * (size - 1) / (4 * max(count - 1 - (2 * size + 5) / 6, 1.0))


def shrunk_correlation(covariance: Tensor, shrinkage: float | Tensor = 0.0) -> Tensor:
    """Return (1 - s) R + s 1 in float64, with R the correlation matrix of a covariance.

    A variable without variance gets correlation 0 with all others, and 1 with itself.

    Args:
        covariance: Shape (d, d).
        shrinkage: s, 0 to 1; at least 1e-9 is used.
    """
    covariance = covariance.double()
    scale = covariance.diagonal().clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
    off = covariance - torch.diag(covariance.diagonal())
    weight = torch.as_tensor(shrinkage, dtype=torch.float64, device=covariance.device)
    identity = torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
    return identity + (1 - weight.clamp_min(FLOOR)) * (off * scale * scale[:, None])


def optimal_shrinkage(covariance: Tensor, num_samples: float | Tensor) -> Tensor:
    """Return the weight of the identity with the least expected squared error, 0 to 1.

    Sum of the sampling variances of the correlations, (1 - r^2)^2 / (N - 1), over the sum of their
    squares (Ledoit & Wolf 2003; Schaefer & Strimmer 2005).

    Args:
        covariance: Estimated from the samples, shape (d, d).
        num_samples: N.

    Returns:
        A float64 scalar without gradient.
    """
    correlation = shrunk_correlation(covariance.detach())
    off = correlation[~torch.eye(len(correlation), dtype=torch.bool, device=correlation.device)]
    count = torch.as_tensor(num_samples - 1.0).clamp_min(1.0)
    variance = (1 - off.square()).square().sum() / count
    return (variance / off.square().sum().clamp_min(FLOOR)).clamp(0.0, 1.0)


def _covariance(x: Tensor) -> Tensor:
    """Return the unbiased covariance of the columns, shape (d, d)."""
    centred = x - x.mean(0)
    return centred.mT @ centred / max(len(x) - 1, 1)


def _log_det(matrix: Tensor) -> Tensor:
    """Return the logarithm of the determinant of a positive definite matrix."""
    return torch.linalg.slogdet(matrix).logabsdet


def _degrees_of_freedom(shrunk: Tensor, shrinkage: float | Tensor) -> Tensor:
    """Return how many variables a shrunk block counts for: d - s tr(block^-1), no gradient."""
    inverse = torch.linalg.inv(shrunk.detach())
    return len(shrunk) - shrinkage * inverse.diagonal().sum()
