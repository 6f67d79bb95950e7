"""Irregular light curves with gaps, and small networks of both kinds."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import seed_everything
from torch import Tensor

from lightning_modules import TimeDistributedCNN

SMALL: dict[str, dict[str, Any]] = {
    "dilated": {"channels": [6, 6, 8], "kernel_sizes": [3, 2, 3], "hidden_dim": 8},
    "reference": {
        "network": "reference",
        "channels": [8, 6, 4],
        "kernel_sizes": [5, 3, 3],
        "hidden_dim": 8,
        "dropout": 0.3,
    },
}
NAMES = list(SMALL)


def light_curves(num_curves: int, num_times: int, seed: int = 0) -> dict[str, Tensor]:
    """Irregular times, gaps, errors that vary, and a spike of one epoch in every second curve."""
    rng = np.random.default_rng(seed)
    time = 2460000.5 + np.cumsum(rng.exponential(1.0, (num_curves, num_times)) + 1e-3, axis=1)
    error = 0.05 * np.exp(0.3 * rng.normal(size=time.shape))
    middle = time[:, [num_times // 2]]
    flux = 1 + 2 * np.exp(-(((time - middle) / 10) ** 2)) + error * rng.normal(size=time.shape)
    label = np.arange(num_curves) % 2
    good = rng.random(time.shape) > 0.3
    place = rng.integers(num_times // 4, 3 * num_times // 4, num_curves)
    spiked = np.flatnonzero(label)
    flux[spiked, place[spiked]] += 3
    good[spiked, place[spiked]] = True
    return {
        "index": torch.arange(num_curves),
        "flux": torch.from_numpy(np.where(good, flux, np.nan)).float(),
        "flux_error": torch.from_numpy(np.where(good, error, np.nan)).float(),
        "time": torch.from_numpy(time),
        "good": torch.from_numpy(good),
        "label": torch.from_numpy(label),
    }


def build(name: str, **arguments: Any) -> TimeDistributedCNN:
    """A small model whose weights, normalisation and temperature are not the trivial ones."""
    seed_everything(1)
    model = TimeDistributedCNN(**(SMALL[name] | arguments))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.1)
                assert module.running_var is not None
                module.running_var.uniform_(0.5, 2.0)
        model.temperature.log_temperature.normal_(0, 0.3)
    return model.eval()


def epochs_of(batch: dict[str, Tensor], row: int) -> list[tuple[float, float, float]]:
    """Time, flux and error of the kept epochs of one curve."""
    good = batch["good"][row]
    columns = (batch[key][row][good].tolist() for key in ("time", "flux", "flux_error"))
    return list(zip(*columns, strict=True))
