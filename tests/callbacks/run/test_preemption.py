"""SIGTERM at any point: a checkpoint that resumes bit for bit, exit code 143, old handlers back."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.run.preemption import PreemptionCheckpoint, preempted_path
from tests.reliability.runs import Run, fit, make_data, make_trainer
from tests.reliability.tiny import TinyModule

MODEL = {"dropout": 0.3, "noise": 0.1}


class Told(Callback):
    """Sends this process a real signal when a hook runs for the n-th time; counts validations."""

    def __init__(self, hook: str, number: int, name: str = "SIGTERM") -> None:
        self.left = number
        self.name = name
        self.validations_after = 0
        setattr(self, hook, self._tell)

    def _tell(self, trainer: Trainer, *args: Any) -> None:
        self.left -= 0 if trainer.sanity_checking else 1
        if self.left == 0:
            os.kill(os.getpid(), getattr(signal, self.name))

    def on_validation_epoch_end(self, *args: Any) -> None:
        self.validations_after += self.left <= 0


@pytest.mark.parametrize(
    ("hook", "number", "arguments"),
    [
        pytest.param("on_sanity_check_start", 1, {}, id="before the first step"),
        pytest.param("on_train_batch_start", 1, {}, id="first batch"),
        pytest.param("on_train_batch_start", 6, {}, id="middle of an epoch"),
        pytest.param("on_train_batch_start", 8, {}, id="last batch of an epoch"),
        pytest.param("on_train_batch_start", 12, {}, id="last batch of all"),
        pytest.param("on_validation_start", 2, {}, id="in validation"),
        pytest.param("on_validation_start", 3, {}, id="in the last validation"),
        pytest.param("on_validation_end", 3, {}, id="after the last validation"),
        pytest.param("on_train_batch_start", 1, {"accumulate_grad_batches": 3}, id="half a step"),
        pytest.param("on_train_batch_start", 6, {"max_steps": 6}, id="last of max_steps"),
    ],
)
def test_saves_exits_143_and_resumes_exactly(
    tmp_path: Path, hook: str, number: int, arguments: dict[str, Any]
) -> None:
    reference = fit(tmp_path, model=MODEL, **arguments)
    before = signal.getsignal(signal.SIGTERM)
    told = Told(hook, number)
    if hook == "on_sanity_check_start":
        told.on_sanity_check_start = lambda *args: os.kill(os.getpid(), signal.SIGTERM)  # type: ignore[method-assign]
    with pytest.raises(SystemExit) as caught:
        fit(tmp_path, told, PreemptionCheckpoint(), model=MODEL, **arguments)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert told.validations_after == 0 or hook == "on_validation_end"
    path = tmp_path / "preempted.ckpt"
    resumed = fit(tmp_path, seed=2, ckpt_path=path, model=MODEL, **arguments)
    assert torch.equal(reference.state(), resumed.state())
    for key, value in resumed.logged.items():
        assert reference.logged[key] == value


def test_saves_at_an_optimizer_step_only(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"accumulate_grad_batches": 3, "model": MODEL}
    with pytest.raises(SystemExit):
        fit(tmp_path, Told("on_train_batch_start", 1), PreemptionCheckpoint(), **arguments)
    checkpoint = torch.load(tmp_path / "preempted.ckpt", weights_only=True)
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert (progress["processed"], checkpoint["global_step"]) == (3, 1)


def test_lies_beside_the_others_and_leaves_them_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    last = ModelCheckpoint(folder, filename="last", save_top_k=1)
    with pytest.raises(SystemExit):
        fit(tmp_path, last, Told("on_train_batch_start", 6), PreemptionCheckpoint(), model=MODEL)
    assert sorted(os.listdir(folder)) == ["last.ckpt", "preempted.ckpt"]
    steps = [
        torch.load(folder / name, weights_only=True)["global_step"]
        for name in ("last.ckpt", "preempted.ckpt")
    ]
    assert steps == [4, 6]
    path = folder / "preempted.ckpt"
    assert f"saved {path}; resume with --ckpt_path {path}" in capsys.readouterr().out


def test_other_signals_and_no_signal(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        fit(tmp_path, Told("on_train_batch_start", 2, "SIGUSR1"), PreemptionCheckpoint(["SIGUSR1"]))
    assert caught.value.code == 143
    run = fit(tmp_path / "quiet", PreemptionCheckpoint())
    assert run.trainer.current_epoch == 3
    assert not (tmp_path / "quiet" / "preempted.ckpt").exists()
    with pytest.raises(ValueError, match=re.escape("signals ['SIGTREM'] do not exist")):
        PreemptionCheckpoint(["SIGTREM"])


@pytest.mark.parametrize("stage", ["test", "predict", "validate"])
def test_evaluations_end_at_once_and_save_nothing(tmp_path: Path, stage: str) -> None:
    hook = (
        f"on_{stage.removesuffix('e')}_batch_start"
        if stage != "validate"
        else "on_validation_batch_start"
    )
    trainer = make_trainer(tmp_path, Told(hook, 1), PreemptionCheckpoint())
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        getattr(trainer, stage)(TinyModule(), make_data())
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert not preempted_path(trainer).exists()


def test_a_second_signal_while_saving_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Trainer.save_checkpoint

    def save_slowly(self: Trainer, *args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "save_checkpoint", save_slowly)
    with pytest.raises(SystemExit) as caught:
        fit(tmp_path, Told("on_train_batch_start", 2), PreemptionCheckpoint())
    assert caught.value.code == 143
    monkeypatch.undo()
    run: Run = fit(tmp_path, ckpt_path=tmp_path / "preempted.ckpt")
    assert run.trainer.global_step == 12
