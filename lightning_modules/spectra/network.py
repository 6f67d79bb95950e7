"""Networks of the spectra VAE: what they share, and the default with its linear skip (torch only).

Networks work in standard units: flux as x = (flux - mean) / scale, labels as u. Inputs are 0 where
a pixel is not good, with weight 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_modules.spectra.labels import LabelScaling, monomials
from lightning_modules.spectra.linear_posterior import linear_posterior
from lightning_modules.spectra.output_layer import pixel_sum
from lightning_modules.spectra.pixels import PixelScaling, row_blocks

LOG_VARIANCE_RANGE = (-20.0, 6.0)
PULL_LIMIT = 10.0  # of the trunk's input, in σ; the linear path sees the whole residual


class SpectraNetwork(nn.Module, ABC):
    """Base of networks: holds the scaling of pixels and labels.

    Args:
        num_pixels: P.
        num_labels: L.
        latent_dim: D.
        learned_default: Whether missing labels get a learned default.
    """

    def __init__(
        self, num_pixels: int, num_labels: int, latent_dim: int, learned_default: bool
    ) -> None:
        super().__init__()
        self.num_labels, self.latent_dim = num_labels, latent_dim
        self.pixels = PixelScaling(num_pixels)
        self.labels = LabelScaling(num_labels, learned_default)

    @abstractmethod
    def encode(
        self, x: Tensor, weight: Tensor, u: Tensor, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | x, u), each (B, D).

        Args:
            x: Standardised flux, shape (B, P), 0 where not good.
            weight: Its inverse variance, shape (B, P), 0 where not good.
            u: Standardised labels, defaults where missing, shape (B, L).
            missing: Which are missing, bool, shape (B, L).
        """

    @abstractmethod
    def decode(self, latent: Tensor, u: Tensor, missing: Tensor) -> Tensor:
        """Return the standardised flux (B, P) of latents (B, D) and labels (B, L)."""

    def trunks(self) -> list[nn.Module]:
        """Return the stacks of layers, for compilation."""
        return [module for module in self.children() if isinstance(module, nn.Sequential)]


