"""`astrolit test --beside.NAME RUN`: from the words typed to the rows in the report."""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.report.base import ReportCallback, TestRun
from datamodules import SIDMDataModule, SimulatedClusterMaps
from datamodules.store import RowStore
from lightning_modules.cli.app import main
from lightning_modules.cli.beside import check_data, check_unseen
from tests.reliability.tiny import TinyDataModule, TinyModule, TinySource

TINY = "tests.reliability.tiny"
HERE = "tests.lightning_modules.cli.test_beside"
DATA = ["--data", f"{HERE}.ScaledData", "--data.source", f"{TINY}.TinySource"]
TRAINER = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
TRAINER += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
WORDS = ["--model", f"{TINY}.TinyModule", *DATA, *TRAINER]


class ScaledData(TinyDataModule):
    """Features times a number.

    Args:
        source: Of the rows.
        scale: The number.
        seed: Of the split.
        val_fraction: Of the rows.
        test_fraction: Of the rows.
    """

    def __init__(
        self,
        source: TinySource,
        scale: float = 1.0,
        seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
    ) -> None:
        super().__init__(source, seed=seed, val_fraction=val_fraction, test_fraction=test_fraction)
        self.scale = scale

    def load(self, store: RowStore) -> dict[str, Tensor]:
        columns = super().load(store)
        return columns | {"features": self.scale * columns["features"]}


class PredictionReport(ReportCallback):
    """The mean square deviation of each run from the target."""

    method: ClassVar[str] = "tiny"
    outputs: ClassVar[tuple[str, ...]] = ("prediction",)
    inputs: ClassVar[tuple[str, ...]] = ("label", "split", "target")
    shows_beside: ClassVar[bool] = True
    own_subjects: ClassVar[tuple[str, ...]] = ("linear",)

    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        target = run.rows["target"]
        for subject, rows in {"model": run.rows, **run.beside}.items():
            error = np.square(rows["prediction"] - target)
            run.scope(subject if subject == "model" else f"model_{subject}").mean("mse", error)
        return {}


class SilentReport(PredictionReport):
    """Shows nothing of other runs."""

    shows_beside: ClassVar[bool] = False


ROLES: dict[str, Any] = {"known": ["cdm", "sidm_0.3", "sidm_1"], "hidden": ["sidm_0.1"]}
REPORT = f"--trainer.callbacks+={HERE}.PredictionReport"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs that differ in the seed of their weights."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ASTROLIT_ALLOW_IMPORTS", "tests")
        for seed in ("0", "1"):
            main(["fit", *WORDS, "--seed_everything", seed])
    return folder


