"""A mixture of two Gaussians by expectation maximisation: the smallest model fitted in passes."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import Tensor

from datamodules.store import RowStore
from lightning_modules.base import Batch
from lightning_modules.passes import PassModule
from tests.reliability.tiny import SCHEMA, TinyDataModule, TinySource


class Blobs(TinySource):
    """Two overlapping clouds of unequal size and shape."""

    def prepare(self, path: Path, seed: int) -> None:
        generator = np.random.default_rng(seed)
        label = (generator.random(self.num_rows) < 0.3).astype(np.int64)
        features = generator.normal(size=(self.num_rows, 3)) * (1.0 + label[:, None])
        features += 1.5 * label[:, None]
        columns = {"features": features.astype(np.float32), "label": label}
        names = np.arange(self.num_rows)
        RowStore.write(path, {**columns, "target": features[:, 0], "name": names}, SCHEMA)


class BlobsData(TinyDataModule):
    """The clouds as batches."""

    def __init__(self, num_rows: int = 83, batch_size: int = 8, **arguments: Any) -> None:
        super().__init__(Blobs(num_rows), batch_size, **arguments)


class Mixture(PassModule):
    """Weights, means and covariances of two clouds."""

    terms = ("loss", "share")
    weight: Tensor
    mean: Tensor
    covariance: Tensor

    def __init__(self, tolerance: float = 0.0) -> None:
        super().__init__(tolerance)
        self.save_hyperparameters()
        self.register_buffer("weight", torch.full((2,), 0.5, dtype=torch.float64))
        self.register_buffer("mean", torch.tensor([[-1.0], [1.0]]).double() * torch.ones(3))
        self.register_buffer("covariance", torch.eye(3).double().repeat(2, 1, 1))

    def accumulate(self, batch: Batch) -> dict[str, Tensor]:
        x = batch["features"].double()
        joint = self.log_joint(x)
        share = joint.softmax(dim=1)  # (B, 2)
        return {
            "loss": -joint.logsumexp(dim=1).sum(),
            "share": share[:, 1].sum(),
            "weight": share.sum(dim=0),
            "first": share.mT @ x,
            "second": torch.einsum("bk,bi,bj->kij", share, x, x),
        }

    def update(self, sums: dict[str, Tensor]) -> None:
        count = sums["weight"]
        mean = sums["first"] / count[:, None]
        self.weight.copy_(count / sums["count"])
        self.mean.copy_(mean)
        outer = mean[:, :, None] * mean[:, None, :]
        self.covariance.copy_(sums["second"] / count[:, None, None] - outer)

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        probability = self.log_joint(batch["features"].double()).softmax(dim=1)
        return {"index": batch["index"], "probability": probability.float()}

    def log_joint(self, x: Tensor) -> Tensor:
        """Return log of weight times density, (B, 2)."""
        factor = torch.linalg.cholesky(self.covariance)
        centred = (x[:, None] - self.mean)[..., None]  # (B, 2, 3, 1)
        white = torch.linalg.solve_triangular(factor, centred, upper=False)
        logdet = factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        squared = white[..., 0].square().sum(dim=2)
        return self.weight.log() - logdet - 0.5 * (squared + 3.0 * math.log(2.0 * math.pi))


class Slow(Callback):
    """Takes its time over each batch, and says how many steps are done."""

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.is_global_zero:
            print(f"step {trainer.global_step}", flush=True)
        time.sleep(0.1)
