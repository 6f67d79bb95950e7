import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import Tensor

from callbacks.microlensing.report import MicrolensingReport
from callbacks.predictions.tables import PredictionWriter
from datamodules import LightCurveFiles, MicrolensingDataModule, RegularCadence, SimulatedEvents
from datamodules.store import RowStore
from lightning_modules import TimeDistributedCNN
from lightning_modules.base import BaseModule

FIGURES = {
    "confusion",
    "decisions",
    "detectability",
    "examples",
    "reliability",
    "roc_pr",
    "roc_pr_by_fraction",
    "scores_by_fraction",
}


class Oracle(BaseModule):
    """Knows nothing before day 500 and the class afterwards, with a probability of 0.95."""

    classes = ("pspl", "binary")

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def step(self, batch: dict[str, Tensor], stage: str) -> dict[str, Tensor]:
        return {"loss": self.weight.sum()}

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int = 0) -> dict[str, Tensor]:
        sure = torch.where(batch["label"] == 1, 0.95, 0.05)[:, None]
        binary = torch.where(batch["time"] >= 500, sure, 0.5)
        probability = torch.stack([1 - binary, binary], -1).float()
        probability[~batch["good"]] = torch.nan
        return {"index": batch["index"], "probability": probability}


class Diverged(Oracle):
    def predict_step(self, batch: dict[str, Tensor], batch_idx: int = 0) -> dict[str, Tensor]:
        found = super().predict_step(batch, batch_idx)
        return {**found, "probability": found["probability"] * torch.nan}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> MicrolensingDataModule:
    source = SimulatedEvents(
        "distinct", 150, 150, cadence=RegularCadence(101), simulation_workers=1
    )
    folder = tmp_path_factory.mktemp("events")
    return MicrolensingDataModule(source, batch_size=32, cache_dir=str(folder))


@pytest.fixture(scope="module")
def run(stars: Any, events: MicrolensingDataModule, tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("run")
    callback = MicrolensingReport(num_resamples=20, max_fit=100)
    stars.trainer(folder, callback, tensorboard=True).test(Oracle(), events, verbose=False)
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def test_held_out_events_only(report: dict[str, Any], events: MicrolensingDataModule) -> None:
    held_out = len(events.rows["test"])
    binaries = int((events.columns["label"][events.rows["test"]] == 1).sum())
    assert report["num_objects"] == held_out
    assert f"{held_out - binaries} pspl, {binaries} binary" in report["notes"][0]
    recalled = report["model/confusion/fraction=1.00/true=binary/predicted=binary"]
    assert recalled == binaries


def test_an_oracle_of_the_second_half(report: dict[str, Any]) -> None:
    assert report["model/auc/fraction=0.33"] == 0.5
    assert 0.9 < report["model/auc/fraction=0.50"] < 1  # a fifth of the events miss day 500
    assert report["model/auc/fraction=0.67"] == 1
    assert report["model/accuracy/fraction=1.00"] == 1
    assert report["model/average_precision/fraction=1.00"] == 1
    assert report["model/completeness/fraction=1.00/purity=0.99"] == 1
    assert report["model/brier/fraction=1.00"] == pytest.approx(0.05**2, abs=1e-6)
    assert report["model/ece/fraction=1.00"] == pytest.approx(0.05, abs=1e-6)
    assert report["model/f1/fraction=1.00/class=pspl"] == 1


def test_decisions_are_timed(report: dict[str, Any]) -> None:
    for threshold in ("0.60", "0.90"):
        assert report[f"model/decided/threshold={threshold}"] == 1
        assert report[f"model/false_alarms/threshold={threshold}"] == 0
        # A fifth of the epochs is missing: some decide a little later.
        found = report[f"model/decision_fraction/threshold={threshold}"]
        assert found == pytest.approx(0.5, abs=0.011)


def test_classical_beside_the_model(report: dict[str, Any]) -> None:
    assert report["baseline/pspl_fit/auc/fraction=1.00"] > 0.6
    assert 0 <= report["baseline/pspl_fit/ece/fraction=0.50"] < 0.5
    assert 0.5 <= report["signal/ideal_accuracy/fraction=1.00"] <= 1


def test_bins_cover_the_binaries(run: Path) -> None:
    with (run / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    recall = [r for r in rows if r["subject"] == "model" and r["metric"] == "recall"]
    total = next(int(r["n"]) for r in recall if r["slice"] == "fraction=1.00/class=binary")
    for name in ("delta_chi2", "mass_ratio", "separation", "impact_parameter"):
        parts = [r for r in recall if f"/{name}=" in r["slice"]]
        assert sum(int(r["n"]) for r in parts) == total
        assert all(float(r["value"]) == 1 for r in parts)


def test_figures_are_not_blank(run: Path) -> None:
    paths = list((run / "figures").glob("*.png"))
    assert {path.stem for path in paths} == FIGURES
    for path in paths:
        pixels = imread(path)[..., :3]
        assert pixels.std() > 0.02, path
        codes = (255 * pixels).astype(int) @ [65536, 256, 1]
        assert len(np.unique(codes)) > 50, path


def test_divergence_is_refused(stars: Any, events: MicrolensingDataModule, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        stars.trainer(tmp_path, MicrolensingReport()).test(Diverged(), events, verbose=False)


def test_data_without_labels_show_examples(stars: Any, tmp_path: Path) -> None:
    days = 6000 + np.arange(40.0)
    for name in ("a", "b", "c", "d"):
        lines = [f"{day} 18.0 0.05" for day in days]
        (tmp_path / f"{name}.dat").write_text("\n".join(lines))
    files = [str(tmp_path / f"{name}.dat") for name in ("a", "b", "c", "d")]
    source = LightCurveFiles(files, unit="mag")
    data = MicrolensingDataModule(source, test_fraction=0.5, cache_dir=str(tmp_path))
    stars.trainer(tmp_path, MicrolensingReport()).test(Oracle(), data, verbose=False)
    report = json.loads((tmp_path / "report.json").read_text())
    assert any("need held-out events" in line for line in report["notes"])
    assert [path.stem for path in (tmp_path / "figures").iterdir()] == ["examples"]


def test_predictions_of_a_folder_of_files(stars: Any, tmp_path: Path) -> None:
    lengths, folder = {"a.dat": 30, "b.dat": 50}, tmp_path / "events"
    folder.mkdir()
    for name, length in lengths.items():
        lines = [f"{6000 + day} {18 - 0.01 * day} 0.05" for day in range(length)]
        (folder / name).write_text("\n".join(lines))
    source = LightCurveFiles(str(folder), unit="mag")
    data = MicrolensingDataModule(source, val_fraction=0, test_fraction=0, cache_dir=str(tmp_path))
    model = TimeDistributedCNN(channels=[4, 4], kernel_sizes=[3, 3], hidden_dim=4)
    stars.trainer(tmp_path, PredictionWriter()).predict(model, data)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["name"]: int(row["num_epochs"]) for row in rows} == lengths
    store = RowStore(tmp_path / "predictions.h5").read()
    assert store["probability"].shape == (2, 50, 2)
    for row, name in zip(store["probability"], store["name"], strict=True):
        seen = np.isfinite(row).all(1)
        assert seen.tolist() == [place < lengths[str(name)] for place in range(50)]
        assert np.allclose(row[seen].sum(1), 1)
    last = [row["final_probability_1"] for row in rows]
    assert np.allclose(np.array(last, dtype=float), store["final_probability"][:, 1])
