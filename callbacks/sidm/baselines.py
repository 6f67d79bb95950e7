"""The radial profile of maps, what an observer would measure without a network."""

import numpy as np
from torch import Tensor

from lightning_modules.nn.rings import (
    max_normalised,
    most_profile_rings,
    profile_rings,
    radial_profile,
)

NUM_RINGS = 10


def profile_features(maps: Tensor, good: Tensor) -> Tensor:
    """Return the log profiles of maps over their maximum, shape (B, 2 C K), K = 10 rings.

    For each channel the means, then the scatters, of log10(map/max + 1e-4) in rings; NaN where a
    ring has no good pixel. Small maps have fewer rings, see `baseline_rings`.

    Args:
        maps: Shape (B, C, H, W).
        good: Shape (B, H, W) bool.
    """
    scaled, _ = max_normalised(maps, good)
    height, width = maps.shape[-2:]
    rings = baseline_rings(height, width).to(maps.device)
    return radial_profile(scaled, good, rings)


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
        features: Of `profile_features`, shape (n, 2 C K).
        num_channels: C.
    """
    return features.reshape(len(features), num_channels, 2, -1)[:, :, 0]
