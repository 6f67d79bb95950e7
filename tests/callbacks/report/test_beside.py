from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from callbacks.report.base import ReportCallback, TestRun


class LatentReport(ReportCallback):
    """A report that only keeps what it is given."""

    method: ClassVar[str] = "stars"
    outputs: ClassVar[tuple[str, ...]] = ("latent", "assignment")
    run: TestRun

    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        self.run = run
        return {}


def answer(stars: Any, tmp_path: Path, **beside: Any) -> LatentReport:
    report = LatentReport(baselines=False)
    report.beside |= beside
    stars.trainer(tmp_path, report).test(stars.module(), stars.data(), verbose=False)
    return report


def test_rows_of_others_are_aligned_with_the_models(stars: Any, tmp_path: Path) -> None:
    other, plain = stars.module(), stars.module(clusters=False)
    other.centres += torch.tensor([0.0, 0.0, 30.0, 0.0])  # so that it answers otherwise
    other.train()
    run = answer(stars, tmp_path, other=other, plain=plain).run
    assert list(run.beside) == ["other", "plain"]
    assert not other.training
    for rows in run.beside.values():
        np.testing.assert_array_equal(rows["index"], run.rows["index"])
        np.testing.assert_array_equal(rows["latent"], run.rows["latent"])
    assert "assignment" not in run.beside["plain"]
    assert (run.beside["other"]["assignment"] != run.rows["assignment"]).any()
    (note,) = run.report.notes
    assert note == "trained runs on the same rows: other (KnowingModule), plain (KnowingModule)"


def test_a_run_without_others_says_nothing_of_them(stars: Any, tmp_path: Path) -> None:
    run = answer(stars, tmp_path).run
    assert run.beside == {}
    assert run.report.notes == []


def test_data_of_another_shape_name_the_run(
    stars: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = stars.module()
    monkeypatch.setattr(other, "expected_shapes", lambda: {"features": ((3,), "num_features")})
    with pytest.raises(ValueError, match=r"beside other: .* set model\.num_features"):
        answer(stars, tmp_path, other=other)


def test_predictions_that_are_not_finite_name_the_run(stars: Any, tmp_path: Path) -> None:
    other = stars.module()
    predict = other.predict_step
    other.predict_step = lambda batch, i=0: (
        predict(batch, i)
        | {"latent": batch["features"] / torch.where(batch["index"] == 7, 0, 1)[:, None]}
    )
    with pytest.raises(ValueError, match=r"beside other: latent is NaN .* index 7"):
        answer(stars, tmp_path, other=other)


@pytest.mark.parametrize("name", ["a/b", "", "a b", "split=all"])
def test_names_must_fit_into_keys(name: str, stars: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot name a run in the report"):
        answer(stars, tmp_path, **{name: stars.module()})
