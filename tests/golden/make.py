"""Makes the golden checkpoints (`python tests/golden/make.py`), only if one must change."""

import sys
import tempfile
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything

from datamodules import (
    ClusteringDataModule,
    MicrolensingDataModule,
    RegularCadence,
    SimulatedEvents,
    SyntheticField,
)
from datamodules.base import BaseDataModule
from lightning_modules import DeepEmbeddedClustering, TimeDistributedCNN

HERE = Path(__file__).parent


Golden = tuple[LightningModule, dict[str, torch.Tensor]]


def clustering() -> Golden:
    """Train a small IDEC for a few steps; return it and a batch of eight stars."""
    data = ClusteringDataModule(SyntheticField(300), batch_size=256)
    model = DeepEmbeddedClustering(hidden_dims=[8], latent_dim=2, pretrain_epochs=1)
    return train("clustering", model, data, ("index", "features", "good"))


def microlensing() -> Golden:
    """Train a small classifier for a few steps; return it and a batch of eight light curves."""
    source = SimulatedEvents("distinct", 30, 30, cadence=RegularCadence(60), workers=1)
    model = TimeDistributedCNN(channels=[4, 4], kernel_sizes=[3, 3], hidden_dim=4)
    keys = ("index", "flux", "flux_error", "time", "good")
    return train("microlensing", model, MicrolensingDataModule(source), keys)


def train(name: str, model: LightningModule, data: BaseDataModule, keys: tuple[str, ...]) -> Golden:
    """Train for two epochs, save the checkpoint and return eight objects."""
    with tempfile.TemporaryDirectory() as folder:
        data.cache_dir = Path(folder)
        trainer = Trainer(
            accelerator="cpu", max_epochs=2, default_root_dir=folder, logger=False,
            enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(model, datamodule=data)
        trainer.save_checkpoint(HERE / f"{name}.ckpt")
        return model, {key: data.columns[key][:8].clone() for key in keys}


def main() -> None:
    """Write each method's checkpoint, and beside it a batch and its predictions."""
    for make in (clustering, microlensing):
        seed_everything(0)
        model, batch = make()
        with torch.no_grad():
            prediction = model.eval().predict_step(batch)
        torch.save({"batch": batch, "prediction": prediction}, HERE / f"{make.__name__}.pt")


if __name__ == "__main__":
    sys.exit(main())
