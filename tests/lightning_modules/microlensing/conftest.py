"""Light curves of two classes as data, and a quick Trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.base import BaseDataModule, Source
from datamodules.store import RowStore
from tests.lightning_modules.microlensing.curves import light_curves


class Curves(Source):
    """The light curves as a source."""

    def __init__(self, num_curves: int, num_times: int) -> None:
        self.num_curves, self.num_times = num_curves, num_times

    def parameters(self) -> dict[str, Any]:
        return {"num_curves": self.num_curves, "num_times": self.num_times}

    def prepare(self, path: Path, seed: int) -> None:
        columns = light_curves(self.num_curves, self.num_times, seed)
        arrays = {key: value.numpy() for key, value in columns.items() if key != "index"}
        RowStore.write(path, {"name": np.arange(self.num_curves), **arrays}, schema="test/curves")


class CurveData(BaseDataModule):
    """The light curves as batches."""

    method = "microlensing"
    schema = "test/curves"
    evaluation_only = ()
    num_classes = 2

    def load(self, store: RowStore) -> dict[str, Tensor]:
        names = ["flux", "flux_error", "time", "good", "label"]
        columns = {k: torch.from_numpy(v) for k, v in store.read(names).items()}
        return {"index": torch.arange(store.num_rows), **columns}

    def training_statistics(self) -> dict[str, Tensor]:
        labels = self.columns["label"][self.rows["train"]]
        return {"class_count": torch.bincount(labels.clamp_min(0), minlength=self.num_classes)}


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., CurveData]:
    def make(num_curves: int = 400, num_times: int = 60, seed: int = 0) -> CurveData:
        source = Curves(num_curves, num_times)
        return CurveData(source, 32, seed=seed, cache_dir=str(tmp_path / "cache"))

    return make
