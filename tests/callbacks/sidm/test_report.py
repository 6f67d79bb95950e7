import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from callbacks.report.base import TestRun
from callbacks.report.table import Report
from callbacks.sidm.figures.look import Findings
from callbacks.sidm.report import SIDMReport, _impute
from datamodules import SIDMDataModule
from lightning_modules import CompactClustering, CrossSectionRegressor
from tests.callbacks.sidm.cores import HIDDEN, KNOWN, SIZE, make_ensemble

FIGURES = {
    "confidence",
    "confusion",
    "coverage",
    "latent",
    "latent_corner",
    "maps",
    "parameters",
    "path",
    "posteriors",
    "profiles",
    "saliency",
    "survey_size",
    "traversal",
}
MEASURED = (*HIDDEN, "noise")


class Kept(SIDMReport):
    """Keeps what it was given and what it drew, which is written only if asked."""

    run: TestRun
    figures: dict[str, Figure]
    writes = False

    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        self.run = run
        return super().evaluate(run)

    def draw(self, findings: Findings) -> dict[str, Figure]:
        self.figures = super().draw(findings)
        return self.figures if self.writes else {}


@pytest.fixture(scope="module")
def run(
    stars: Any, trained: CompactClustering, cores: SIDMDataModule, tmp_path_factory: Any
) -> tuple[Path, Kept]:
    folder = tmp_path_factory.mktemp("run")
    callback = Kept(num_resamples=20)
    callback.beside, callback.writes = {"again": trained}, True
    stars.trainer(folder, callback).test(trained, cores, verbose=False)
    return folder, callback


@pytest.fixture(scope="module")
def report(run: tuple[Path, Kept]) -> dict[str, Any]:
    return json.loads((run[0] / "report.json").read_text())


def test_every_population_is_measured_with_ordered_intervals(report: dict[str, Any]) -> None:
    ends = ("_q05", "_q16", "", "_q84", "_q95")
    for subject in ("model", "baseline/radial_profile", "model_again"):
        for name in MEASURED:
            found = [report[f"{subject}/cross_section{end}/simulation={name}"] for end in ends]
            assert found == sorted(found)
            assert 0 <= found[0] < found[-1] <= 1.6
            for part in ("std_halos", "std_interpolation", "map_spread", "two_sample_auc"):
                assert report[f"{subject}/{part}/simulation={name}"] >= 0


def test_cores_tell_the_cross_section_and_noise_is_foreign(report: dict[str, Any]) -> None:
    found = [report[f"model/cross_section/simulation={name}"] for name in HIDDEN]
    np.testing.assert_allclose(found, list(HIDDEN.values()), atol=0.1, rtol=0.25)
    assert report["model/median_error"] < 0.05
    assert report["model/two_sample_auc/simulation=noise"] > 0.95
    assert report["model/hidden_two_sample_auc"] < 0.7
    assert report["model/ood_auc/domain=noise/score=mahalanobis"] > 0.95


def test_only_held_out_maps_count(report: dict[str, Any], cores: SIDMDataModule) -> None:
    held_out = len(cores.rows["test"])
    own = [report[f"model/confusion/true={x:g}/predicted={x:g}"] for x in KNOWN.values()]
    assert report["num_objects"] == held_out
    known = held_out - 30 * 10 - 20
    assert report["model/accuracy"] == pytest.approx(sum(own) / known)


def test_the_run_beside_is_the_run(report: dict[str, Any]) -> None:
    rows = {k.removeprefix("model/"): x for k, x in report.items() if k.startswith("model/")}
    beside = {k: report[f"model_again/{k}"] for k in rows}
    assert beside == rows


def evaluated(first: TestRun, **rows: np.ndarray) -> Kept:
    """Evaluate a run anew with other rows."""
    options = first.module, first.datamodule, first.bootstrap, first.folder
    again = TestRun(Report("sidm"), first.rows | rows, *options, use_baselines=False)
    callback = Kept()
    callback.evaluate(again)
    return callback


@pytest.mark.parametrize("gone", [tuple(HIDDEN), MEASURED])
def test_what_there_is_is_drawn(run: tuple[Path, Kept], gone: tuple[str, ...]) -> None:
    first = run[1].run
    codes = [first.datamodule.simulations.index(name) for name in gone]
    code = first.rows["simulation"]
    found = evaluated(first, simulation=np.where(np.isin(code, codes), -1, code))
    lost = {"coverage", "survey_size", *({"posteriors", "confidence"} if "noise" in gone else ())}
    assert set(found.figures) == FIGURES - lost
    assert "model/accuracy" in found.run.report.as_dict()


