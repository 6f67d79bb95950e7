"""Rings about the centre of a map, and maps over their maxima."""

import torch
from torch import Tensor

STEPS = ((0, 12, 1), (12, 30, 2))
"""First and last radius and width of the inner rings, in pixels; further out they are 5 wide."""


def ring_index(height: int, width: int) -> Tensor:
    """Return the number of each pixel's ring, (height, width) int64; 0 is the centre.

    Args:
        height: Rows of the map.
        width: Columns of the map.
    """
    row, column = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    radius = torch.hypot(row[:, None], column[None, :])
    edges = [edge for first, last, step in STEPS for edge in range(first + step, last + 1, step)]
    edges += range(35, 5 * (height + width), 5)
    return torch.bucketize(radius, torch.tensor(edges, dtype=radius.dtype), right=True)


def num_rings(height: int, width: int) -> int:
    """Return the number of rings of a map.

    Args:
        height: Rows of the map.
        width: Columns of the map.
    """
    return int(ring_index(height, width).max()) + 1


def max_normalised(maps: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
    """Divide each channel of each map by its maximum over good pixels.

    Args:
        maps: Shape (B, C, H, W), anything where not good.
        good: Shape (B, H, W) bool.

    Returns:
        The maps in 0..1, negative and bad pixels 0; log10 of the maxima, (B, C), NaN where no good
        pixel is positive.
    """
    positive = torch.where(good[:, None], maps, 0.0).clamp(min=0)
    largest = positive.amax(dim=(2, 3))
    scaled = positive / torch.where(largest > 0, largest, 1.0)[:, :, None, None]
    return scaled, torch.where(largest > 0, largest.log10(), torch.nan)
