"""`astrolit ensemble`: from trained runs to one checkpoint that every command takes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from astropy.table import Table

from lightning_modules.cli.app import main

CONFIGS = Path(__file__).parents[2] / "configs"
CLUSTERS = "[{num_stars: 200, scale: 0.05}]"
SMALL = {
    "clustering": [
        "--data.source.num_field", "200", "--data.source.clusters", CLUSTERS,
    ],
    "spectra": ["--data.source.num_spectra", "60"],
}  # fmt: skip
TINY_CONFIG = {"clustering": "tiny_mixture", "spectra": "tiny"}
HEADLINE = {"clustering": "model/ari/split=all", "spectra": "model/chi2"}


REPORTS: dict[str, list[Any]] = {
    "clustering": ["ClusteringReport", {"max_tsne": 10}, "MembershipTable"],
    "spectra": ["SpectraReport", {"max_boosting": 0}, "SpectrumWriter"],
}
"""The demo's callbacks without what takes time."""


def words_of(method: str) -> list[str]:
    report, settings, writer = REPORTS[method]
    settings = {"baselines": False, "num_resamples": 5, **settings}
    callbacks = [{"class_path": report, "init_args": settings}, {"class_path": writer}]
    quick = json.dumps({"trainer": {"callbacks": callbacks}})
    tiny = str(CONFIGS / method / f"{TINY_CONFIG[method]}.yaml")
    return ["-c", f"{method}/demo.yaml", "-c", tiny, "-c", quick, *SMALL[method]]


def report_of(folder: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(Path(folder, "report.json").read_text())
    return report


@pytest.mark.parametrize("method", SMALL)
def test_a_run_twice_is_tested_and_predicted_as_one_model(
    method: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.report.base.save_figures", lambda *args, **kwargs: None)
    words, run = words_of(method), f"runs/{method}/demo/version_0"
    main(["fit", *words])
    if method == "clustering":
        main(["test", *words, "--ckpt_path", run])
    main(["ensemble", run, run, "--output", f"runs/{method}/ensemble"])
    folder = f"runs/{method}/ensemble/version_0"
    assert f"astrolit test -c {folder}/config.yaml --ckpt_path {folder}" in capsys.readouterr().out
    for command in ("test", "predict"):
        main([command, "-c", f"{folder}/config.yaml", "--ckpt_path", folder])
    both = report_of(folder)
    key = next(key for key in both if key.startswith(HEADLINE[method]))
    if method == "clustering":
        alone = report_of(run)
        assert both[key] == pytest.approx(alone[key], rel=1e-4)
        assert "model/epistemic/split=held_out" not in alone
    assert np.isfinite(both[key])
    if method != "spectra":  # which has no classes
        assert both["model/epistemic/split=held_out"] == pytest.approx(0, abs=1e-6)
        assert both["model/aleatoric/split=held_out"] > 0
    (first, second) = both["run_record"]["members"]
    assert first == second
    assert len(first["sha256"]) == 64
    assert list(Path(folder).glob("*.fits")) or list(Path(folder).glob("*.h5"))
    assert [path.name for path in Path(f"runs/{method}/ensemble").iterdir()] == ["version_0"]


TINY = "tests.reliability.tiny"
TRAINER = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
TRAINER += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
WORDS = ["--model", f"{TINY}.TinyModule", "--data", f"{TINY}.TinyDataModule"]
WORDS += ["--data.source", f"{TINY}.TinySource", *TRAINER]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs of one model: two seeds of the weights, and another split."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ASTROLIT_ALLOW_IMPORTS", "tests")
        for words in (["--seed_everything", "1"], ["--seed_everything", "2"], ["--data.seed", "5"]):
            main(["fit", *WORDS, *words])
    return folder


@pytest.fixture
def runs(trained: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Copies of the runs in the working folder."""
    monkeypatch.setenv("ASTROLIT_ALLOW_IMPORTS", "tests")
    shutil.copytree(trained, ".", dirs_exist_ok=True)
    return [f"runs/tiny/TinyModule/version_{number}" for number in range(3)]


def test_members_are_averaged_and_need_not_stay(runs: list[str]) -> None:
    writer = "--trainer.callbacks+=PredictionWriter"
    for run in runs[:2]:
        main(["predict", *WORDS, "--ckpt_path", run, writer])
    main(["ensemble", *runs[:2], "--output", "both"])
    main(["ensemble", *runs[:2], "--output", "both"])  # another version: nothing is overwritten
    tables = [Table.read(f"{run}/predictions.csv")["prediction"] for run in runs[:2]]
    for run in runs[:2]:
        Path(run).rename(f"{run}-elsewhere")
    main(["predict", "-c", "both/version_1/config.yaml", "--ckpt_path", "both/version_1", writer])
    found = Table.read("both/version_1/predictions.csv")
    np.testing.assert_allclose(found["prediction"], np.mean(tables, axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["prediction_std"], np.std(tables, axis=0), atol=1e-6)
    saved = torch.load("both/version_0/checkpoints/best.ckpt", weights_only=True)
    assert [one["class_path"] for one in saved["hyper_parameters"]["members"]] == [
        f"{TINY}.TinyModule"
    ] * 2


def test_runs_without_a_checkpoint_of_their_own_can_be_typed(runs: list[str]) -> None:
    main(["ensemble", *runs[:2], "--output", "both"])
    members = ["--model", "Ensemble", "--model.members", json.dumps(runs[:2])]
    data = WORDS[2:]
    main(["test", *members, *data, "--trainer.logger", "false"])
    config = yaml.safe_load(Path("both/version_0/config.yaml").read_text())
    assert config["model"] == {"class_path": "lightning_modules.Ensemble"}


def test_mistakes_are_one_sentence(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (
            [runs[0], runs[2]],
            f"with data.seed 5, but {runs[0]}/checkpoints/best.ckpt with 0",
        ),
        ([runs[0], "nowhere"], "nowhere: no such checkpoint"),
        ([], "the following arguments are required"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["ensemble", *words, "--output", "both"])
        assert sentence in " ".join(capsys.readouterr().err.split())
    assert not Path("both").exists()