def test_hidden_truth_scores_and_nothing_else(
    run: tuple[Path, Kept], report: dict[str, Any]
) -> None:
    first = run[1].run
    moved = first.rows["true_label"].copy()
    codes = [first.datamodule.simulations.index(name) for name in HIDDEN]
    for code, value in zip(codes, reversed(HIDDEN.values()), strict=True):
        moved[first.rows["simulation"] == code] = value
    found = evaluated(first, true_label=moved).run.report.as_dict()
    scores = ("coverage", "median_error")
    for key, value in report.items():
        if key.startswith("model/") and not any(x in key for x in scores):
            assert found[key] == value, key
    assert found["model/median_error"] > 4 * report["model/median_error"]


def test_cross_sections_that_are_equal_to_rounding_are_one_class(run: tuple[Path, Kept]) -> None:
    first = run[1].run
    label, code = first.rows["true_label"].copy(), first.rows["simulation"]
    one, other = (code == first.datamodule.simulations.index(x) for x in ("sidm_0.1", "sidm_0.3"))
    label[other] = np.float32(0.1 * (1 + 1e-6))
    found = evaluated(first, true_label=label).run.report.as_dict()
    count = int(((one | other) & first.held_out()).sum())
    row = "model/confusion/true=0.1/"
    assert sum(value for key, value in found.items() if key.startswith(row)) == count


def test_a_member_twice_is_the_member(
    stars: Any,
    trained: CompactClustering,
    cores: SIDMDataModule,
    report: dict[str, Any],
    tmp_path: Path,
) -> None:
    ensemble = make_ensemble(trained, trained)
    callback = Kept(num_resamples=5, baselines=False)
    stars.trainer(tmp_path, callback).test(ensemble, cores, verbose=False)
    found = callback.run.report.as_dict()
    for name in MEASURED:
        for key in ("cross_section", "cross_section_q16", "cross_section_q84", "std_halos"):
            place = f"model/{key}/simulation={name}"
            assert found[place] == pytest.approx(report[place], abs=1e-6)
        assert found[f"model/std_members/simulation={name}"] == pytest.approx(0, abs=1e-6)


def test_figures_are_drawn(run: tuple[Path, Kept]) -> None:
    paths = {path.stem: path for path in (run[0] / "figures").iterdir()}
    assert set(paths) == FIGURES
    for name, path in paths.items():
        pixels = imread(path)[..., :3]
        assert min(pixels.shape[:2]) > 200, name
        assert (pixels < 0.9).any(-1).mean() > 0.01, name


def test_a_regressor_is_measured_in_its_one_number(
    stars: Any, cores: SIDMDataModule, tmp_path: Path
) -> None:
    module = CrossSectionRegressor(image_size=SIZE, widths=[4], depths=[1], hidden_dim=8)
    stars.trainer(tmp_path, max_epochs=1).fit(module, cores)
    callback = Kept(num_resamples=5, baselines=False)
    stars.trainer(tmp_path, callback).test(module, cores, verbose=False)
    found = callback.run.report.as_dict()
    assert found["model/cross_section/simulation=hidden_0"] >= 0
    assert "model/ood_auc/domain=noise/score=energy" not in found
    assert set(callback.figures) == FIGURES - {"latent", "confusion", "traversal"}


def test_loaders_alone_are_noted(
    stars: Any, trained: CompactClustering, cores: SIDMDataModule, tmp_path: Path
) -> None:
    loader = cores.test_dataloader()
    callback = Kept()
    stars.trainer(tmp_path, callback).test(trained, loader, verbose=False)
    found = callback.run.report.as_dict()
    assert any("known to a SIDMDataModule alone" in note for note in found["notes"])
    assert not any(key.startswith("model/") for key in found)


def test_a_ring_that_was_not_observed_has_the_mean_of_the_training_maps() -> None:
    features = np.array([[1.0, np.nan], [3.0, 5.0], [100.0, 7.0], [np.nan, 9.0]])
    _impute(features, np.array([True, True, False, False]))
    np.testing.assert_array_equal(features, [[1.0, 5.0], [3.0, 5.0], [100.0, 7.0], [2.0, 9.0]])
