"""Spectra of a linear model with gaps, errors that vary and labels with errors."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import seed_everything
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules import SpectraVAE

NUM_PIXELS, NUM_LABELS, LATENT_DIM = 60, 2, 3
SMALL: dict[str, Any] = {
    "num_pixels": NUM_PIXELS,
    "num_labels": NUM_LABELS,
    "latent_dim": LATENT_DIM,
    "hidden_dims": (16, 8),
}
LOCATION, SPREAD = np.array([4800.0, -0.2]), np.array([300.0, 0.3])


def linear_truth(seed: int = 5) -> tuple[NDArray[Any], NDArray[Any]]:
    """The label map (L, P) and the latent map (D, P) of the simulated stars."""
    rng = np.random.default_rng(seed)
    sizes = 0.03 * np.array([1.0, 0.7, 0.5])[:, None]
    label_map = 0.05 * rng.normal(size=(NUM_LABELS, NUM_PIXELS))
    return label_map, sizes * rng.normal(size=(LATENT_DIM, NUM_PIXELS))


def stars(num_stars: int = 64, seed: int = 0) -> dict[str, Tensor]:
    """A batch; pixels that are not good hold NaN, one label of the second star is missing."""
    rng = np.random.default_rng(seed)
    label_map, latent_map = linear_truth()
    u = rng.normal(size=(num_stars, NUM_LABELS))
    z = rng.normal(size=(num_stars, LATENT_DIM))
    error = 0.005 * np.exp(0.3 * rng.normal(size=(num_stars, NUM_PIXELS)))
    flux = 1.0 + u @ label_map + z @ latent_map + error * rng.normal(size=error.shape)
    good = rng.random(flux.shape) > 0.15
    label = LOCATION + SPREAD * u
    label[1, 0] = np.nan
    columns = {
        "flux": np.where(good, flux, np.nan),
        "flux_ivar": np.where(good, error**-2, 0.0),
        "label": label,
        "label_error": np.broadcast_to(0.05 * SPREAD, label.shape).copy(),
    }
    tensors = {name: torch.from_numpy(values).float() for name, values in columns.items()}
    return {"index": torch.arange(num_stars), "good": torch.from_numpy(good), **tensors}


def statistics(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a datamodule's `training_statistics` tells of these stars."""
    flux, label = (batch[name].double().numpy() for name in ("flux", "label"))
    found = {
        "flux_mean": np.nanmean(flux, 0),
        "flux_scale": np.nanstd(flux, 0),
        "flux_noise": np.full(flux.shape[1], 0.005),
        "label_mean": np.nanmean(label, 0),
        "label_std": np.nanstd(label, 0),
    }
    tensors = {name: torch.from_numpy(values).float() for name, values in found.items()}
    mask = torch.arange(flux.shape[1]) % 2 == 0
    return tensors | {"continuum_mask": mask, "continuum_degree": torch.tensor(3)}


def build(seed: int = 1, **arguments: Any) -> SpectraVAE:
    """A small model, fitted to the statistics, none of whose weights is the trivial one."""
    seed_everything(seed)
    model = SpectraVAE(**(SMALL | arguments))
    model.fit_statistics(statistics(stars(256)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.population.fitted.fill_(True)
    return model.eval()
