"""Lightning's callbacks with other defaults: what differs."""

from pathlib import Path

import pytest
import torch

from callbacks import BestCheckpoint, EarlyStopping, LearningRateMonitor
from tests.reliability.runs import Run, fit
from tests.reliability.tiny import TinyModule


class Worse(TinyModule):
    """Its validation loss rises by one an epoch."""

    def on_validation_epoch_end(self) -> None:
        self.log("val/loss", torch.tensor(float(self.current_epoch)))


def epochs(folder: Path, stopping: EarlyStopping) -> int:
    """Return after how many of six epochs a training that gets worse has stopped."""
    run: Run = fit(folder, stopping, kind=Worse, max_epochs=6, num_sanity_val_steps=0)
    return run.trainer.current_epoch


@pytest.mark.parametrize(("patience", "expected"), [(2, 3), (None, 6), (0, 2)])
def test_patience(tmp_path: Path, patience: int | None, expected: int) -> None:
    assert epochs(tmp_path, EarlyStopping(patience=patience)) == expected


def test_a_metric_that_is_not_logged_stops_nothing(tmp_path: Path) -> None:
    assert epochs(tmp_path, EarlyStopping("val/none", patience=1)) == 6


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


@pytest.mark.parametrize(
    ("monitor", "final", "expected"),
    [("val/loss", False, 0), ("val/loss", True, 5), ("val/other", True, 0)],
)
def test_the_newest_epoch_is_best_where_the_loss_does_not_tell(
    tmp_path: Path, monitor: str, final: bool, expected: int
) -> None:
    class Moving(Worse):
        final_state_is_best = final

        def on_validation_epoch_end(self) -> None:
            super().on_validation_epoch_end()
            self.log("val/other", torch.tensor(float(self.current_epoch)))

    best, stopping = BestCheckpoint(monitor), EarlyStopping(patience=2)
    best.dirpath = str(tmp_path / "ckpt")
    run = fit(tmp_path, best, stopping, kind=Moving, max_epochs=6, num_sanity_val_steps=0)
    assert run.trainer.current_epoch == (6 if final else 3)
    saved = torch.load(tmp_path / "ckpt" / "best.ckpt", weights_only=True)
    assert saved["epoch"] == expected
