"""`astrolit test --beside.NAME RUN`: from the words typed to the rows in the report."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from matplotlib.figure import Figure

from callbacks.report.base import ReportCallback, TestRun
from lightning_modules.cli.app import main
from tests.reliability.tiny import TinyModule

TINY = "tests.reliability.tiny"
HERE = "tests.lightning_modules.cli.test_beside"
DATA = ["--data", f"{TINY}.TinyDataModule", "--data.source", f"{TINY}.TinySource"]
TRAINER = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
TRAINER += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
WORDS = ["--model", f"{TINY}.TinyModule", *DATA, *TRAINER]


class PredictionReport(ReportCallback):
    """The mean square deviation of each run from the target."""

    method: ClassVar[str] = "tiny"
    outputs: ClassVar[tuple[str, ...]] = ("prediction",)
    inputs: ClassVar[tuple[str, ...]] = ("label", "split", "target")

    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        target = run.rows["target"]
        for subject, rows in {"model": run.rows, **run.beside}.items():
            error = np.square(rows["prediction"] - target)
            run.scope(subject if subject == "model" else f"model_{subject}").mean("mse", error)
        return {}


REPORT = f"--trainer.callbacks+={HERE}.PredictionReport"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two runs that differ in the seed of their weights; their folders."""
    monkeypatch.setenv("ASTROLIT_ALLOW_IMPORTS", "tests")
    for seed in ("0", "1"):
        main(["fit", *WORDS, "--seed_everything", seed])
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
        (["--beside.other", first], "--beside needs a report in trainer.callbacks"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*test, *words])
        assert sentence in " ".join(capsys.readouterr().err.split())
