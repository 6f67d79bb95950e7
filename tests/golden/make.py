"""Makes golden checkpoints (`python tests/golden/make.py [method]`), only if one must change."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader

from datamodules import (
    ClusteringDataModule,
    MicrolensingDataModule,
    RegularCadence,
    SIDMDataModule,
    SimulatedClusterMaps,
    SimulatedEvents,
    SpectraDataModule,
    SyntheticField,
    SyntheticSpectra,
)
from datamodules.base import BaseDataModule
from lightning_modules import (
    CompactClustering,
    DeepEmbeddedClustering,
    SpectraVAE,
    TimeDistributedCNN,
)

HERE = Path(__file__).parent


Golden = tuple[LightningModule, dict[str, torch.Tensor]]


def clustering() -> Golden:
    """Train a small IDEC for a few steps; return it and a batch of eight stars."""
    data = ClusteringDataModule(SyntheticField(300), batch_size=256)
    model = DeepEmbeddedClustering(hidden_dims=[8], latent_dim=2, pretrain_epochs=1)
    return train("clustering", model, data, ("index", "features", "good"))


def microlensing() -> Golden:
    """Train a small classifier for a few steps; return it and a batch of eight light curves."""
    source = SimulatedEvents("distinct", 30, 30, cadence=RegularCadence(60), simulation_workers=1)
    model = TimeDistributedCNN(channels=[4, 4], kernel_sizes=[3, 3], hidden_dim=4)
    keys = ("index", "flux", "flux_error", "time", "good")
    return train("microlensing", model, MicrolensingDataModule(source), keys)


def sidm() -> Golden:
    """Train a small compact clustering on coarse maps; return it and a batch of eight maps."""
    source = SimulatedClusterMaps(
        num_halos=12, num_pixels=24, pixel_scale=80.0, simulation_workers=1
    )
    data = SIDMDataModule(source, ["cdm", "sidm_0.1", "sidm_1"], ["sidm_0.3"], batch_size=16)
    model = CompactClustering(
        image_size=24, widths=[4, 8], depths=[1, 1], hidden_dim=8, head_dim=8, latent_dim=3,
        profile_rings=4, num_reference=4, warmup_steps=0,
    )  # fmt: skip
    return train("sidm", model, data, ("index", "map", "good"))


def spectra() -> Golden:
    """Train a small VAE on every hundredth pixel, to be small; return it and eight spectra."""
    with tempfile.TemporaryDirectory() as folder:
        data = SpectraDataModule(SyntheticSpectra(64), cache_dir=folder)
        data.prepare_data()
        data.setup()
        tables = data.columns, data.training_statistics()
    size = data.grid.num_pixels
    columns, statistics = (
        {name: x[..., ::100] if x.shape[-1:] == (size,) else x for name, x in table.items()}
        for table in tables
    )
    num_pixels = len(statistics["flux_mean"])
    model = SpectraVAE(num_pixels, latent_dim=2, hidden_dims=[8], warm_start=False)
    model.fit_statistics(statistics)
    fit("spectra", model, train_dataloaders=DataLoader([columns], batch_size=None))
    return model, {name: x[:8].clone() for name, x in columns.items()}


def train(name: str, model: LightningModule, data: BaseDataModule, keys: tuple[str, ...]) -> Golden:
    """Train for two epochs, save the checkpoint and return eight objects."""
    with tempfile.TemporaryDirectory() as folder:
        data.cache_dir = Path(folder)
        fit(name, model, datamodule=data)
        return model, {key: data.columns[key][:8].clone() for key in keys}


def fit(name: str, model: LightningModule, **data: Any) -> None:
    """Train for two epochs and save the checkpoint."""
    trainer = Trainer(accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False)
    trainer.fit(model, **data)
    trainer.save_checkpoint(HERE / f"{name}.ckpt")


def main() -> None:
    """Write each method's checkpoint, or the one named, with a batch and its predictions."""
    for make in (clustering, microlensing, sidm, spectra):
        if sys.argv[1:] and make.__name__ not in sys.argv[1:]:
            continue
        seed_everything(0)
        model, batch = make()
        with torch.no_grad():
            prediction = model.eval().predict_step(batch)
        torch.save({"batch": batch, "prediction": prediction}, HERE / f"{make.__name__}.pt")


if __name__ == "__main__":
    sys.exit(main())
