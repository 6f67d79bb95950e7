"""Cluster maps as data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.base import BaseDataModule, Source
from datamodules.store import RowStore
from tests.lightning_modules.sidm.maps import LABELS, PIXELS, cluster_maps, statistics


class Clusters(Source):
    """The maps as a source."""

    def __init__(self, num_maps: int) -> None:
        self.num_maps = num_maps

    def parameters(self) -> dict[str, Any]:
        return {"num_maps": self.num_maps}

    def prepare(self, path: Path, seed: int) -> None:
        columns = {
            name: values.numpy() for name, values in cluster_maps(self.num_maps, seed).items()
        }
        columns["name"] = columns.pop("index")
        RowStore.write(path, columns, schema="test/maps")


class MapData(BaseDataModule):
    """The maps as batches."""

    method = "sidm"
    schema = "test/maps"
    evaluation_only = ("true_label", "halo")

    def load(self, store: RowStore) -> dict[str, Tensor]:
        names = ["map", "good", "simulation", "label", "true_label", "halo"]
        columns = {name: torch.from_numpy(values) for name, values in store.read(names).items()}
        return {"index": torch.arange(store.num_rows), **columns}

    def groups(self, index: Tensor | NDArray[np.int64]) -> NDArray[Any]:
        return self.store.read(["halo"], np.asarray(index))["halo"]

    def training_statistics(self) -> dict[str, Tensor]:
        rows = self.rows["train"]
        return statistics({name: values[rows] for name, values in self.columns.items()})

    def training_labels(self) -> dict[str, Tensor]:
        return LABELS

    def pixels(self) -> dict[str, Tensor]:
        return PIXELS


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., MapData]:
    def make(num_maps: int = 240, batch_size: int = 32, **arguments: Any) -> MapData:
        cache = str(tmp_path / "cache")
        return MapData(Clusters(num_maps), batch_size, cache_dir=cache, **arguments)

    return make
