"""The network of Tijauna/apogee-vae (torch only)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.spectra.network import LOG_VARIANCE_RANGE, SpectraNetwork, stack


class ReferenceNetwork(SpectraNetwork):
    """Seven layers that halve the spectrum, their mirror, and GELU after every layer.

    With 7514 pixels, 3 labels and 28 latents: 7517-3757-1878-939-469-234-117-58, heads 58-28 for
    mean and log-variance, 31-58-117-234-469-939-1878-3757-7514; 75,305,765 parameters. The output
    passes GELU too, so that no flux is below -0.17. Unlike there, pixels that are not good enter
    as the mean spectrum, and flux is that of the continuum-normalised spectrum.

    Args:
        num_pixels: P.
        num_labels: L; a missing label is the training stars' mean.
        latent_dim: D.
        hidden_dims: Other widths of the encoder's layers.

    Raises:
        ValueError: If there is nothing left to halve.
    """

    def __init__(
        self,
        num_pixels: int,
        num_labels: int,
        latent_dim: int,
        hidden_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(num_pixels, num_labels, latent_dim, learned_default=False)
        widths = list(hidden_dims or [num_pixels // 2**level for level in range(1, 8)])
        if not widths[-1]:
            raise ValueError(
                f"model.network=reference halves model.num_pixels={num_pixels} seven times: give "
                "at least 128 pixels, or model.hidden_dims"
            )
        self.encoder = stack([num_pixels + num_labels, *widths])
        self.mean = nn.Linear(widths[-1], latent_dim)
        self.log_variance = nn.Linear(widths[-1], latent_dim)
        self.decoder = stack([latent_dim + num_labels, *widths[::-1], num_pixels])

    def encode(
        self, x: Tensor, weight: Tensor, u: Tensor, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | x, u), each (B, D)."""
        h = self.encoder(torch.cat([self.pixels.flux(x), u], dim=1))
        return self.mean(h).float(), self.log_variance(h).float().clamp(*LOG_VARIANCE_RANGE)

    def decode(self, latent: Tensor, u: Tensor, missing: Tensor) -> Tensor:
        """Return the standardised flux (B, P) of latents (B, D) and labels (B, L)."""
        flux: Tensor = self.decoder(torch.cat([latent, u], dim=1)).float()
        return (flux - self.pixels.flux_mean) / self.pixels.flux_scale
