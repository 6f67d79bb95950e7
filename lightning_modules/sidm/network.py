"""Networks of compact clustering: encoder, classifier, decoder (torch only)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_modules.nn.mlp import BatchNorm
from lightning_modules.nn.rings import profile_rings, radial_profile, texture_profile
from lightning_modules.sidm.trunks import ConvNeXtTrunk, FullTrunk, ReducedTrunk, Trunk

NetworkName = Literal["reduced", "full", "convnext"]


class Design(NamedTuple):
    """What a network is made of where the user does not say."""

    trunk: type[Trunk]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    dropout: float
    dense_dropout: float


DESIGNS = {
    "reduced": Design(ReducedTrunk, (8, 16, 32, 64, 128), (1, 1, 1, 1, 1), 0.1, 0.1),
    "full": Design(FullTrunk, (64, 128, 256, 256, 256), (1, 1, 2, 2, 2), 0.05, 0.0),
    "convnext": Design(ConvNeXtTrunk, (32, 64, 128, 256), (2, 2, 4, 2), 0.0, 0.1),
}
"""The networks of Tregidga et al. 2025, and a small ConvNeXt."""


class Encoder(nn.Module):
    """From a scaled map to its latent: trunk, a hidden layer with SELU, a linear layer.

    Two things can join the trunk's features: the map's radial profile, normalised over the batch,
    and its norms. They also reach the latent by a linear shortcut, so that the discriminants of the
    profile need not be learned through the hidden layer.

    Args:
        network: Which trunk.
        channels: Channels of a map.
        image_size: Height and width in pixels.
        latent_dim: Z.
        widths: Channels of each stage; the network's own if None.
        depths: Layers of each stage; the network's own if None.
        hidden_dim: Width of the hidden layer.
        dropout: Share of channels dropped in the trunk; the network's own if None.
        profile_rings: Rings of the profile; 0 leaves it out.
        norms: Whether the norms join.

    Raises:
        ValueError: If the sizes do not fit.
    """

    def __init__(
        self,
        network: NetworkName,
        channels: int,
        image_size: int,
        latent_dim: int,
        widths: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        hidden_dim: int = 256,
        dropout: float | None = None,
        profile_rings: int = 0,
        norms: bool = False,
    ) -> None:
        super().__init__()
        design = DESIGNS[network]
        widths = design.widths if widths is None else widths
        depths = design.depths if depths is None else depths
        check_sizes(widths, depths)
        sizes = channels, image_size, list(widths), list(depths)
        self.trunk = design.trunk(*sizes, design.dropout if dropout is None else dropout)
        self.profile = RadialProfile(channels, image_size, profile_rings) if profile_rings else None
        self.norms = norms
        beside = (self.profile.num_features if self.profile else 0) + norms * channels
        self.hidden = nn.Linear(self.trunk.num_features + beside, hidden_dim)
        self.dropout = nn.Dropout(design.dense_dropout if dropout is None else dropout)
        self.latent = nn.Linear(hidden_dim, latent_dim)
        self.shortcut = nn.Linear(beside, latent_dim, bias=False) if beside else None
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, fraction: Tensor, norms: Tensor, good: Tensor) -> Tensor:
        """Return the latent, float32 also under autocast, shape (B, Z).

        Args:
            x: Scaled map, shape (B, C, H, W).
            fraction: Map over its maximum, shape (B, C, H, W).
            norms: Standardised log10 of the maximum, shape (B, C).
            good: Shape (B, H, W) bool.
        """
        beside = [] if self.profile is None else [self.profile(fraction, good)]
        beside += [norms] if self.norms else []
        features = [self.trunk(x.contiguous(memory_format=torch.channels_last)), *beside]
        hidden = self.dropout(functional.selu(self.hidden(torch.cat(features, dim=1))))
        with torch.autocast(x.device.type, enabled=False):
            latent: Tensor = self.latent(hidden.to(self.latent.weight.dtype))
            if self.shortcut is not None:
                latent = latent + self.shortcut(torch.cat(beside, dim=1))
            return latent

    def profile_of(self, fraction: Tensor, good: Tensor) -> Tensor:
        """Return the normalised radial profile alone, shape (B, F); F is 0 without one.

        Args:
            fraction: Map over its maximum, shape (B, C, H, W).
            good: Shape (B, H, W) bool.
        """
        if self.profile is None:
            return fraction.new_zeros(len(fraction), 0)
        profile: Tensor = self.profile(fraction, good)
        return profile

    @property
    def num_profile(self) -> int:
        """Numbers F of the radial profile."""
        return 0 if self.profile is None else self.profile.num_features


class RadialProfile(nn.Module):
    """Mean, scatter, gradient and Laplacian of map/max in rings, normalised over the batch.

    Args:
        channels: C.
        image_size: Height and width in pixels.
        count: Rings K.
    """

    rings: Tensor

    def __init__(self, channels: int, image_size: int, count: int) -> None:
        super().__init__()
        rings = profile_rings(image_size, image_size, count)
        self.register_buffer("rings", rings, persistent=False)
        self.num_features = 4 * channels * count
        self.norm = BatchNorm(self.num_features, affine=False)

    def forward(self, fraction: Tensor, good: Tensor) -> Tensor:
        """Return the profile, shape (B, 4 C K); rings without good pixels are at the mean.

        Args:
            fraction: Map over its maximum, shape (B, C, H, W).
            good: Shape (B, H, W) bool.
        """
        parts = [f(fraction, good, self.rings) for f in (radial_profile, texture_profile)]
        profile = torch.cat(parts, dim=1)
        assert self.norm.running_mean is not None
        return self.norm(torch.where(profile.isfinite(), profile, self.norm.running_mean))


class Classifier(nn.Module):
    """From the latent to logits of the classes, linear at its end.

    Args:
        latent_dim: Z.
        hidden_dim: Width of the hidden layer.
        num_classes: C.
        dropout: Dropout of the hidden layer.
    """

    def __init__(self, latent_dim: int, hidden_dim: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(latent_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_dim, num_classes)

    def forward(self, latent: Tensor) -> Tensor:
        """Map (B, Z) to (B, C), float32 also under autocast."""
        with torch.autocast(latent.device.type, enabled=False):
            return self.output(self.dropout(functional.selu(self.hidden(latent))))


class Decoder(nn.Module):
    """From the latent to the scaled map: a linear layer and four transposed convolutions.

    Args:
        latent_dim: Z.
        channels: Channels of a map.
        image_size: Height and width in pixels.
        width: Channels of the first of them; halved by each.
    """

    def __init__(self, latent_dim: int, channels: int, image_size: int, width: int = 64) -> None:
        super().__init__()
        self.image_size, self.start = image_size, -(-image_size // 16)
        widths = [width >> step for step in range(4)]
        self.width = width
        self.first = nn.Linear(latent_dim, width * self.start**2)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)
            for a, b in pairwise([*widths, channels])
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Map (B, Z) to (B, channels, image_size, image_size)."""
        x = self.first(latent).view(-1, self.width, self.start, self.start)
        for up in self.ups:
            x = up(functional.elu(x))
        return x[..., : self.image_size, : self.image_size]


def bottleneck(latent: Tensor, step: int) -> Tensor:
    """Return latents with all but the first k + 1 numbers at 0, k drawn from 1 ... Z - 1.

    One k for a step, on all processes and in a resumed training alike.

    Later numbers are trained more rarely, so that the earlier ones carry more (Ho et al. 2023,
    arXiv:2305.11213). Zeros add nothing to the products z_i · z_j.

    Args:
        latent: Shape (B, Z), Z at least 2.
        step: Of the optimizer; fixes k.
    """
    size = latent.shape[1]
    last = int(torch.randint(1, size, (), generator=torch.Generator().manual_seed(step)))
    return latent * (torch.arange(size, device=latent.device) <= last)


def check_sizes(widths: Sequence[int], depths: Sequence[int]) -> None:
    """Refuse lists of stages that do not fit.

    Args:
        widths: Of the stages.
        depths: Likewise.

    Raises:
        ValueError: Naming the arguments.
    """
    if len(widths) != len(depths) or not widths or min(*widths, *depths) < 1:
        raise ValueError(
            f"model.widths={list(widths)} and model.depths={list(depths)} must have one number "
            ">= 1 for each stage; set both"
        )
