"""A small star catalogue, and a module that knows its answer, for the callbacks' tests."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from astropy.table import Table
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import ArrayLike
from torch import Tensor

from callbacks.report.base import TestRun
from callbacks.report.bootstrap import Bootstrap
from callbacks.report.table import Report
from datamodules.base import BaseDataModule, Source
from datamodules.store import RowStore
from lightning_modules.base import BaseModule

CENTRES = np.array([[0, 0, 0.3, 0, 0], [0.05, 0.1, 0.4, 4.0, -3.0], [-0.1, -0.05, 0.1, -4.0, 4.0]])
WIDTHS = np.array([[0.3, 0.3, 0.3, 3.0, 3.0], [0.03, 0.03, 0, 0.3, 0.3], [0.03, 0.03, 0, 0.3, 0.3]])


class TinyField(Source):
    """A field and two clusters, 301, 120 and 80 stars."""

    def __init__(self, labels: bool = True) -> None:
        self.labels = labels

    def parameters(self) -> dict[str, Any]:
        return {"labels": self.labels}

    def prepare(self, path: Path, seed: int) -> None:
        rng = np.random.default_rng(seed)
        label = rng.permutation(np.repeat([0, 1, 2], [301, 120, 80]))
        error = 10 ** rng.uniform(-2, -1, len(label))
        features = CENTRES[label] + WIDTHS[label] * rng.normal(size=(len(label), 5))
        features[:, 2] += error * rng.normal(size=len(label))
        columns = {
            "name": np.arange(len(label)) + 6_000_000_000_000_000_001,
            "features": features.astype(np.float32),
            "error": error.astype(np.float32),
            "magnitude": rng.uniform(13, 20, len(label)).astype(np.float32),
            "label": label if self.labels else np.full(len(label), -1),
        }
        RowStore.write(path, columns, "test.stars")


class TinyStars(BaseDataModule):
    method: ClassVar[str] = "clustering"
    schema: ClassVar[str] = "test.stars"

    def load(self, store: RowStore) -> dict[str, Tensor]:
        raw = store.read()
        error = raw["error"]
        covariance = np.einsum("n,ij->nij", error**2, np.eye(5)).astype(np.float32)
        columns = {
            "index": np.arange(len(error)),
            "features": raw["features"],
            "covariance": covariance,
            "magnitude": raw["magnitude"],
            "colour": (raw["magnitude"] - 13) / 4,
            "label": raw["label"],
        }
        return {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in columns.items()}

    def training_statistics(self) -> dict[str, Tensor]:
        return {"location": torch.zeros(5), "scale": torch.tensor([0.2, 0.2, 0.2, 3.0, 3.0])}

    def catalogue(self, index: Any) -> Table:
        raw = self.store.read(rows=np.asarray(index))
        columns = {
            "source_id": raw["name"],
            "parallax": raw["features"][:, 2],
            "pmra": raw["features"][:, 3],
            "label": raw["label"],
        }
        return Table(columns, units={"parallax": "mas", "pmra": "mas/yr"})


class KnowingModule(BaseModule):
    """Says the probabilities of the generator; with no clusters it is an autoencoder."""

    def __init__(self, clusters: bool = True) -> None:
        super().__init__()
        self.clusters = clusters
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("centres", torch.tensor(CENTRES[:, [0, 1, 3, 4]]).float())
        self.register_buffer("widths", torch.tensor(WIDTHS[:, [0, 1, 3, 4]]).float())

    def step(self, batch: dict[str, Tensor], stage: str) -> dict[str, Tensor]:
        return {"loss": batch["features"].square().mean() + 0 * self.weight.sum()}

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int = 0) -> dict[str, Tensor]:
        x = batch["features"][:, None, [0, 1, 3, 4]]
        z = (x - self.centres) / self.widths
        prior = torch.tensor([0.6, 0.24, 0.16]).log()
        logits = prior - 0.5 * z.square().sum(-1) - self.widths.log().sum(-1)
        result = {
            "index": batch["index"],
            "latent": torch.cat([x[:, 0], x[:, 0].square() / 9], 1),
            "reconstruction_error": batch["features"].square().mean(1),
        }
        if self.clusters:
            order = [2, 0, 1]  # columns have no names: 1, 2, 0 of the classes are 0, 1, 2
            result["probability"] = logits.softmax(1)[:, order]
            result["assignment"] = result["probability"].argmax(1)
        return result


class MeasuringModule(KnowingModule):
    """Says also which column is the field, the generator's parameters, and an error of each."""

    field_column = 0

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int = 0) -> dict[str, Tensor]:
        result = super().predict_step(batch, batch_idx)
        result["probability"] = result["probability"][:, [1, 2, 0]]
        result["assignment"] = result["probability"].argmax(1)
        return result

    def parameter_rows(self) -> list[dict[str, float]]:
        assert not torch.is_inference_mode_enabled()  # errors are derivatives
        names = ("x", "y", "parallax", "pmra", "pmdec")
        rows = []
        for k, weight in ((1, 0.24), (2, 0.16)):
            values = dict(zip(names, CENTRES[k].tolist(), strict=True))
            values |= {"weight": weight, "radius": 0.3, "ellipticity": 0.0, "nu": 100.0}
            values |= {"position_angle": 30.0, "dispersion": 0.3}  # nearly Gaussian: nu is large
            errors = {f"{name}_error": 0.01 * k for name in values}
            rows.append({"cluster": k, **values, **errors, "pmra_pmdec_corr": 0.1})
        return rows

    def intrinsic_covariance(self, cluster: int, position: Tensor) -> Tensor:
        return torch.diag(torch.tensor([0.0, 0.09, 0.09])).double().expand(len(position), 3, 3)


def make_stars(labels: bool = True, **settings: Any) -> TinyStars:
    return TinyStars(TinyField(labels), batch_size=64, **settings)


def make_trainer(
    folder: Path, *callbacks: Any, tensorboard: bool = False, **kwargs: Any
) -> Trainer:
    settings = {"accelerator": "cpu", "devices": 1, "use_distributed_sampler": False, **kwargs}
    return Trainer(
        callbacks=list(callbacks),
        logger=TensorBoardLogger(folder, name="", version="") if tensorboard else False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **settings,
    )


def make_run(datamodule: Any = None, **rows: ArrayLike) -> TestRun:
    """A test run of arrays, one row an object, numbered unless `index` is given."""
    arrays = {name: np.asarray(values) for name, values in rows.items()}
    count = len(next(iter(arrays.values())))
    report = Report("clustering", "all", count)
    index = {"index": np.arange(count)}
    return TestRun(report, index | arrays, None, datamodule, Bootstrap(20), Path())


@pytest.fixture(scope="session")
def run_of() -> Any:
    """The maker of a test run from arrays."""
    return make_run


@pytest.fixture(scope="session")
def stars() -> Any:
    """The makers of data, module and trainer, for tests that cannot import this file."""

    class Makers:
        data = staticmethod(make_stars)
        module = staticmethod(KnowingModule)
        measuring = staticmethod(MeasuringModule)
        trainer = staticmethod(make_trainer)

    return Makers
