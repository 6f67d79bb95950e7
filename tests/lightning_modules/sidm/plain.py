"""The paper's networks as published: convolution, ELU, Dropout2d, then pooling; 1×1 one by one."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_modules.sidm.network import Classifier, Encoder
from lightning_modules.sidm.trunks import Inception


def activated(conv: nn.Conv2d, dropout: float) -> nn.Sequential:
    """A convolution, ELU and Dropout2d."""
    return nn.Sequential(conv, nn.ELU(), nn.Dropout2d(dropout))


class PlainInception(nn.Module):
    """The four branches, each convolution with its own activation."""

    def __init__(self, a: int, b: int, dropout: float) -> None:
        super().__init__()

        def conv(i: int, o: int, size: int) -> nn.Sequential:
            same = nn.Conv2d(i, o, size, padding=size // 2, padding_mode="replicate")
            return activated(same, dropout)

        self.point = conv(a, b // 4, 1)
        self.near = nn.Sequential(conv(a, 3 * b // 8, 1), conv(3 * b // 8, b // 2, 3))
        self.far = nn.Sequential(conv(a, b // 16, 1), conv(b // 16, b // 8, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(a, b // 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.point(x), self.near(x), self.far(x), self.pooled(x)], dim=1)


class PlainNetwork(nn.Module):
    """Encoder and classifier of the paper for one channel and four classes."""

    def __init__(self, features: nn.Sequential, num_features: int, dropout: float) -> None:
        super().__init__()
        self.features = features
        self.hidden = nn.Sequential(nn.Linear(num_features, 256), nn.SELU(), nn.Dropout(dropout))
        self.latent = nn.Linear(256, 7)
        self.head = nn.Sequential(
            nn.Linear(7, 64), nn.SELU(), nn.Dropout(dropout), nn.Linear(64, 4)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.latent(self.hidden(self.features(x).flatten(1)))
        return latent, self.head(latent)


def plain_reduced(dropout: float = 0.1) -> PlainNetwork:
    """The reduced network for maps of 100 pixels."""
    layers: list[nn.Module] = []
    for a, b in pairwise((1, 8, 16, 32, 64, 128)):
        layers += [activated(nn.Conv2d(a, b, 3), dropout), nn.MaxPool2d(2)]
    return PlainNetwork(nn.Sequential(*layers[:-1]), 512, dropout)


def plain_full(dropout: float = 0.05, image_size: int = 100) -> PlainNetwork:
    """The full network."""
    layers: list[nn.Module] = []
    stages = (1, 64), (64, 128), (128, 256, 256), (256, 256, 256), (256, 256, 256)
    for stage in stages:
        layers += [PlainInception(a, b, dropout) for a, b in pairwise(stage)] + [nn.MaxPool2d(2)]
    layers.pop()
    return PlainNetwork(nn.Sequential(*layers), 256 * (image_size // 16) ** 2, 0.0)


def in_the_order_of_ours(plain: PlainNetwork) -> list[nn.Module]:
    """Layers with weights; the three 1×1 of a block come first, then 3×3, 5×5 and the last 1×1."""
    found: list[nn.Module] = []
    for layer in plain.features:
        if isinstance(layer, PlainInception):
            pairs = layer.point, layer.near[0], layer.far[0], layer.near[1], layer.far[1]
            found += [pair[0] for pair in (*pairs, layer.pooled[1])]  # type: ignore[index]
        elif isinstance(layer, nn.Sequential):
            found.append(layer[0])
    return [*found, plain.hidden[0], plain.latent, plain.head[0], plain.head[3]]


@torch.no_grad()
def give_weights(plain: PlainNetwork, encoder: Encoder, classifier: Classifier) -> None:
    """Copy the plain network's weights into ours."""
    theirs = in_the_order_of_ours(plain)
    fused = {id(m.point) for m in encoder.modules() if isinstance(m, Inception)}
    for part in (encoder.trunk, encoder.hidden, encoder.latent, classifier):
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                sources = [theirs.pop(0) for _ in range(3 if id(layer) in fused else 1)]
                for name in ("weight", "bias"):
                    whole = torch.cat([getattr(source, name) for source in sources])
                    getattr(layer, name).copy_(whole)
    assert not theirs
