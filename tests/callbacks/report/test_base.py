import json
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from matplotlib.figure import Figure
from matplotlib.image import imread
from torch.utils.data import DataLoader

from callbacks.report.base import SPLITS, ReportCallback, TestRun
from callbacks.report.figures import new_figure
from datamodules.splits import SPLIT_CODES


class Remembering:
    """A baseline that says how far each magnitude is from the mean of those it was fitted on."""

    name: ClassVar[str] = "mean"

    def fit(self, rows: Any) -> Self:
        self.fitted = rows["index"]
        self.mean = rows["magnitude"].mean()
        return self

    def predict(self, rows: Any) -> Any:
        return rows["magnitude"] - self.mean


class MagnitudeReport(ReportCallback):
    """The smallest report: a mean of the model and the baseline's, and a figure."""

    method: ClassVar[str] = "magnitudes"
    outputs: ClassVar[tuple[str, ...]] = ("latent", "absent")
    inputs: ClassVar[tuple[str, ...]] = ("label", "split", "magnitude", "unknown")

    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        self.run, held_out = run, run.held_out()
        run.scope("model", held_out).mean("magnitude", run.rows["magnitude"][held_out])
        baseline = Remembering()
        training = run.split("train")
        for subject, found in run.baselines(baseline, fitted=training, scored=held_out):
            self.fitted, self.predicted = baseline.fitted, found
            run.scope(subject, held_out).mean("offset", found)
        figure, (axes,) = new_figure()
        axes.plot(run.rows["magnitude"])
        return {"line": figure}


@pytest.fixture
def data(stars: Any) -> Any:
    return stars.data()


@pytest.fixture
def tested(stars: Any, tmp_path: Path) -> Any:
    """Run a report through a test of the data given and return it."""

    def run(callback: MagnitudeReport, data: Any, **settings: Any) -> MagnitudeReport:
        module = stars.module()
        module.run_record = {"init_from": "a.ckpt"}
        stars.trainer(tmp_path, callback, **settings).test(module, data, verbose=False)
        return callback

    return run


def test_what_is_named_is_kept_of_every_object(tested: Any, data: Any) -> None:
    rows = tested(MagnitudeReport(), data).run.rows
    assert rows.keys() == {"index", "latent", "label", "split", "magnitude"}
    assert rows["index"].tolist() == list(range(501))
    for name in ("label", "split", "magnitude"):
        np.testing.assert_array_equal(rows[name], data.columns[name])


def test_header_and_numbers_are_written(
    tested: Any, data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tested(MagnitudeReport(num_resamples=50), data)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["schema"], report["method"]) == ("astrolit.report/2", "magnitudes")
    held_out = data.rows["test"]
    assert (report["split"], report["num_objects"]) == ("held_out", len(held_out))
    assert report["run_record"] == {"init_from": "a.ckpt"}
    assert report["checkpoint"] is None
    assert report["provenance"]["source"] == "TinyField"
    magnitude = data.columns["magnitude"][held_out]
    assert report["model/magnitude"] == pytest.approx(float(magnitude.mean()))
    error = float(magnitude.std()) / len(held_out) ** 0.5
    assert report["model/magnitude_std"] == pytest.approx(error, rel=0.4)
    printed = capsys.readouterr().out
    assert f"{report['model/magnitude']:.3f} ± {report['model/magnitude_std']:.3f}" in printed
    assert "report.json" in printed.replace("\n", "")


def test_held_out_is_the_test_split(tested: Any, data: Any) -> None:
    run = tested(MagnitudeReport(), data).run
    np.testing.assert_array_equal(np.flatnonzero(run.held_out()), data.rows["test"])
    for name, split in (("train", "train"), ("val", "val"), ("held_out", "test")):
        np.testing.assert_array_equal(np.flatnonzero(run.split(name)), data.rows[split])
    assert run.report.notes == []


def test_without_a_test_split_all_objects_are_held_out_and_that_is_said(
    tested: Any, stars: Any
) -> None:
    run = tested(MagnitudeReport(), stars.data(test_fraction=0.0)).run
    sentence = "the data have no test split: all objects are reported as held out"
    assert run.report.notes == [sentence]
    assert run.held_out().all()
    assert run.report.header["num_objects"] == 501
    assert not run.split("held_out").any()


def test_batches_that_know_no_split_are_held_out(run_of: Any) -> None:
    run = run_of(label=np.zeros(4))
    assert run.held_out().all()
    assert not run.split("train").any()
    assert any("the batches have no split" in note for note in run.report.notes)


def test_codes_of_splits_are_those_of_the_data() -> None:
    assert {
        "train": SPLITS["train"],
        "val": SPLITS["val"],
        "test": SPLITS["held_out"],
    } == SPLIT_CODES


def test_baseline_sees_at_most_so_many_training_objects(tested: Any, data: Any) -> None:
    callback = tested(MagnitudeReport(max_fit=50), data)
    training, held_out = (set(data.rows[name].tolist()) for name in ("train", "test"))
    assert len(set(callback.fitted.tolist())) == len(callback.fitted) == 50
    assert set(callback.fitted.tolist()) <= training
    assert set(callback.fitted.tolist()) != set(sorted(training)[:50])  # chosen at random
    magnitude = data.columns["magnitude"].numpy()
    expected = magnitude[sorted(held_out)] - magnitude[callback.fitted].mean()
    np.testing.assert_allclose(callback.predicted, expected, rtol=1e-5)
    (row,) = callback.run.report.rows_of(subject="baseline/mean")
    assert (row.value, row.n) == (pytest.approx(expected.mean(), rel=1e-4), len(held_out))


