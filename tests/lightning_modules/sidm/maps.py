"""Cored maps of three known simulations and a hidden one, and small models."""

from typing import Any

import torch
from torch import Tensor

from lightning_modules import CompactClustering
from lightning_modules.nn.rings import max_normalised, num_rings, radius, ring_index

SIZE = 24
CROSS_SECTIONS = (0.0, 1.0, 0.3, 0.1)
"""Of the simulations; the last is hidden."""
LABELS = {"known_label": torch.tensor(CROSS_SECTIONS[:3]), "num_hidden": torch.tensor(1)}
PIXELS = {"pixel_scale": torch.tensor(20.0), "channel": torch.tensor([0])}
SMALL: dict[str, Any] = {
    "image_size": SIZE,
    "widths": [4, 8],
    "depths": [1, 1],
    "hidden_dim": 16,
    "head_dim": 8,
    "latent_dim": 3,
    "profile_rings": 3,
    "num_reference": 8,
    "warmup_steps": 0,
}


def cluster_maps(num_maps: int, seed: int = 0) -> dict[str, Tensor]:
    """Cores that grow with the cross-section, noise, gaps; simulations in turn, four a halo."""
    generator = torch.Generator().manual_seed(seed)
    simulation = torch.arange(num_maps) % 4
    true_label = torch.tensor(CROSS_SECTIONS)[simulation]
    core = (1 + 5 * true_label.sqrt())[:, None, None]
    noise = torch.randn(num_maps, SIZE, SIZE, generator=generator)
    mass = 10 ** torch.randn(num_maps, 1, 1, generator=generator)
    maps = 1e9 * mass * (1 + 0.05 * noise).clamp_min(0.1) / (radius(SIZE, SIZE) ** 2 + core**2)
    good = torch.rand(num_maps, SIZE, SIZE, generator=generator) > 0.05
    return {
        "index": torch.arange(num_maps),
        "map": torch.where(good, maps, torch.nan)[:, None],
        "good": good,
        "simulation": simulation,
        "label": torch.where(simulation < 3, true_label, torch.nan),
        "true_label": true_label,
        "halo": torch.arange(num_maps) // 4,
    }


def statistics(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the datamodule's `training_statistics` would give."""
    scaled, log_max = max_normalised(columns["map"], columns["good"])
    roots, ring = scaled.sqrt()[:, 0], ring_index(SIZE, SIZE)
    rings = [
        roots[:, ring == k][columns["good"][:, ring == k]] for k in range(num_rings(SIZE, SIZE))
    ]
    return {
        **LABELS,
        "ring_mean": torch.stack([values.mean() for values in rings])[None],
        "ring_std": torch.stack([values.std() for values in rings])[None],
        "log_max_mean": log_max.mean(dim=0),
        "log_max_std": log_max.std(dim=0),
        **PIXELS,
    }


def build(**arguments: Any) -> CompactClustering:
    """A small model that knows the maps' statistics."""
    torch.manual_seed(1)
    model = CompactClustering(**(SMALL | arguments))
    model.fit_statistics(statistics(cluster_maps(40)))
    return model
