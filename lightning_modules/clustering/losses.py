"""Losses of the clustering models (torch only)."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def reconstruction_error(x: Tensor, reconstruction: Tensor, good: Tensor) -> Tensor:
    """Return each object's mean squared error over its good features.

    e_i = Σ_f g_if (x_if - x̂_if)² / Σ_f g_if. Features that are not good carry no weight and no
    gradient, whatever they hold (NaN too); an object without a good feature has error 0.

    Args:
        x: Scaled features, shape (batch, features).
        reconstruction: x̂, shape (batch, features).
        good: Which features count, bool, shape (batch, features).

    Returns:
        Errors in scaled units, shape (batch,).
    """
    residual = torch.where(good, x, 0.0) - torch.where(good, reconstruction, 0.0)
    return residual.square().sum(dim=1) / good.sum(dim=1).clamp_min(1)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return the mean over objects of KL(P‖Q) = Σ_j p_ij log(p_ij / q_ij).

    The clustering loss of DEC and IDEC (Xie et al. 2016, eq. 2; Guo et al. 2017, eq. 8), as a mean
    over the batch so that its scale does not depend on the batch size.

    Args:
        p: Target distribution, shape (batch, clusters); carries no gradient.
        q: Memberships, shape (batch, clusters).

    Returns:
        A scalar.
    """
    p = p.detach()
    q = q.clamp_min(torch.finfo(q.dtype).tiny)
    return (torch.xlogy(p, p) - p * q.log()).sum(dim=1).mean()


def gaussian_log_likelihood(
    x: Tensor, reconstruction: Tensor, good: Tensor, log_noise: Tensor
) -> Tensor:
    """Return log p(x|z) = -½ Σ_f [((x_f - x̂_f)/s_f)² + log 2πs_f²] over good features.

    Args:
        x: Scaled features, shape (batch, features).
        reconstruction: x̂, shape (batch, features).
        good: Which features count, bool, shape (batch, features).
        log_noise: log s, shape (features,) or (batch, features).

    Returns:
        Log-likelihoods, shape (batch,).
    """
    residual = torch.where(good, x, 0.0) - torch.where(good, reconstruction, 0.0)
    terms = (residual / log_noise.exp()).square() + 2.0 * log_noise + math.log(2.0 * math.pi)
    return -0.5 * torch.where(good, terms, 0.0).sum(dim=1)


def zero_from(parameters: Iterable[Tensor]) -> Tensor:
    """Return 0 in such a way that the parameters get a gradient of zero.

    DDP demands a gradient of every parameter in every step; a phase uses only some.
    """
    return torch.stack([parameter.sum() for parameter in parameters]).sum() * 0.0


def weighted_sum(weights: Mapping[str, float], terms: Mapping[str, Tensor]) -> Tensor:
    """Return Σ_t w_t L_t over the weights' names.

    Args:
        weights: Name of a term to its weight.
        terms: Name to a scalar.
    """
    return torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()


class AdaptiveClusteringLoss(nn.Module):
    """Terms of a loss with learned weights: Σ_t [L_t / (2 s_t²) + log s_t].

    At the optimum s_t² = L_t, so that what counts of a term is its logarithm: a term that is hard
    to lower weighs little, one that is nearly met much. The terms must not be negative.

    Reference: Kendall, Gal & Cipolla 2018 (arXiv:1705.07115), eq. 7, with L_t for the squared
    error.

    Args:
        weights: First weight 1 / (2 s²) of each term.

    Raises:
        ValueError: If a weight is not positive.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        if bad := [name for name, weight in weights.items() if not weight > 0]:
            raise ValueError(f"learned weights start from positive ones; raise those of {bad}")
        self.log_scale = nn.ParameterDict(
            {name: torch.tensor(-0.5 * math.log(2.0 * value)) for name, value in weights.items()}
        )

    def forward(self, weights: Mapping[str, float], terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss, a scalar.

        Args:
            weights: Its names say which terms count; the values are not used.
            terms: Name to a scalar.
        """
        scales = {name: self.log_scale[name] for name in weights}
        parts = [0.5 * (-2.0 * s).exp() * terms[name] + s for name, s in scales.items()]
        return torch.stack(parts).sum() + zero_from(self.log_scale.values())