class SkipNetwork(SpectraNetwork):
    """A linear Gaussian model, its exact posterior, and a trunk each way for what is not linear.

    Decoder: y = b + φ(u) R + z W + trunk([z, u]). Encoder: the posterior of the linear part given
    the residual x - b - φ(u) R (see `linear_posterior`), so that masks and errors are treated
    exactly, plus corrections by a trunk that sees the residual in units of its error. The trunks'
    last layers start at 0, so that training starts from the linear model. The posterior follows
    the decoder's W and sends no gradient to it.

    Args:
        num_pixels: P.
        num_labels: L.
        latent_dim: D.
        hidden_dims: Widths of the encoder's trunk; the decoder's mirrors it.
    """

    def __init__(
        self, num_pixels: int, num_labels: int, latent_dim: int, hidden_dims: Sequence[int]
    ) -> None:
        super().__init__(num_pixels, num_labels, latent_dim, learned_default=True)
        self.num_monomials = monomials(torch.zeros(0, num_labels)).shape[1]
        self.skip = nn.Linear(self.num_monomials + latent_dim, num_pixels)  # R, W and b
        self.encoder_input = PixelLinear(num_pixels, hidden_dims[0])
        self.encoder_labels = label_layer(num_labels, hidden_dims[0])
        self.encoder = stack(hidden_dims)
        self.posterior = zeroed(nn.Linear(hidden_dims[-1], 2 * latent_dim))
        mirrored = list(hidden_dims)[::-1]
        self.decoder_input = nn.Linear(latent_dim, mirrored[0])
        self.decoder_labels = label_layer(num_labels, mirrored[0])
        self.decoder = stack(mirrored)
        self.decoder_output = zeroed(nn.Linear(mirrored[-1], num_pixels, bias=False))
        nn.init.normal_(self.skip.weight, std=1e-3)
        nn.init.zeros_(self.skip.bias)

    @property
    def latent_map(self) -> Tensor:
        """W, shape (D, P), without gradient."""
        return self.skip.weight[:, self.num_monomials :].detach().mT.contiguous()

    @torch.no_grad()
    def assign_linear(self, bias: Tensor, label_map: Tensor, latent_map: Tensor) -> None:
        """Take b (P,), R (F, P) and W (D, P)."""
        self.skip.bias.copy_(bias)
        self.skip.weight.copy_(torch.cat([label_map, latent_map]).mT)

    @torch.no_grad()
    def shift_latents(self, slopes: Tensor) -> None:
        """Give the decoder an affine function of the labels that the latents are to lose.

        With z' = z - [1, u] slopes, `decode(z', u)` afterwards is `decode(z, u)` before, and the
        linear part of the encoder returns z' (its prior, too, is that of z').

        Args:
            slopes: Shape (1 + L, D).
        """
        first = slice(0, self.num_labels)  # the linear monomials
        latent_weight = self.skip.weight[:, self.num_monomials :]  # (P, D)
        self.skip.bias.add_(latent_weight @ slopes[0])
        self.skip.weight[:, first].add_(latent_weight @ slopes[1:].mT)
        self.decoder_input.bias.add_(self.decoder_input.weight @ slopes[0])
        self.decoder_labels.weight[:, first].add_(self.decoder_input.weight @ slopes[1:].mT)

    @torch.no_grad()
    def residual(self, x: Tensor, u: Tensor) -> Tensor:
        """Return x - b - φ(u) R, shape (B, P), in float32."""
        with torch.autocast(x.device.type, enabled=False):
            label_map = self.skip.weight[:, : self.num_monomials]
            base = functional.linear(monomials(u), label_map, self.skip.bias)
            return torch.sub(x, base, out=base)

    def encode(
        self, x: Tensor, weight: Tensor, u: Tensor, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | x, u), each (B, D)."""
        residual = self.residual(x, u)
        linear_mean, covariance = linear_posterior(residual, weight, self.latent_map)
        for own, own_weight in row_blocks(residual, weight):  # in place: pulls, in σ
            own.mul_(own_weight.sqrt()).clamp_(-PULL_LIMIT, PULL_LIMIT)
        h = self.encoder_input(residual) + self.encoder_labels(indicated(u, missing))
        mean, log_variance = self.posterior(self.encoder(functional.gelu(h))).float().chunk(2, 1)
        linear_log_variance = covariance.diagonal(dim1=-2, dim2=-1).log()
        return linear_mean + mean, (linear_log_variance + log_variance).clamp(*LOG_VARIANCE_RANGE)

    def decode(self, latent: Tensor, u: Tensor, missing: Tensor) -> Tensor:
        """Return the standardised flux (B, P) of latents (B, D) and labels (B, L)."""
        h = self.decoder_input(latent) + self.decoder_labels(indicated(u, missing))
        bent = self.decoder(functional.gelu(h))
        straight = torch.cat([monomials(u), latent.float()], dim=1)
        return pixel_sum(
            straight, self.skip.weight, self.skip.bias, bent, self.decoder_output.weight
        )


class PixelLinear(nn.Module):
    """A linear layer on pixels whose weight has the pixels first.

    On CPUs the gradient of a weight (P, width) is faster than that of (width, P).

    Args:
        num_pixels: P.
        width: Of the output.
    """

    def __init__(self, num_pixels: int, width: int) -> None:
        super().__init__()
        bound = num_pixels**-0.5
        self.weight = nn.Parameter(torch.empty(num_pixels, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, P) to (B, width)."""
        return torch.addmm(self.bias, x, self.weight)


def indicated(u: Tensor, missing: Tensor) -> Tensor:
    """Return labels beside indicators of those missing, shape (B, 2L)."""
    return torch.cat([u, missing.to(u.dtype)], dim=1)


def label_layer(num_labels: int, width: int) -> nn.Linear:
    """Return a layer for `indicated` labels; indicators start at weight 0.

    A model that never saw a label missing thus answers as if the default were measured.
    """
    layer = nn.Linear(2 * num_labels, width, bias=False)
    if num_labels:
        bound = (6.0 / (num_labels + width)) ** 0.5
        nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.zeros_(layer.weight[:, num_labels:])
    return layer


def stack(widths: Sequence[int]) -> nn.Sequential:
    """Return linear layers with GELU after each."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.GELU()]
    return nn.Sequential(*layers)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """Return the layer with all its parameters 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
