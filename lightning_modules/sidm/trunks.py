"""Convolutional networks from a scaled map to features (torch only).

The weights lie channels last, and pooling comes before activation and dropout: ELU rises
everywhere and Dropout2d multiplies a whole channel by a number >= 0, so that neither changes which
pixel is largest and the result is the same, for a quarter of the work.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class Trunk(nn.Module):
    """Base of the networks; `num_features` is the length of what they return."""

    num_features: int


class ReducedTrunk(Trunk):
    """Stages of 3×3 convolutions without padding, ELU and Dropout2d, with pooling between stages.

    Args:
        channels: Channels of a map.
        image_size: Height and width.
        widths: Channels of each stage.
        depths: Convolutions of each stage.
        dropout: Share of channels dropped after a convolution.

    Raises:
        ValueError: If the maps are too small.
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        widths: Sequence[int],
        depths: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        size = image_size
        self.stages = nn.ModuleList()
        for number, (a, b) in enumerate(pairwise([channels, *widths])):
            sizes = [a] + depths[number] * [b]
            self.stages.append(nn.ModuleList(nn.Conv2d(i, o, 3) for i, o in pairwise(sizes)))
            size = (size // 2 if number else size) - 2 * depths[number]
            if size < 1:
                raise_too_small(image_size, len(widths))
        self.dropout = nn.Dropout2d(dropout)
        self.num_features = widths[-1] * size**2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, size, size) to (B, num_features)."""
        for number, stage in enumerate(self.stages):
            assert isinstance(stage, nn.ModuleList)
            for place, conv in enumerate(stage):
                x = conv(x)
                if place == len(stage) - 1 and number < len(self.stages) - 1:
                    x = functional.max_pool2d(x, 2)
                x = self.dropout(functional.elu(x))
        return x.flatten(1)


class Inception(nn.Module):
    """Four branches beside each other: 1×1; 1×1 then 3×3; 1×1 then 5×5; maximum of 3×3 then 1×1.

    They make 1/4, 1/2, 1/8 and 1/8 of the channels; the narrow 1×1 before 3×3 and 5×5 have 3/8
    and 1/16. The three 1×1 of one input are one convolution. Edges are repeated (replicate
    padding). Each convolution is followed by ELU and Dropout2d, here once for all that end alike.

    Reference: Szegedy et al. 2015 (arXiv:1409.4842).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, a multiple of 16.
        dropout: Share of channels dropped after a convolution.
        pool: Halve the size, before ELU and dropout.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float, pool: bool) -> None:
        super().__init__()
        n = out_channels // 16
        self.splits = [4 * n, 6 * n, n]
        self.point = nn.Conv2d(in_channels, sum(self.splits), 1)
        self.conv3 = nn.Conv2d(6 * n, 8 * n, 3, padding=1, padding_mode="replicate")
        self.conv5 = nn.Conv2d(n, 2 * n, 5, padding=2, padding_mode="replicate")
        self.pooled = nn.Conv2d(in_channels, 2 * n, 1)
        self.dropout = nn.Dropout2d(dropout)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W), or half of H and W."""
        own, *narrow = self.point(x).split(self.splits, dim=1)
        for3, for5 = (self.dropout(functional.elu(part)) for part in narrow)
        near = functional.max_pool2d(x, 3, stride=1, padding=1)
        x = torch.cat([own, self.conv3(for3), self.conv5(for5), self.pooled(near)], dim=1)
        if self.pool:
            x = functional.max_pool2d(x, 2)
        return self.dropout(functional.elu(x))


class FullTrunk(Trunk):
    """Stages of Inception blocks with pooling between them; arguments as in `ReducedTrunk`."""

    def __init__(
        self,
        channels: int,
        image_size: int,
        widths: Sequence[int],
        depths: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        if bad := [width for width in widths if width % 16]:
            raise ValueError(f"model.widths {bad} of the full network must be multiples of 16")
        outputs = [width for width, depth in zip(widths, depths, strict=True) for _ in range(depth)]
        last = len(outputs) - 1
        ends = {sum(depths[: stage + 1]) - 1 for stage in range(len(depths))} - {last}
        self.blocks = nn.Sequential(
            *(
                Inception(a, b, dropout, number in ends)
                for number, (a, b) in enumerate(pairwise([channels, *outputs]))
            )
        )
        size = image_size >> len(ends)
        if not size:
            raise_too_small(image_size, len(widths))
        self.num_features = outputs[-1] * size**2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, size, size) to (B, num_features)."""
        return self.blocks(x).flatten(1)


class ConvNeXtBlock(nn.Module):
    """A residual block: 7×7 of each channel alone, LayerNorm, a hidden layer of four widths.

    Args:
        width: Channels.
        dropout: Share of the channels dropped before they are added.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-2))
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.contract(functional.gelu(self.expand(y)))
        added: Tensor = self.dropout(y.permute(0, 3, 1, 2))
        return x + added


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtTrunk(Trunk):
    """A small ConvNeXt: patches of 4×4, stages of blocks, 2×2 steps between, mean over pixels.

    Reference: Liu et al. 2022 (arXiv:2201.03545). Arguments as in `ReducedTrunk`.
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        widths: Sequence[int],
        depths: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        if image_size < 4 << (len(widths) - 1):
            raise_too_small(image_size, len(widths))
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 4), ChannelNorm(widths[0])]
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if number:
                before = widths[number - 1]
                layers += [ChannelNorm(before), nn.Conv2d(before, width, 2, 2)]
            layers += [ConvNeXtBlock(width, dropout) for _ in range(depth)]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(widths[-1])
        self.num_features = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, size, size) to (B, num_features)."""
        return self.norm(self.layers(x).mean(dim=(2, 3)))


def raise_too_small(image_size: int, stages: int) -> None:
    """Refuse maps that shrink to nothing.

    Args:
        image_size: Height and width.
        stages: Of the network.
    """
    raise ValueError(
        f"maps of {image_size} pixels are too small for {stages} stages; give model.widths and "
        "model.depths fewer of them"
    )
