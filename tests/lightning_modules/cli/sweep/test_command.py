"""`astrolit sweep`, from the words typed to the table; each run is a tiny fit."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.report.base import TestRun
from lightning_modules.base import Batch
from lightning_modules.cli.app import main
from lightning_modules.cli.sweep import results
from tests.lightning_modules.cli.test_beside import PredictionReport
from tests.reliability.tiny import TinyModule

HERE = "tests.lightning_modules.cli.sweep.test_command"
BESIDE = "tests.lightning_modules.cli.test_beside"
TINY = "tests.reliability.tiny"
ROOT = Path(__file__).parents[4]
WORDS = [
    "sweep", "--model", f"{HERE}.Sensitive", "--data", f"{TINY}.TinyDataModule",
    "--data.source", f"{TINY}.TinySource", "--trainer.accelerator", "cpu",
    "--trainer.max_epochs", "2", "--early_stopping.patience", "null",
    "--sweep.space", "space.yaml", "--sweep.sampler", "grid",
]  # fmt: skip
FOLDER = Path("runs/tiny/Sensitive_sweep")


class Sensitive(TinyModule):
    """Fails, or has a validation loss of its own, if told so.

    Args:
        offset: Added to the validation loss.
        fail: Whether to raise an error in the first step.
    """

    def __init__(self, offset: float = 0.0, fail: bool = False, lr: float = 1e-2) -> None:
        super().__init__(lr=lr)
        self.save_hyperparameters()
        self.offset, self.fail = offset, fail

    def step(self, batch: Batch, stage: str) -> dict[str, torch.Tensor]:
        if self.fail:
            raise RuntimeError("out of memory, say")
        terms = super().step(batch, stage)
        shift = 0.0 * terms["loss"] + self.offset
        return terms if stage == "train" else {"loss": shift, "spread": shift}


@pytest.fixture(autouse=True)
def _allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTROLIT_ALLOW_IMPORTS", "tests")


def space(text: str) -> None:
    Path("space.yaml").write_text(f"space: {text}\n")


def table() -> list[dict[str, str]]:
    with (FOLDER / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def study() -> optuna.Study:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{FOLDER / 'study.db'}")


def test_each_trial_is_a_run_and_the_report_stands_beside_the_objective(
    capsys: pytest.CaptureFixture[str],
) -> None:
    space("{model.offset: [3.0, 1.0], model.lr: [0.5, 0.25]}")
    main([*WORDS, f"--trainer.callbacks+={BESIDE}.PredictionReport"])
    rows = table()
    assert [float(row["objective"]) for row in rows] == [3, 3, 1, 1]
    assert {row["state"] for row in rows} == {"complete"}
    assert study().best_trial.number == 2
    for number, row in enumerate(rows):
        run = FOLDER / f"version_{number}"
        assert Path(row["run"]) == run
        report = json.loads((run / "report.json").read_text())
        assert float(row["model/mse"]) == report["model/mse"]
        assert study().trials[number].user_attrs["model/mse"] == report["model/mse"]
        state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        assert state["hyper_parameters"]["offset"] == float(row["model.offset"])
        assert state["optimizer_states"][0]["param_groups"][0]["lr"] == float(row["model.lr"])
        assert "Trainer.fit" in (run / "log.txt").read_text()
    events = EventAccumulator(str(FOLDER / "version_1")).Reload()
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert events.Scalars("objective")[0].value == 3.0
    names = {path.stem for path in (FOLDER / "figures").iterdir()}
    assert names == {"history", "options", "importance"}
    printed = capsys.readouterr().out
    assert f"best: {FOLDER}/version_2 (val/loss 1)" in printed
    assert "Trainer.fit" not in printed
    main([*WORDS, f"--trainer.callbacks+={BESIDE}.PredictionReport"])  # nothing is left to do
    assert len(table()) == 4
    again = ["-c", str(FOLDER / "version_1/config.yaml"), "--trainer.enable_progress_bar", "false"]
    main(["fit", *again])  # what is fitted from a run's configuration is no trial
    assert Path("runs/tiny/Sensitive/version_0/checkpoints/last.ckpt").is_file()
    assert not (FOLDER / "version_4").exists()


class OffsetReport(PredictionReport):
    """Reports the model's offset with an interval of ± 1 around it."""

    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        offset = run.module.offset
        for end, value in (("", offset), ("_q16", offset - 1), ("_q84", offset + 1)):
            run.scope("model", simulation="a").add(f"offset{end}", value)
        return {}


