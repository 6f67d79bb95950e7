"""The radial profile of maps and their texture, what an observer would measure by hand."""

import numpy as np
import torch
from torch import Tensor

from lightning_modules.nn.rings import (
    max_normalised,
    most_profile_rings,
    profile_rings,
    radial_profile,
    texture_profile,
)

NUM_RINGS = 10


def profile_features(maps: Tensor, good: Tensor) -> Tensor:
    """Return the log profiles and textures of maps over their maximum, shape (B, 4 C K), K = 10.

    First, for each channel, the means, then the scatters, of log10(map/max + 1e-4) in rings; then,
    for each channel, the gradients and Laplacians of `texture_profile`; NaN where a ring has no
    good pixel. Small maps have fewer rings, see `baseline_rings`.

    Args:
        maps: Shape (B, C, H, W).
        good: Shape (B, H, W) bool.
    """
    scaled, _ = max_normalised(maps, good)
    height, width = maps.shape[-2:]
    rings = baseline_rings(height, width).to(maps.device)
    parts = [measure(scaled, good, rings) for measure in (radial_profile, texture_profile)]
    return torch.cat(parts, dim=1)


def baseline_rings(height: int, width: int) -> Tensor:
    """Return the rings of the profile, ten if none of them is empty, see `profile_rings`.

    Args:
        height: H.
        width: W.
    """
    return profile_rings(height, width, most_profile_rings(height, width, NUM_RINGS))


def mean_profiles(features: np.ndarray, num_channels: int) -> np.ndarray:
    """Return the log-mean profile of each channel, shape (n, C, K).

    Args:
        features: Of `profile_features`, shape (n, 4 C K).
        num_channels: C.
    """
    return features.reshape(len(features), 2, num_channels, 2, -1)[:, 0, :, 0]
