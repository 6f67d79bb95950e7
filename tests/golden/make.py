"""Makes the golden checkpoints (`python tests/golden/make.py`), only if one must change."""

import sys
import tempfile
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything

from datamodules import ClusteringDataModule, SyntheticField
from lightning_modules import DeepEmbeddedClustering

HERE = Path(__file__).parent


def clustering() -> tuple[LightningModule, dict[str, torch.Tensor]]:
    """Train a small IDEC for a few steps; return it and a batch of eight stars."""
    with tempfile.TemporaryDirectory() as folder:
        data = ClusteringDataModule(SyntheticField(300), batch_size=256, cache_dir=folder)
        model = DeepEmbeddedClustering(hidden_dims=[8], latent_dim=2, pretrain_epochs=1)
        trainer = Trainer(
            accelerator="cpu", max_epochs=2, default_root_dir=folder, logger=False,
            enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(model, datamodule=data)
        keys = ("index", "features", "good")
        batch = {key: data.columns[key][:8].clone() for key in keys}
        trainer.save_checkpoint(HERE / "clustering.ckpt")
    return model, batch


def main() -> None:
    """Write each method's checkpoint, and beside it a batch and its predictions."""
    for make in (clustering,):
        seed_everything(0)
        model, batch = make()
        with torch.no_grad():
            prediction = model.eval().predict_step(batch)
        torch.save({"batch": batch, "prediction": prediction}, HERE / f"{make.__name__}.pt")


if __name__ == "__main__":
    sys.exit(main())