def test_what_a_report_says_is_drawn_against_the_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, Figure] = {}
    drawn = results.render
    patched: Any = lambda figure: drawn(found.setdefault(figure.axes[0].get_title(), figure))  # noqa: E731
    monkeypatch.setattr(results, "render", patched)
    space(
        "{steps: {slow: {model.offset: 2.0, model.lr: 0.1}, fast: {model.offset: 6.0}},"
        " seed_everything: [0, 1]}"
    )
    words = [*WORDS, f"--trainer.callbacks+={HERE}.OffsetReport", "--trainer.max_epochs", "1"]
    main([*words, "--sweep.watch", "[model/offset/simulation=a]"])
    assert [(row["steps"], row["seed_everything"]) for row in table()] == [
        ("slow", "0"), ("slow", "1"), ("fast", "0"), ("fast", "1"),
    ]  # fmt: skip
    assert "val/loss 6  (steps=fast, seed_everything=1" in capsys.readouterr().out
    assert (FOLDER / "figures/watched.png").is_file()
    (panel,) = found["simulation=a"].axes
    (mean,) = [line for line in panel.lines if line.get_label() == "mean over trials"]
    assert mean.get_xydata().tolist() == [[0.0, 2.0], [1.0, 6.0]]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["slow", "fast"]
    (bars,) = panel.collections
    ends = [path.vertices[:, 1].tolist() for path in bars.get_paths()]
    assert ends == [[1.0, 3.0]] * 2 + [[5.0, 7.0]] * 2
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--sweep.watch", "[model/ofset]"])
    assert "--sweep.watch model/ofset: no report has it; they have" in error(capsys)


def test_a_failing_trial_does_not_end_the_study(capsys: pytest.CaptureFixture[str]) -> None:
    space("{model.fail: [true, false]}")
    main([*WORDS, "--sweep.test", "false"])
    assert [row["state"] for row in table()] == ["fail", "complete"]
    assert table()[0]["error"] == "failed: RuntimeError: out of memory, say"
    capsys.readouterr()
    space("{model.fail: [true]}")
    with pytest.raises(SystemExit, match="2"):
        main([*WORDS, "--sweep.folder", "other"])
    assert "other: no trial was completed; see other/version_0/log.txt" in error(capsys)


class Drifting(Sensitive):
    """Its validation loss grows by one each epoch, and its last state is best all the same."""

    final_state_is_best: ClassVar[bool] = True

    def step(self, batch: Batch, stage: str) -> dict[str, torch.Tensor]:
        return {name: x + self.current_epoch for name, x in super().step(batch, stage).items()}


class FailingReport(PredictionReport):
    """Reports nothing."""

    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        raise ValueError("no figure")


