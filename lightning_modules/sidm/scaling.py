"""Scaling of maps to a network's input (torch only)."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.nn.rings import max_normalised, num_rings, ring_index, usable_pixels

Scaling = Literal["radial", "max", "log", "asinh"]
SOFTENING = 0.03
"""Part of the maximum at which `asinh` turns from linear to logarithmic."""
SAME_PIXELS = 0.01
"""Pixels whose sides differ by less than this share are alike."""
LEAST_STD = 1e-3
"""A ring that varies less over the training split is divided by this."""


class MapScaling(nn.Module):
    """Maps over their maximum, x in [0, 1], to an input of about unit variance.

    - `radial`: (√x - m_k) / s_k with the mean m_k and standard deviation s_k of √x in the ring k
      of the pixel over the training split, so that the steep mean profile does not hide what
      differs from map to map.
    - `max`: x, as Tregidga et al. 2025.
    - `log`: (log10(x + 1e-3) + 1.8) / 0.6.
    - `asinh`: asinh(x / 0.03) / asinh(1 / 0.03).

    Pixels that are not good are 0 after scaling. The statistics are buffers, and so is what the
    pixels of the training were: `pixel_scale` in kpc and `channel` (C,), see `differs_from`.

    Args:
        scaling: Which of them.
        channels: C.
        image_size: Height and width in pixels.
    """

    ring: Tensor
    ring_mean: Tensor
    ring_std: Tensor
    log_max_mean: Tensor
    log_max_std: Tensor
    pixel_scale: Tensor
    channel: Tensor

    def __init__(self, scaling: Scaling, channels: int, image_size: int) -> None:
        super().__init__()
        self.scaling = scaling
        rings = channels, num_rings(image_size, image_size)
        self.register_buffer("ring", ring_index(image_size, image_size), persistent=False)
        self.register_buffer("ring_mean", torch.zeros(rings))
        self.register_buffer("ring_std", torch.ones(rings))
        self.register_buffer("log_max_mean", torch.zeros(channels))
        self.register_buffer("log_max_std", torch.ones(channels))
        self.register_buffer("pixel_scale", torch.tensor(math.nan))
        self.register_buffer("channel", torch.full((channels,), -1))

    def assign(self, statistics: Mapping[str, Tensor]) -> None:
        """Take `ring_mean`, `ring_std` (C, K) and `log_max_mean`, `log_max_std` (C,) of the data.

        Also `pixel_scale` () and `channel` (C,).

        Raises:
            ValueError: If they are not finite.
        """
        for name in ("ring_mean", "ring_std", "log_max_mean", "log_max_std"):
            values = statistics[name]
            if not values.isfinite().all():
                raise ValueError(
                    f"{name} of the training split is not finite; mend the datamodule's "
                    "training_statistics, which give 0 and 1 for rings without good pixels"
                )
            least = LEAST_STD if name.endswith("std") else -math.inf
            getattr(self, name).copy_(values.clamp_min(least))
        self.pixel_scale.copy_(statistics["pixel_scale"])
        self.channel.copy_(statistics["channel"])

    @property
    def is_fitted(self) -> bool:
        """Whether the statistics of a training are there."""
        return bool(self.pixel_scale.isfinite())

    def differs_from(self, pixels: Mapping[str, Tensor]) -> str:
        """Return how other maps differ from those of the training; "" if they do not, to 1 %.

        Args:
            pixels: `pixel_scale` () in kpc and `channel` (C,), positions in total, xray, stars.
        """
        own, found = float(self.pixel_scale), float(pixels["pixel_scale"])
        if abs(found / own - 1) > SAME_PIXELS:
            return f"pixels of {own:g} kpc, not {found:g}"
        channels, others = self.channel.tolist(), pixels["channel"].tolist()
        if channels != others:
            return f"channels {channels} of total, xray and stars (0, 1, 2), not {others}"
        return ""

    def forward(self, maps: Tensor, good: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the network's input, maps over their maximum, and the norms.

        Args:
            maps: Shape (B, C, H, W).
            good: Shape (B, H, W) bool.

        Returns:
            Input and map/max, both (B, C, H, W), and log10 of the maximum, standardised over the
            training split, 0 where unknown, (B, C).
        """
        fraction, log_max = max_normalised(maps, good)
        norms = ((log_max - self.log_max_mean) / self.log_max_std).nan_to_num(0.0)
        return torch.where(usable_pixels(maps, good), self._scaled(fraction), 0.0), fraction, norms

    def _scaled(self, x: Tensor) -> Tensor:
        """Return map/max after the chosen scaling."""
        if self.scaling == "radial":
            root = x.clamp_min(1e-12).sqrt()  # whose slope at 0 is finite, for saliency
            return (root - self.ring_mean[:, self.ring]) / self.ring_std[:, self.ring]
        if self.scaling == "log":
            return ((x + 1e-3).log10() + 1.8) / 0.6
        if self.scaling == "asinh":
            return (x / SOFTENING).asinh() / math.asinh(1 / SOFTENING)
        return x
