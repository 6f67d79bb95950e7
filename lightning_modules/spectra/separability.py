"""Separability losses: what drives the injected labels out of the latents (torch only).

Each measures how much the latent means tell of the labels and returns (value, training term); the
term's gradient is that of weight times value. Only stars with all their labels count.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_modules.metrics.discrepancy import hsic
from lightning_modules.metrics.information import (
    mutual_information_of_covariance,
    optimal_shrinkage,
)
from lightning_modules.spectra.moments import RunningMoments, covariance_of, moments_of

Separability = Literal["gaussian_mi", "cross_correlation", "hsic", "adversary", "none"]
Sum = Callable[[Tensor], Tensor]
Terms = tuple[Tensor, Tensor]
"""Value and training term."""


class SeparabilityLoss(nn.Module, ABC):
    """Base of the losses.

    Args:
        latent_dim: D.
        num_labels: L.
        weight: Weight of the training term; 0 measures only.
        momentum: Share of the running moments kept at each step.
    """

    def __init__(self, latent_dim: int, num_labels: int, weight: float, momentum: float) -> None:
        super().__init__()
        self.latent_dim, self.num_labels, self.weight = latent_dim, num_labels, weight

    @abstractmethod
    def forward(self, mean: Tensor, u: Tensor, counts: Tensor, summed: Sum) -> Terms:
        """Return value and training term, scalars.

        Args:
            mean: Latent means, shape (B, D).
            u: Standardised labels, shape (B, L).
            counts: Which stars count, bool, shape (B,).
            summed: Sums a tensor over processes, with gradient.
        """


class NoSeparability(SeparabilityLoss):
    """Measures nothing."""

    def forward(self, mean: Tensor, u: Tensor, counts: Tensor, summed: Sum) -> Terms:
        """Return zeros."""
        zero = mean.new_zeros(())
        return zero, zero


class MomentSeparability(SeparabilityLoss):
    """Base of losses of the covariance of (z, u), over all processes and, in training, past steps.

    The running covariance makes small batches do: its value is used, its gradient is that of the
    batch at hand at full size. Evaluation uses the batch alone.
    """

    def __init__(self, latent_dim: int, num_labels: int, weight: float, momentum: float) -> None:
        super().__init__(latent_dim, num_labels, weight, momentum)
        self.running = RunningMoments(latent_dim + num_labels, momentum)

    @abstractmethod
    def value(self, covariance: Tensor, num_samples: Tensor) -> Tensor:
        """Return the loss of a covariance (D + L, D + L) from so many independent stars."""

    def forward(self, mean: Tensor, u: Tensor, counts: Tensor, summed: Sum) -> Terms:
        """Return value and training term, scalars."""
        moments = summed(moments_of(torch.cat([mean.float(), u], dim=1), counts))
        num_samples = moments[0, 0].detach()
        if self.training:
            moments, num_samples = self.running(moments)
        value = self.value(covariance_of(moments), num_samples).float()
        enough = (num_samples > 2).to(value)  # else the moments are noise
        value = torch.where(enough > 0, value, 0.0)
        return value.detach(), self.weight * value


class GaussianInformation(MomentSeparability):
    """Mutual information of latents and labels as if jointly Gaussian, shrunk, bias-corrected."""

    def value(self, covariance: Tensor, num_samples: Tensor) -> Tensor:
        """Return I(z; u) in nats; may be slightly negative for independent ones."""
        shrinkage = optimal_shrinkage(covariance, num_samples)
        return mutual_information_of_covariance(covariance, self.latent_dim, shrinkage, num_samples)


class CrossCorrelation(MomentSeparability):
    """1/2 Σ ρ² over all pairs of latent and label: their information in nats where it is small."""

    def value(self, covariance: Tensor, num_samples: Tensor) -> Tensor:
        """Return half the sum of squared correlations."""
        scale = covariance.diagonal().clamp_min(torch.finfo(covariance.dtype).tiny).rsqrt()
        cross = (covariance * scale * scale[:, None])[: self.latent_dim, self.latent_dim :]
        return 0.5 * cross.square().sum()


class KernelAlignment(SeparabilityLoss):
    """HSIC(z, u) / √(HSIC(z, z) HSIC(u, u)) of this process's batch: also what is not linear.

    Kornblith et al. 2019 (arXiv:1905.00414), eq. 2, with the unbiased HSIC of Song et al. 2012:
    0 to 1, or slightly negative. Not in nats.
    """

    def forward(self, mean: Tensor, u: Tensor, counts: Tensor, summed: Sum) -> Terms:
        """Return value and training term, scalars; 0 with fewer than eight stars."""
        mean, u = mean[counts], u[counts]
        if len(mean) < 8:
            zero = 0.0 * mean.sum()
            return zero.detach(), zero
        norm = (hsic(mean, mean) * hsic(u, u)).clamp_min(1e-12).sqrt()
        value = (hsic(mean, u) / norm).float()
        return value.detach(), self.weight * value


class Adversary(SeparabilityLoss):
    """A small network that predicts the labels from the latents, which learn to fool it.

    Value: 1/2 Σ_l log(variance of u_l / mean squared error of its prediction), a lower bound of
    the Gaussian information in nats; negative while the adversary does worse than the mean. The
    gradient on its way to the latents is reversed and weighted (Ganin & Lempitsky 2015,
    arXiv:1409.7495), so that both train in one optimizer.
    """

    def __init__(self, latent_dim: int, num_labels: int, weight: float, momentum: float) -> None:
        super().__init__(latent_dim, num_labels, weight, momentum)
        self.net = nn.Sequential(
            nn.Linear(latent_dim, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(),
            nn.Linear(64, num_labels),
        )  # fmt: skip

    def forward(self, mean: Tensor, u: Tensor, counts: Tensor, summed: Sum) -> Terms:
        """Return value and training term, scalars."""
        reversed_mean: Tensor = _ReverseGradient.apply(mean.float(), self.weight)
        prediction = self.net(reversed_mean).float()
        share = (counts / counts.sum().clamp_min(1)).unsqueeze(1)
        error = (share * (prediction - u).square()).sum(dim=0)
        variance = (share * (u - (share * u).sum(dim=0)).square()).sum(dim=0)
        missed = 0.5 * ((error + 1e-6) / (variance + 1e-6)).log().sum()  # what the adversary lowers
        value = -missed.detach()
        return value, missed + value + self.weight * value


class _ReverseGradient(torch.autograd.Function):
    """The identity, with a gradient of the opposite sign times a weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        """Return x."""
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient reversed."""
        return -ctx.weight * gradients[0], None


SEPARABILITIES: dict[str, type[SeparabilityLoss]] = {
    "gaussian_mi": GaussianInformation,
    "cross_correlation": CrossCorrelation,
    "hsic": KernelAlignment,
    "adversary": Adversary,
    "none": NoSeparability,
}