@pytest.fixture
def runs(trained: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Copies of the runs in the working folder."""
    monkeypatch.setenv("ASTROLIT_ALLOW_IMPORTS", "tests")
    shutil.copytree(trained, ".", dirs_exist_ok=True)
    return [f"runs/tiny/TinyModule/version_{number}" for number in (0, 1)]


def values_of(folder: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(Path(folder, "report.json").read_text())
    return report


def test_another_run_answers_as_it_would_alone(runs: list[str]) -> None:
    first, second = runs
    main(["test", *WORDS, "--ckpt_path", second, REPORT])
    alone = values_of(second)["model/mse"]
    assert TinyModule.needs_checkpoint
    main(["test", *WORDS, "--ckpt_path", first, REPORT, "--beside.other", second])
    both = values_of(first)
    assert both["model_other/mse"] == alone != both["model/mse"]
    as_mapping = json.dumps({"a": second, "b": first})
    main(["test", *WORDS, "--ckpt_path", first, REPORT, "--beside", as_mapping])
    both = values_of(first)
    assert (both["model_a/mse"], both["model_b/mse"]) == (alone, both["model/mse"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data.seed", "3"], "trained with data.seed 0, but tested here with 3"),
        (["--data.test_fraction", "0.3"], "trained with data.test_fraction 0.2, but tested"),
        (["--data.source.num_rows", "41"], "trained with data.source {"),
        (["--data.scale", "2.0"], "trained with data.scale 1.0, but tested here with 2.0, so the"),
    ],
)
def test_a_run_that_may_have_seen_what_is_held_out_is_refused(
    words: list[str], sentence: str, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = runs
    with pytest.raises(SystemExit, match="2"):
        main(["test", *WORDS, *words, REPORT, "--ckpt_path", first, "--beside.other", second])
    error = " ".join(capsys.readouterr().err.split())
    assert f"--beside.other {second}: {sentence}" in error
    assert not Path(first, "report.json").exists()


def test_mistakes_are_one_sentence(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    first, second = runs
    Path(second, "config.yaml").unlink()
    test = ["test", *WORDS, "--ckpt_path", first]
    for words, sentence in (
        ([REPORT, "--beside.other", second], "no config.yaml in"),
        ([REPORT, "--beside.other", "nowhere"], "nowhere: no such checkpoint"),
        (
            ["--beside.other", first],
            "shows other runs, such as ClusteringReport; here is none",
        ),
        ([REPORT.replace("Prediction", "Silent"), "--beside.a", first], "here is SilentReport"),
        ([REPORT, "--beside.linear", first], "beside: linear is a baseline of the report"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*test, *words])
        assert sentence in " ".join(capsys.readouterr().err.split())
    for command in ("fit", "validate", "predict"):
        with pytest.raises(SystemExit, match="2"):
            main([command, *WORDS, "--beside.other", first])
        assert "--beside is for the report of `astrolit test`" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--ckpt_path"], ["--model", "Ensemble", "--model.members"]])
def test_a_tested_model_may_not_have_seen_what_is_held_out(
    option: list[str], runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = WORDS[:2] if option == ["--ckpt_path"] else []
    place = runs[0] if model else json.dumps(runs)
    test = ["test", *model, *WORDS[2:], *option, place, "--trainer.logger", "false"]
    for words, change in (
        (["--data.seed", "3"], "data.seed 0, but tested here with 3 on the same source"),
        (["--data.val_fraction", "0.3"], "data.val_fraction 0.1, but tested here with 0.3"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*test, *words])
        assert f"trained with {change}" in " ".join(capsys.readouterr().err.split())
    main([*test, "--data.seed", "3", "--data.source.num_rows", "50"])  # new data
    for run in runs:
        Path(run, "config.yaml").unlink()
    main([*test, "--data.seed", "3"])  # nothing tells


def test_roles_of_simulations_fix_what_is_held_out() -> None:
    """In any order; a datamodule says which of its settings do."""

    def data(**roles: list[str]) -> SIDMDataModule:
        return SIDMDataModule(SimulatedClusterMaps(num_halos=8), **{**ROLES, **roles})

    path = Path("version_0/checkpoints/best.ckpt")
    block = {"class_path": "datamodules.SIDMDataModule", "init_args": dict(ROLES)}
    source = {"class_path": "datamodules.SimulatedClusterMaps", "init_args": {"num_halos": 8}}
    block["init_args"]["source"] = source
    path.parent.mkdir(parents=True)
    Path("version_0/config.yaml").write_text(json.dumps({"data": block}))
    check_unseen("--ckpt_path", str(path), data())
    check_unseen("--ckpt_path", str(path), data(known=ROLES["known"][::-1]))
    other = {"known": ROLES["known"][:2], "hidden": ["sidm_1", "sidm_0.1"]}
    with pytest.raises(
        ValueError, match=r"data\.known \['cdm', .*on the same source, so its train"
    ):
        check_unseen("--ckpt_path", str(path), data(**other))
    sentence = (
        r'data\.hidden \["sidm_0\.1"\], but tested here with \[\], so its training may have seen'
    )
    with pytest.raises(ValueError, match=sentence):
        check_data("--beside.a", data(), data(hidden=[], foreign=["sidm_0.1"]))
