"""Lightning's callbacks with other defaults: what differs."""

from pathlib import Path

import pytest
import torch

from callbacks import EarlyStopping, LearningRateMonitor
from tests.reliability.runs import Run, fit
from tests.reliability.tiny import TinyModule


class Worse(TinyModule):
    """Its validation loss rises by one an epoch."""

    def on_validation_epoch_end(self) -> None:
        self.log("val/loss", torch.tensor(float(self.current_epoch)))


def epochs(folder: Path, monkeypatch: pytest.MonkeyPatch, stopping: EarlyStopping) -> int:
    """Return after how many of six epochs a training that gets worse has stopped."""
    monkeypatch.setattr("tests.reliability.runs.TinyModule", Worse)
    run: Run = fit(folder, stopping, max_epochs=6, num_sanity_val_steps=0)
    return run.trainer.current_epoch


@pytest.mark.parametrize(("patience", "expected"), [(2, 3), (None, 6), (0, 2)])
def test_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int | None, expected: int
) -> None:
    assert epochs(tmp_path, monkeypatch, EarlyStopping(patience=patience)) == expected


def test_a_metric_that_is_not_logged_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert epochs(tmp_path, monkeypatch, EarlyStopping("val/none", patience=1)) == 6


def test_the_patience_of_this_run_wins_over_the_checkpoints() -> None:
    before, now = EarlyStopping(patience=3), EarlyStopping(patience=7)
    before.wait_count = 2
    now.load_state_dict(before.state_dict())
    assert (now.patience, now.wait_count) == (7, 2)


@pytest.mark.parametrize("interval", ["epoch", "step", None])
def test_the_learning_rate_is_logged_where_there_is_a_logger(
    tmp_path: Path, interval: str | None
) -> None:
    options = {"max_epochs": 2, "log_every_n_steps": 1}
    run = fit(tmp_path, LearningRateMonitor(interval), **options, model={"plateau": True})
    assert (0, "lr-AdamW/decayed") in run.logged
    without = fit(tmp_path, LearningRateMonitor(interval), **options, logger=False)
    assert without.trainer.current_epoch == 2
