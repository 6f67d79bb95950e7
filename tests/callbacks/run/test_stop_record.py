"""Every fit says why it ended: in the module's record, its checkpoints and its report."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from callbacks import EarlyStopping, LastCheckpoint, PreemptionCheckpoint, StopRecord
from callbacks.report.table import run_facts
from callbacks.run.stop_record import recorded_reason
from tests.reliability.runs import Run, fit, make_data
from tests.reliability.tiny import TinyDataModule, TinyModule, TinySource


class At(Callback):
    """Does something at the second batch of the second epoch."""

    def __init__(self, action: Any) -> None:
        self.action = action

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.current_epoch == 1 and args[2] == 1:
            self.action(trainer)


def last(folder: Path) -> LastCheckpoint:
    callback = LastCheckpoint()
    callback.dirpath = str(folder)
    return callback


def stop_now(trainer: Trainer) -> None:
    trainer.should_stop = True


def interrupt(trainer: Trainer) -> None:
    raise KeyboardInterrupt


def terminate(trainer: Trainer) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def reason_in(path: Path) -> str | None:
    return torch.load(path, weights_only=True)["astrolit"]["run_record"].get("stop_reason")


ENDS = {
    "max_epochs: 3 epochs": ({}, []),
    "max_steps: 7 steps": ({"max_steps": 7}, []),
    "early stopping: val/loss did not improve in 2 checks (patience 2); its best was ": (
        {"max_epochs": 9},
        [EarlyStopping(patience=2, min_delta=1e6)],
    ),
    "max_time: ": ({"max_epochs": 9, "max_time": {"microseconds": 1}}, []),
    "a callback set should_stop": ({}, [At(stop_now)]),
}
"""Reason to what brings it about."""


@pytest.mark.parametrize("reason", list(ENDS))
def test_the_reason_of_an_orderly_end(tmp_path: Path, reason: str) -> None:
    arguments, callbacks = ENDS[reason]
    run = fit(tmp_path, StopRecord(), *callbacks, last(tmp_path), **arguments)
    found = run.module.run_record["stop_reason"]
    assert found.startswith(reason)
    written = json.loads((tmp_path / "stopped.json").read_text())
    assert written == {
        "stop_reason": found, "epoch": run.trainer.current_epoch, "step": run.trainer.global_step
    }  # fmt: skip
    assert reason_in(tmp_path / "last.ckpt") == found


def broken_off(folder: Path, action: Any, error: type[BaseException], **arguments: Any) -> str:
    """Return the reason beside the checkpoints of a fit that an exception ended."""
    told = [StopRecord(), At(action), PreemptionCheckpoint(), last(folder)]
    with pytest.raises(error):
        fit(folder, *told, **arguments)
    return recorded_reason(folder / "last.ckpt")["stop_reason"]


def test_the_reason_of_a_fit_that_was_broken_off(tmp_path: Path) -> None:
    assert broken_off(tmp_path / "a", interrupt, SystemExit) == "signal SIGINT at epoch 1, step 5"
    assert broken_off(tmp_path / "b", terminate, SystemExit) == "signal SIGTERM at epoch 1, step 6"
    assert reason_in(tmp_path / "b" / "preempted.ckpt") == "signal SIGTERM at epoch 1, step 6"
    data = TinyDataModule(TinySource(40, broken_row=3), batch_size=8)
    reason = broken_off(tmp_path / "c", stop_now, FloatingPointError, data=data)
    assert reason.startswith("FloatingPointError: train/loss = nan")


def resumed(folder: Path, **arguments: Any) -> Run:
    return fit(folder, StopRecord(), last(folder), ckpt_path=folder / "last.ckpt", **arguments)


def test_a_resumed_fit_forgets_and_tells_its_own_end(tmp_path: Path) -> None:
    fit(tmp_path, StopRecord(), last(tmp_path))
    assert reason_in(tmp_path / "last.ckpt") == "max_epochs: 3 epochs"
    run = resumed(tmp_path, max_epochs=5)
    assert run.module.run_record["stop_reason"] == "max_epochs: 5 epochs"
    assert recorded_reason(tmp_path / "last.ckpt") == {"stop_reason": "max_epochs: 5 epochs"}


def test_a_report_of_an_older_checkpoint_knows_the_end(tmp_path: Path) -> None:
    fit(tmp_path, StopRecord(), last(tmp_path))
    run = Run(TinyModule(), Trainer(logger=False, accelerator="cpu", enable_checkpointing=False))
    run.trainer.validate(run.module, make_data(), verbose=False)
    run.trainer.ckpt_path = tmp_path / "best.ckpt"
    record = run_facts(run.trainer, run.module)["run_record"]
    assert record["stop_reason"] == "max_epochs: 3 epochs"
    assert recorded_reason(tmp_path / "elsewhere" / "best.ckpt") == {}
