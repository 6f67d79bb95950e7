"""Networks and assignments of the deep-embedded-clustering family (torch only)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_modules.nn.mlp import MLP, Variant

LOG_VARIANCE_RANGE = (-12.0, 12.0)  # beyond it a first step with large inputs overflows


class AutoencoderNet(nn.Module):
    """Encoder and mirrored decoder with linear latent and linear output.

    Args:
        num_features: Width of the data.
        hidden_dims: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent_dim: Width of the latent space.
        batch_norm: Normalise hidden layers over the batch.
        dropout: Dropout in the hidden layers.
        variant: `plain`, `residual` or `attention` (see `MLP`; attention acts in the encoder).
        gradient_checkpointing: Recompute the hidden layers in the backward pass.
    """

    codes_per_latent: ClassVar[int] = 1
    """Outputs of the encoder for each latent."""

    def __init__(
        self,
        num_features: int,
        hidden_dims: Sequence[int],
        latent_dim: int,
        batch_norm: bool = True,
        dropout: float = 0.0,
        variant: Variant = "plain",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        code_dim, mirrored = self.codes_per_latent * latent_dim, list(hidden_dims)[::-1]
        norms, last = (batch_norm, dropout), gradient_checkpointing
        self.encoder = MLP(num_features, hidden_dims, code_dim, *norms, variant, last)
        variant = "plain" if variant == "attention" else variant
        self.decoder = MLP(latent_dim, mirrored, num_features, *norms, variant, last)

    def encode(self, x: Tensor) -> Tensor:
        """Map scaled features (batch, features) to the latent (batch, latent)."""
        latent: Tensor = self.encoder(x)
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Map the latent (batch, latent) to scaled features (batch, features)."""
        reconstruction: Tensor = self.decoder(latent)
        return reconstruction


class VariationalNet(AutoencoderNet):
    """The same with a mean and a log-variance of each latent, and the noise of the data.

    The likelihood is Gaussian with one learnt standard deviation a feature (Rybkin et al. 2021,
    arXiv:2006.13202), `log_noise`, in scaled units.

    Args:
        num_features: Width of the data.
        *others: The other arguments of `AutoencoderNet`.
        **named: Likewise, by name.
    """

    codes_per_latent = 2

    def __init__(self, num_features: int, *others: Any, **named: Any) -> None:
        super().__init__(num_features, *others, **named)
        self.log_noise = nn.Parameter(torch.zeros(num_features))

    def encode(self, x: Tensor) -> Tensor:
        """Return the mean of q(z|x), (batch, latent), of scaled features (batch, features)."""
        return self.posterior(x)[0]

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), each (batch, latent)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return reconstruction of a sampled latent, mean and log-variance.

        In eval mode the latent is the mean, so that evaluation is reproducible.
        """
        mean, log_variance = self.posterior(x)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        return self.decode(mean + torch.exp(0.5 * log_variance) * noise), mean, log_variance


def soft_assignment(latent: Tensor, centres: Tensor, alpha: float = 1.0) -> Tensor:
    """Return Student's-t memberships of objects in clusters.

    q_ij ∝ (1 + |z_i - μ_j|²/α)^(-(α+1)/2), normalised over the clusters j. Computed by its
    logarithm, so that far objects do not underflow.

    Reference: Xie, Girshick & Farhadi 2016 (arXiv:1511.06335), eq. 1.

    Args:
        latent: z, shape (batch, latent).
        centres: μ, shape (clusters, latent).
        alpha: α, degrees of freedom.

    Returns:
        q, shape (batch, clusters).
    """
    latent = latent.to(torch.promote_types(latent.dtype, torch.float32))
    difference = latent.unsqueeze(1) - centres.unsqueeze(0)  # (batch, clusters, latent)
    squared = difference.square().sum(dim=-1)
    return torch.softmax(-0.5 * (alpha + 1.0) * torch.log1p(squared / alpha), dim=1)


def target_distribution(q: Tensor, balance: bool = True, frequency: Tensor | None = None) -> Tensor:
    """Return the sharpened memberships that self-training aims at.

    p_ij ∝ q_ij² / F_j, normalised over the clusters j, with the soft frequencies F_j = Σ_i q_ij
    over **all** objects (eq. 3 of Xie et al. 2016). Dividing by F_j evens out cluster sizes, which
    breaks rare clusters; without it p_ij ∝ q_ij².

    Args:
        q: Memberships, shape (objects, clusters).
        balance: Divide by the frequencies.
        frequency: F of another (the training) set, any scale, shape (clusters,); that of `q`
            if not given.

    Returns:
        p, shape (objects, clusters).
    """
    weight = q.square()
    if balance:
        frequency = q.sum(dim=0) if frequency is None else frequency
        weight = weight / frequency.clamp_min(torch.finfo(q.dtype).tiny)
    return weight / weight.sum(dim=1, keepdim=True)
