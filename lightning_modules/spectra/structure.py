"""Structure losses: what shapes the latents into a standard normal (torch only).

Each takes a `Posterior` of a batch and gives a scalar. KL and the KL in the sums are nats a star
and means over the batch, so that weights mean the same at any batch size.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_modules.losses.divergence import gaussian_kl
from lightning_modules.metrics.discrepancy import mmd_to_normal

Structure = Literal["kl", "mmd", "beta_tc", "dip"]


class Posterior(NamedTuple):
    """Posteriors of a batch.

    mean: of q(z | x), shape (B, D).
    log_variance: of q(z | x), shape (B, D).
    latent: a draw of q in training, the mean in evaluation, shape (B, D).
    """

    mean: Tensor
    log_variance: Tensor
    latent: Tensor


def kl(posterior: Posterior, free_nats: float, penalty: float) -> Tensor:
    """Return KL(q ‖ N(0, 1)), a latent's mean over the batch counting at least `free_nats` nats.

    Kingma et al. 2016 (arXiv:1606.04934), eq. 15.
    """
    divergence = gaussian_kl(posterior.mean, posterior.log_variance).mean(dim=0)  # (D,)
    return divergence.clamp_min(free_nats).sum() if free_nats else divergence.sum()


def mmd(posterior: Posterior, free_nats: float, penalty: float) -> Tensor:
    """Return `penalty` times the squared maximum mean discrepancy of the latents to N(0, 1).

    Without KL: the variational autoencoder of Zhao et al. 2017 (arXiv:1706.02262, InfoVAE) with
    α = 1. The estimate is unbiased and may be negative; a batch of one star gives 0.
    """
    if len(posterior.latent) < 2:
        return 0.0 * posterior.latent.sum()
    return penalty * mmd_to_normal(posterior.latent).float()


def beta_tc(posterior: Posterior, free_nats: float, penalty: float) -> Tensor:
    """Return KL + `penalty` times the total correlation KL(q(z) ‖ Π_d q(z_d)).

    Chen et al. 2018 (arXiv:1802.04942) with β = 1 + `penalty`; the gradient is that of their
    minibatch-weighted sampling. q(z) is the mixture of the batch's posteriors, each star counting
    for its own density too: an estimate that is too high, by less for larger batches, where the
    latents tell more than log B nats of a star.
    """
    divergence = kl(posterior, free_nats, penalty)
    return divergence + penalty * total_correlation_of_mixture(posterior)


def dip(posterior: Posterior, free_nats: float, penalty: float) -> Tensor:
    """Return KL + `penalty` times Σ_i≠j C_ij² + Σ_i (C_ii - 1)², C the covariance of the means.

    DIP-VAE-I (Kumar, Sattigeri & Balakrishnan 2018, arXiv:1711.00848, eq. 6) with one weight. What
    a sample of B normal stars adds, (tr C² + tr² C) / (B - 1), is taken off, so that the penalty
    means the same at any batch size.
    """
    centred = posterior.mean - posterior.mean.mean(dim=0)
    degrees = max(len(centred) - 1, 1)
    covariance = centred.mT @ centred / degrees
    identity = torch.eye(len(covariance), device=covariance.device)
    bias = (covariance.square().sum() + covariance.trace().square()) / degrees
    deviation = (covariance - identity).square().sum() - bias
    return kl(posterior, free_nats, penalty) + penalty * deviation


def total_correlation_of_mixture(posterior: Posterior) -> Tensor:
    """Return the mean over latents z_n of log q(z_n) - Σ_d log q(z_nd), in nats."""
    mean, log_variance, latent = posterior
    squared = (latent.unsqueeze(1) - mean).square() * (-log_variance).exp()
    density = -0.5 * (squared + log_variance + math.log(2.0 * math.pi))  # (B, B, D): n under m
    joint = density.sum(dim=2).logsumexp(dim=1) - math.log(len(mean))
    marginal = (density.logsumexp(dim=1) - math.log(len(mean))).sum(dim=1)
    return (joint - marginal).mean()


STRUCTURES: dict[str, Callable[[Posterior, float, float], Tensor]] = {
    "kl": kl,
    "mmd": mmd,
    "beta_tc": beta_tc,
    "dip": dip,
}
