"""SIGTERM: save, then leave with exit code 143, on every process at the same step."""

import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.run.lightning_private import take_sigterm
from callbacks.run.stop_record import signal_reason

EXIT_CODE = 143


class PreemptionCheckpoint(Callback):
    """Saves `preempted.ckpt` and leaves with exit code 143 when the job is told to end.

    The signal only sets a flag; at the next optimizer step (or validation batch) the ranks agree,
    save together beside the other checkpoints and leave, without a further validation and without
    touching `best.ckpt` and `last.ckpt`. In `validate`, `test` and `predict` nothing is saved.
    Replaces Lightning's own SIGTERM handler, which deadlocks under DDP, while the loops run. Put
    it last, so that other callbacks have finished the batch.

    Args:
        signals: Names of the signals that end the job.
    """

    def __init__(self, signals: Sequence[str] = ("SIGTERM",)) -> None:
        unknown = [name for name in signals if name not in signal.Signals.__members__]
        if unknown:
            raise ValueError(f"signals {unknown} do not exist; use names such as SIGTERM, SIGUSR1")
        self.signals = [signal.Signals[name] for name in signals]
        self._received = 0  # number of the signal
        self._old: dict[signal.Signals, Any] = {}
        self._shared_batches = 0.0
        self._launcher: Any = None

    def _listen(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Install the handler of the stage, once; Python allows it in the main thread only."""
        if self._old or threading.current_thread() is not threading.main_thread():
            return
        # A signal between Lightning's installing its handler and this one must not be lost.
        self._received = signal.SIGTERM if take_sigterm(trainer) else 0
        self._launcher = trainer.strategy.launcher
        fitting = trainer.state.fn == TrainerFn.FITTING
        for number in self.signals:
            self._old[number] = signal.signal(number, self._note if fitting else self._leave_now)

    on_sanity_check_start = on_train_start = on_test_start = on_predict_start = _listen

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Agree on how many batches every rank has."""
        self._listen(trainer)
        batches = torch.tensor(float(sum(trainer.num_val_batches)), device=pl_module.device)
        self._shared_batches = float(trainer.strategy.reduce(batches, reduce_op="min"))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and leave if any rank was told to; partial gradients are never dropped."""
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        if stepped and trainer.global_step != trainer.max_steps:  # else `on_train_end` comes now
            self._leave_if_told(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Save and leave if any rank was told to, as long as every rank has a batch."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        self._shared_batches -= 1
        if fitting and self._shared_batches >= 0:
            self._leave_if_told(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop listening; a signal after the last batch still gives exit code 143."""
        self._leave_if_told(trainer)
        self.teardown()

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Put the old handlers back."""
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._old = {}

    on_exception = teardown

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Remember that the job must end (all that is safe inside a signal handler)."""
        self._received = number

    def _leave_now(self, number: int, frame: FrameType | None) -> None:
        """Leave an evaluation, of which nothing is saved, with the processes of other ranks."""
        for process in getattr(self._launcher, "procs", []):
            process.send_signal(number)
        self._dismiss_watchdog()
        raise SystemExit(EXIT_CODE)

    def _dismiss_watchdog(self) -> None:
        """Keep Lightning from killing rank 0 because another rank has left before it."""
        getattr(self._launcher, "procs", []).clear()

    def _leave_if_told(self, trainer: Trainer) -> None:
        """Save on all ranks and leave if any rank received a signal."""
        if not trainer.strategy.reduce_boolean_decision(bool(self._received), all=False):
            return
        path, module = preempted_path(trainer), trainer.lightning_module
        told = torch.tensor(float(self._received), device=module.device)
        number = int(trainer.strategy.reduce(told, reduce_op="max"))
        if isinstance(record := getattr(module, "run_record", None), dict):
            record["stop_reason"] = signal_reason(signal.Signals(number).name, trainer)
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            print(f"told to end: saved {path}; resume with --ckpt_path {path}", flush=True)
        self._dismiss_watchdog()
        raise SystemExit(EXIT_CODE)


def preempted_path(trainer: Trainer) -> Path:
    """Return where the checkpoint goes: beside the others, else the default root folder."""
    folders = [getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks]
    folder = next((name for name in folders if name), trainer.default_root_dir)
    return Path(folder) / "preempted.ckpt"
