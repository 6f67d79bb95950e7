"""Blobs in five dimensions as a source and datamodule, and a quick Trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from datamodules.base import Source
from datamodules.store import RowStore
from tests.fixtures.feature_data import FeatureData


class Blobs(Source):
    """Gaussian blobs; sizes, and the spread of their centres, are arguments."""

    def __init__(self, sizes: tuple[int, ...], spread: float, missing: float) -> None:
        self.sizes, self.spread, self.missing = sizes, spread, missing

    def parameters(self) -> dict[str, Any]:
        return {"sizes": list(self.sizes), "spread": self.spread, "missing": self.missing}

    def prepare(self, path: Path, seed: int) -> None:
        rng = np.random.default_rng(seed)
        label = np.repeat(np.arange(len(self.sizes)), self.sizes)
        centres = self.spread * rng.normal(size=(len(self.sizes), 5))
        features = centres[label] + rng.normal(size=(len(label), 5))
        features[rng.uniform(size=features.shape) < self.missing] = np.nan
        order = rng.permutation(len(label))
        name = np.arange(len(label)) + 10**15
        columns = {"name": name, "features": features[order], "label": label[order]}
        RowStore.write(path, columns, schema="test/blobs")


class BlobData(FeatureData):
    """The blobs as batches."""

    schema = "test/blobs"

    def training_statistics(self) -> dict[str, Tensor]:
        features = self.columns["features"][self.rows["train"]]
        mean = features.nanmean(dim=0)
        return {"location": mean, "scale": (features - mean).square().nanmean(dim=0).sqrt()}


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., BlobData]:
    def make(
        sizes: tuple[int, ...] = (120, 100, 80),
        spread: float = 8.0,
        missing: float = 0.0,
        batch_size: int = 64,
        seed: int = 0,
    ) -> BlobData:
        source = Blobs(sizes, spread, missing)
        return BlobData(source, batch_size, seed=seed, cache_dir=str(tmp_path / "cache"))

    return make
