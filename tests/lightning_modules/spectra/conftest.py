"""Spectra of a linear model as data, and a quick Trainer."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.base import BaseDataModule, Source
from datamodules.store import RowStore
from tests.lightning_modules.spectra.stars import stars, statistics

KEYS = ("flux", "flux_ivar", "good", "label", "label_error")


class Stars(Source):
    """The stars as a source."""

    def __init__(self, num_stars: int) -> None:
        self.num_stars = num_stars

    def parameters(self) -> dict[str, Any]:
        return {"num_stars": self.num_stars}

    def prepare(self, path: Path, seed: int) -> None:
        columns = {name: values.numpy() for name, values in stars(self.num_stars, seed).items()}
        columns["name"] = columns.pop("index")
        RowStore.write(path, columns, schema="test/stars")


class StarData(BaseDataModule):
    """The stars as batches."""

    method = "spectra"
    schema = "test/stars"
    evaluation_only = ()

    def load(self, store: RowStore) -> dict[str, Tensor]:
        columns = {name: torch.from_numpy(v) for name, v in store.read(list(KEYS)).items()}
        return {"index": torch.arange(store.num_rows), **columns}

    def training_statistics(self) -> dict[str, Tensor]:
        rows = self.rows["train"]
        return statistics({name: values[rows] for name, values in self.columns.items()})

    def batches(self, split: str, keys: Sequence[str] | None = None) -> Iterator[dict[str, Tensor]]:
        """Small ones, so that sums over batches are tested."""
        for rows in self.rows[split].split(100):
            yield {name: self.columns[name][rows] for name in keys or self.columns}


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., StarData]:
    def make(num_stars: int = 400, seed: int = 0, **arguments: Any) -> StarData:
        cache = str(tmp_path / "cache")
        return StarData(Stars(num_stars), 32, seed=seed, cache_dir=cache, **arguments)

    return make


@pytest.fixture
def batch() -> dict[str, Tensor]:
    return stars()
