"""What models of maps of galaxy clusters are scaled by, of the training maps alone."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_modules.nn.rings import max_normalised, num_rings, ring_index


def map_moments(batches: Iterable[dict[str, Tensor]], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Return moments of the square root of map over maximum in rings, and of the maximum.

    Sums are over good pixels, in float64, in one pass. Maps without a good positive pixel in a
    channel do not count there.

    Args:
        batches: With `map` (B, C, H, W) and `good` (B, H, W).
        shape: (C, H, W).

    Returns:
        `ring_mean`, `ring_std` (C, K) and `log_max_mean`, `log_max_std` (C,), float32, always
        finite: 0 and 1 for a ring in which no map has a good pixel, as the corners outside of a
        round footprint, and for a channel without any; deviation 1 where nothing varies.
    """
    pixels = torch.zeros(3, *shape, dtype=torch.float64)
    largest = torch.zeros(3, shape[0], dtype=torch.float64)
    for batch in batches:
        scaled, log_max = max_normalised(batch["map"], batch["good"])
        known = log_max.isfinite()
        used = batch["good"][:, None] & known[:, :, None, None]
        pixels += _power_sums(scaled.double().sqrt(), used)
        largest += _power_sums(log_max.double(), known)
    rings = torch.zeros(3, shape[0], num_rings(*shape[1:]), dtype=torch.float64)
    rings.index_add_(2, ring_index(*shape[1:]).flatten(), pixels.flatten(start_dim=2))
    (ring_mean, ring_std), (log_mean, log_std) = _moments(rings), _moments(largest)
    names = ("ring_mean", "ring_std", "log_max_mean", "log_max_std")
    return dict(zip(names, (ring_mean, ring_std, log_mean, log_std), strict=True))


def _power_sums(values: Tensor, used: Tensor) -> Tensor:
    """Return number, sum and sum of squares over the first axis of what is used."""
    values = torch.where(used, values, 0.0)
    return torch.stack([used.sum(dim=0).double(), values.sum(dim=0), values.square().sum(dim=0)])


def _moments(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Turn numbers, sums and sums of squares, (3, ...), into mean and deviation, float32."""
    count = sums[0].clamp(min=1)
    mean = sums[1] / count
    deviation = (sums[2] / count - mean.square()).clamp(min=0).sqrt()
    return mean.float(), torch.where(deviation > 1e-7, deviation, 1.0).float()
