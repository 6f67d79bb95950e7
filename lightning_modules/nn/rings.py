"""Rings of radius about the centre of a map, and maps over their maximum (torch only)."""

import torch
from torch import Tensor

PROFILE_FLOOR = 1e-4
"""Added to map/max before the logarithm of a profile."""
TEXTURE_FLOOR = 1e-12
"""Added to a mean square before its logarithm."""
SOFTENING = 2.0
"""Pixels added to the radius before the rings of a profile are spaced in its logarithm."""


def radius(height: int, width: int) -> Tensor:
    """Return each pixel's distance from the centre in pixels, shape (H, W).

    Args:
        height: H.
        width: W.
    """
    rows = torch.arange(height) - (height - 1) / 2
    columns = torch.arange(width) - (width - 1) / 2
    return torch.hypot(rows[:, None], columns)


def ring_index(height: int, width: int) -> Tensor:
    """Return the ring of each pixel, int64, shape (H, W).

    Rings begin at radii 0, 1, ... 12, 14, ... 30, 35, 40, ... pixels.

    Args:
        height: H.
        width: W.
    """
    r = radius(height, width)
    return torch.where(r < 12, r, torch.where(r < 30, 6 + r / 2, 15 + r / 5)).long()


def num_rings(height: int, width: int) -> int:
    """Return the number of rings, the index of the outermost plus one.

    Args:
        height: H.
        width: W.
    """
    return int(ring_index(height, width).max()) + 1


def usable_pixels(maps: Tensor, good: Tensor) -> Tensor:
    """Return which pixels of each channel are good and finite, shape (B, C, H, W) bool.

    Args:
        maps: Shape (B, C, H, W).
        good: Shape (B, H, W) bool.
    """
    return good.unsqueeze(1) & (maps.abs() < torch.inf)  # a third of the time of isfinite


def max_normalised(maps: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps over the maximum of their good pixels, and its logarithm.

    Args:
        maps: Shape (B, C, H, W); what is not finite is not good.
        good: Shape (B, H, W) bool.

    Returns:
        Values in [0, 1], 0 where not good or negative, shape (B, C, H, W), and log10 of the
        maximum, NaN where no good pixel is positive, shape (B, C).
    """
    positive = torch.where(usable_pixels(maps, good), maps, 0.0).clamp_min(0.0)
    maximum = positive.amax(dim=(2, 3))
    lit = maximum > 0
    scaled = positive / torch.where(lit, maximum, 1.0)[..., None, None]
    return scaled, torch.where(lit, maximum, torch.nan).log10()


def profile_rings(height: int, width: int, count: int) -> Tensor:
    """Return which pixels are in each ring of a profile, float32 of 0 and 1, shape (H W, count).

    Rings are evenly spaced in log(r + 2 pixels), out to half of the shorter side.

    Args:
        height: H.
        width: W.
        count: Rings.

    Raises:
        ValueError: If a ring holds no pixel.
    """
    inside = _inside_rings(height, width, count)
    if not inside.any(dim=0).all():
        raise ValueError(
            f"{count} rings are too many for maps of {height} x {width} pixels: some would be "
            "empty; lower the number of rings"
        )
    return inside.float()


def most_profile_rings(height: int, width: int, most: int) -> int:
    """Return the largest number of rings of a profile none of which is empty.

    Args:
        height: H.
        width: W.
        most: Returned at most.
    """
    counts = range(most, 0, -1)
    return next(n for n in counts if _inside_rings(height, width, n).any(dim=0).all())


def _inside_rings(height: int, width: int, count: int) -> Tensor:
    """Return which pixels are in each ring of a profile, bool, shape (H W, count)."""
    reach = min(height, width) / 2
    edges = SOFTENING * torch.linspace(0, 1, count + 1).mul(_log(1 + reach / SOFTENING)).expm1()
    r = radius(height, width).flatten().unsqueeze(1)
    return (r >= edges[:-1]) & (r < edges[1:])


def ring_sums(values: Tensor, rings: Tensor) -> Tensor:
    """Return sums over the pixels of rings, shape (B, C, K).

    Args:
        values: Shape (B, C, P).
        rings: 0 or 1, shape (P, K).
    """
    sums = (rings.mT @ values.flatten(0, 1).mT).mT  # a quarter of the time of values @ rings
    return sums.view(*values.shape[:2], -1)


def radial_profile(scaled: Tensor, good: Tensor, rings: Tensor) -> Tensor:
    """Return mean and standard deviation of log10(map/max + 1e-4) over the good pixels of rings.

    Args:
        scaled: Of `max_normalised`, shape (B, C, H, W).
        good: Shape (B, H, W) bool.
        rings: Of `profile_rings`, shape (H W, K).

    Returns:
        For each channel K means, then K deviations, NaN where a ring has no good pixel; shape
        (B, 2 C K).
    """
    with torch.autocast(scaled.device.type, enabled=False):
        usable = good.flatten(1).unsqueeze(1).to(scaled.dtype)  # (B, 1, H W)
        logs = (scaled.flatten(2) + PROFILE_FLOOR).log10() * usable
        count = ring_sums(usable, rings)
        mean = ring_sums(logs, rings) / count
        variance = ring_sums(logs.square(), rings) / count - mean.square()
        return torch.cat([mean, variance.clamp_min(1e-8).sqrt()], dim=2).flatten(1)


def texture_profile(scaled: Tensor, good: Tensor, rings: Tensor) -> Tensor:
    """Return log10 of the mean squared gradient and Laplacian over the good pixels of rings.

    They tell small-scale structure, particle noise and smoothing, which mean and scatter do not.

    Args:
        scaled: Of `max_normalised`, shape (B, C, H, W).
        good: Shape (B, H, W) bool; a pixel counts if its four neighbours are good, too.
        rings: Of `profile_rings`, shape (H W, K).

    Returns:
        For each channel K gradients, then K Laplacians, in units of a pixel, NaN where a ring has
        no good pixel; shape (B, 2 C K).
    """
    with torch.autocast(scaled.device.type, enabled=False):
        middle = slice(1, -1)
        x, left, right, up, down = (
            scaled[..., rows, columns]
            for rows, columns in (
                (middle, middle),
                (middle, slice(None, -2)),
                (middle, slice(2, None)),
                (slice(None, -2), middle),
                (slice(2, None), middle),
            )
        )
        gradient = ((right - left).square() + (down - up).square()) / 4
        laplacian = (left + right + up + down - 4 * x).square()
        inside = good[:, 1:-1, 1:-1] & good[:, 1:-1, :-2] & good[:, 1:-1, 2:]
        inside = inside & good[:, :-2, 1:-1] & good[:, 2:, 1:-1]
        usable = inside.flatten(1).unsqueeze(1).to(scaled.dtype)
        own = rings.view(*good.shape[1:], -1)[1:-1, 1:-1].flatten(0, 1)
        count = ring_sums(usable, own)
        powers = [
            (ring_sums(power.flatten(2) * usable, own) / count + TEXTURE_FLOOR).log10()
            for power in (gradient, laplacian)
        ]
        return torch.cat(powers, dim=2).flatten(1)


def _log(value: float) -> Tensor:
    """Return the natural logarithm as a tensor."""
    return torch.tensor(value).log()