def test_the_last_state_counts_if_it_is_best_even_if_its_test_fails() -> None:
    space("{model.offset: [1.0]}")
    words = ["--model", f"{HERE}.Drifting", f"--trainer.callbacks+={HERE}.FailingReport"]
    main([*WORDS, *words, "--sweep.monitor", "val/spread", "--sweep.folder", str(FOLDER)])
    (row,) = table()
    assert (row["state"], row["objective"]) == ("complete", "2.0")
    assert row["error"] == "test failed: ValueError: no figure"
    best = torch.load(FOLDER / "version_0/checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == 1


def test_bad_runs_are_pruned() -> None:
    space("{model.offset: [1.0, 1.05, 1.1, 1.2, 1.3, 9.0]}")
    words = ["--trainer.max_epochs", "1", "--sweep.pruner", "median", "--sweep.test", "false"]
    main([*WORDS, *words])
    rows = table()
    assert [row["state"] for row in rows] == ["complete"] * 5 + ["pruned"]
    stopped = json.loads((FOLDER / "version_5/checkpoints/stopped.json").read_text())
    assert stopped["stop_reason"].startswith("pruned: val/loss at epoch 0")


def test_a_killed_sweep_goes_on_and_does_each_point_once() -> None:
    space("{model.offset: [1.0, 2.0], seed_everything: [4, 5]}")
    words = [*WORDS, "--sweep.test", "false"]
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lightning_modules", *words], env={**os.environ, **paths}
    )
    deadline = time.monotonic() + 200
    while not (FOLDER / "version_1/log.txt").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [trial.state for trial in study().trials]
    assert 0 < before.count(optuna.trial.TrialState.COMPLETE) < 4
    main(words)
    done = [trial.params for trial in study().trials if trial.value is not None]
    expected = [(offset, seed) for offset in (1.0, 2.0) for seed in (4, 5)]
    assert sorted((x["model.offset"], x["seed_everything"]) for x in done) == expected
    rows = [row for row in table() if row["state"] == "complete"]
    assert len(rows) == len(table()) == 4
    assert not list(FOLDER.glob(".worker-*"))


def test_a_sweep_told_to_end_goes_on_later(monkeypatch: pytest.MonkeyPatch) -> None:
    space("{model.offset: [1.5]}")
    words = [*WORDS, "--sweep.test", "false"]
    with monkeypatch.context() as patch:
        patch.setattr(Sensitive, "on_train_start", lambda module: sys.exit(143))
        for _ in range(4):  # more often than a point may kill its process
            with pytest.raises(SystemExit, match="143"):
                main(words)
    main(words)
    assert [(row["trial"], row["objective"]) for row in table()] == [("4", "1.5")]


def error(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("text", "words", "sentence"),
    [
        ("{model.ofset: [1]}", [], "ofset"),
        ("{model.offset: [a, b]}", [], "offset"),
        ("[1]", [], "has the one key `space`"),
        ("{model.lr: {low: 0.1, high: 0.2}}", [], "is a range without steps"),
        ("{model.lr: [0.1]}", ["--sweep.space", "none.yaml"], "--sweep.space none.yaml: neither"),
        ("{model.lr: [0.1]}", ["--sweep.sampler", "best"], "sweep.sampler"),
        ("{model.lr: [0.1]}", ["--sweep.monitor", "val/nothing"], "validation logs val/loss"),
        ("{model.lr: [0.1]}", ["--trainer.devices", "2"], "in one process, not 2"),
        ("{model.lr: [0.1]}", ["--ckpt_path", "last"], "leave --ckpt_path out"),
        ("{model.lr: [0.1]}", ["--trainer.logger", "false"], "leave --trainer.logger out"),
        ("{model.lr: [0.1]}", ["--sweep.folder", "bad"], "bad/study.db: the study could not be"),
        ("{model.lr: [0.1, 0.2, fast]}", [], "lr"),
        ("{steps: {first: {model.ofset: 1}}}", [], "ofset"),
        (
            "{model.lr: [0.1]}",
            ["--sweep.test", "false", "--sweep.watch", "[model/mse]"],
            "--sweep.watch needs reports: leave --sweep.test true",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    text: str, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    space(text)
    Path("bad").mkdir()
    Path("bad/study.db").write_text("no database")
    with pytest.raises(SystemExit, match="2"):
        main([*WORDS, *words])
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert sentence in lines[0]


def test_without_optuna_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: Any = lambda name: None  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", found)
    with pytest.raises(SystemExit, match="2"):
        main(["sweep"])
    assert "pip install 'astrolit[optuna]'" in error(capsys)