def test_baseline_sees_the_whole_training_split_if_it_is_small(tested: Any, data: Any) -> None:
    fitted = tested(MagnitudeReport(), data).fitted
    np.testing.assert_array_equal(fitted, data.rows["train"])


def test_baselines_may_be_left_out(tested: Any, data: Any) -> None:
    report = tested(MagnitudeReport(baselines=False), data).run.report
    assert {row.subject for row in report.rows} == {"model"}


def test_figures_are_saved(tested: Any, data: Any, tmp_path: Path) -> None:
    tested(MagnitudeReport(), data)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["line.png"]
    assert imread(tmp_path / "figures" / "line.png")[..., :3].min() < 0.5


def test_groups_of_the_datamodule_are_resampled_together(
    tested: Any, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "groups", lambda index: np.asarray(index) // 167)
    monkeypatch.setattr(data, "val_fraction", 0.0)
    monkeypatch.setattr(data, "test_fraction", 0.0)
    run = tested(MagnitudeReport(num_resamples=2000), data).run
    groups = run.rows["index"] // 167
    np.testing.assert_array_equal(run.bootstrap.groups, groups)
    run.scope("model", groups < 2).mean("one_of_two", groups[groups < 2])
    (row,) = run.report.rows_of("one_of_two")
    # Two groups drawn from two: the mean is 0, 1/2, 1 with chances 1/4, 1/2, 1/4.
    assert (row.value, row.n) == (0.5, 334)
    assert row.std == pytest.approx(8**-0.5, rel=0.08)
    whole, part = run.scope("model"), run.scope("model", np.array([3, 500]), split="all")
    assert whole.bootstrap.groups is run.bootstrap.groups
    assert part.bootstrap.groups.tolist() == [0, 2]
    assert (part.slice, whole.slice) == ("split=all", "")


def test_names_and_catalogue_are_the_datamodules(tested: Any, data: Any) -> None:
    run = tested(MagnitudeReport(), data).run
    assert run.names(np.array([3, 7])) == ["6000000000000000004", "6000000000000000008"]
    table = run.catalogue(np.array([7]))
    assert table["source_id"].tolist() == [6_000_000_000_000_000_008]
    assert table["parallax"].unit == "mas"


class Strange(LightningDataModule):
    """Has what a module needs, but not all that a report asks for."""

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.data = data
        self.sample_shapes: dict[str, tuple[int, ...]] = {}
        self.training_statistics = data.training_statistics

    def test_dataloader(self) -> Any:
        return loader(self.data)


def loader(data: Any) -> DataLoader[Any]:
    """Batches of the data's columns without their datamodule."""
    data.prepare_data()
    data.setup()
    columns = {name: x for name, x in data.columns.items() if name != "split"}
    rows = [{name: x[row] for name, x in columns.items()} for row in range(40)]
    return DataLoader(rows, batch_size=16)  # type: ignore[arg-type]


def test_data_that_cannot_be_asked_are_refused(tested: Any, data: Any, tmp_path: Path) -> None:
    sentence = "MagnitudeReport cannot ask Strange for .*subclass of datamodules.base.BaseData"
    with pytest.raises(ValueError, match=sentence):
        tested(MagnitudeReport(), Strange(data))
    assert not (tmp_path / "report.json").exists()


def test_batches_without_a_datamodule_are_reported(tested: Any, data: Any) -> None:
    run = tested(MagnitudeReport(baselines=False), loader(data)).run
    assert run.datamodule is None
    assert run.bootstrap.groups is None
    assert run.report.header["num_objects"] == 40
    assert run.names(np.array([3])) == ["3"]
    assert run.catalogue(np.array([3])).colnames == []


def test_what_an_interrupted_run_left_is_forgotten(
    tested: Any, stars: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback, module = MagnitudeReport(baselines=False), stars.module()
    predict = module.predict_step

    def fail_late(batch: Any, batch_idx: int = 0) -> Any:
        if batch_idx == 3:
            raise RuntimeError("interrupted")
        return predict(batch, batch_idx)

    monkeypatch.setattr(module, "predict_step", fail_late)
    with pytest.raises(RuntimeError, match="interrupted"):
        stars.trainer(tmp_path, callback).test(module, data, verbose=False)
    run = tested(callback, data, limit_test_batches=1).run
    assert run.rows["index"].tolist() == list(range(63))  # the first of eight batches alone


def test_predictions_that_are_not_finite_are_refused_but_inputs_may_be(
    tested: Any, stars: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.prepare_data()
    data.setup()
    data.columns["magnitude"][5] = torch.nan
    assert np.isnan(tested(MagnitudeReport(), data).run.rows["magnitude"][5])
    module = stars.module()
    predict = module.predict_step
    monkeypatch.setattr(
        module,
        "predict_step",
        lambda batch, i=0: predict(batch, i) | {"latent": batch["magnitude"]},
    )
    with pytest.raises(ValueError, match=r"latent is NaN .* 1 of 501 .* index 5"):
        stars.trainer(tmp_path, MagnitudeReport()).test(module, data, verbose=False)
