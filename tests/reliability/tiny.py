"""A small source, datamodule and module for the reliability tests."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.base import BaseDataModule, Source
from datamodules.store import RowStore
from lightning_modules.base import BaseModule, Batch
from lightning_modules.optimizers import Schedule

SCHEMA = "astrolit.tiny"


class TinySource(Source):
    """Rows of three numbers and a linear target.

    Args:
        num_rows: Rows of the store.
        broken_row: A row whose first number is NaN; none if negative.
    """

    def __init__(self, num_rows: int = 40, broken_row: int = -1) -> None:
        self.num_rows = num_rows
        self.broken_row = broken_row

    def parameters(self) -> dict[str, Any]:
        return {"num_rows": self.num_rows, "broken_row": self.broken_row}

    def prepare(self, path: Path, seed: int) -> None:
        generator = np.random.default_rng(seed)
        features = generator.normal(size=(self.num_rows, 3)).astype(np.float32)
        target = features.sum(axis=1) + 0.1 * generator.normal(size=self.num_rows)
        if self.broken_row >= 0:
            features[self.broken_row, 0] = np.nan
        names = np.array([f"star {row}" for row in range(self.num_rows)])
        columns = {"features": features, "target": target.astype(np.float32), "name": names}
        labels = np.arange(self.num_rows, dtype=np.int64) % 2
        RowStore.write(path, {**columns, "label": labels}, SCHEMA)


class TinyDataModule(BaseDataModule):
    """Batches with `index`, `features` (B, 3), `target` (B,) and, in evaluation, `label`."""

    method = "tiny"
    schema = SCHEMA

    def load(self, store: RowStore) -> dict[str, Tensor]:
        values = store.read(["features", "target", "label"])
        columns = {name: torch.from_numpy(value) for name, value in values.items()}
        return {"index": torch.arange(store.num_rows), **columns}

    def training_statistics(self) -> dict[str, Tensor]:
        return {"location": self.columns["features"][self.rows["train"]].nanmean(0)}


class TinyModule(BaseModule):
    """A regression with, if asked for, dropout, noise drawn in every stage, and batch norm.

    Args:
        dropout: Probability of dropout.
        noise: Scale of noise drawn from the global generator in every stage.
        batch_norm: Whether to normalise the hidden layer.
        plateau: Whether to lower the learning rate when `val/loss` does not improve.
        lr: Learning rate.
        weight_decay: Weight decay.
        schedule: Of the learning rate.
        warmup_steps: Of the learning rate.
    """

    terms = ("loss", "spread")

    def __init__(
        self,
        dropout: float = 0.0,
        noise: float = 0.0,
        batch_norm: bool = False,
        plateau: bool = False,
        lr: float = 1e-2,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(lr, weight_decay, schedule, warmup_steps)
        self.save_hyperparameters()
        self.noise = noise
        self.plateau = plateau
        self.register_buffer("location", torch.zeros(3))
        self.net = nn.Sequential(
            nn.Linear(3, 8),
            nn.BatchNorm1d(8) if batch_norm else nn.Identity(),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(8, 1),
        )

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {"features": ((3,), "num_features")}

    def fit_statistics(self, statistics: dict[str, Tensor]) -> None:
        self.location.copy_(statistics["location"])

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        prediction = self.net(batch["features"] - self.location)[:, 0]
        if self.noise:
            prediction = prediction + self.noise * torch.randn_like(prediction)
        return {
            "loss": (prediction - batch["target"]).square().mean(),
            "spread": prediction.abs().mean(),
        }

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        return {"index": batch["index"], "prediction": self.net(batch["features"])[:, 0]}

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        if not self.plateau:
            return optimizer
        assert isinstance(optimizer, torch.optim.Optimizer)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"},
        }
