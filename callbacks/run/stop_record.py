"""Why a fit ended, beside its checkpoints, for the reports made from them."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.files import atomic_path

FILE = "stopped.json"


class StopRecord(Callback):
    """Writes `stopped.json` beside the checkpoints: why, and at which epoch and step, a fit ended.

    The best checkpoint is older than the end of its fit, so it cannot know. The reason of a fit
    that ran to its end is `run_record["stop_reason"]` of the module; an exception that ends it
    (Ctrl+C, a loss that is not finite) is put there too. Put it first, so that it hears of
    exceptions before other callbacks clean up.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the record of a fit that this one goes on with."""
        path = _record_path(trainer)
        if path is not None and trainer.is_global_zero:
            path.unlink(missing_ok=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the reason, which the module knows by now."""
        self._write(trainer, getattr(pl_module, "run_record", {}))

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write what broke off a fit."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        record = getattr(pl_module, "run_record", {})
        if isinstance(exception, KeyboardInterrupt):
            record["stop_reason"] = signal_reason("SIGINT", trainer)
        elif not isinstance(exception, SystemExit):  # PreemptionCheckpoint has said why
            first = str(exception).split("\n", 1)[0]
            record["stop_reason"] = f"{type(exception).__name__}: {first}"
        self._write(trainer, record)

    def _write(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """Write on rank 0, where there is a folder of checkpoints and a reason."""
        path = _record_path(trainer)
        if path is None or not trainer.is_global_zero or "stop_reason" not in record:
            return
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps({"stop_reason": record["stop_reason"], **place}) + "\n")


def signal_reason(name: str, trainer: Trainer) -> str:
    """Return the reason of a fit that a signal ended, such as SIGTERM, at its epoch and step."""
    return f"signal {name} at epoch {trainer.current_epoch}, step {trainer.global_step}"


def recorded_reason(checkpoint: str | Path) -> dict[str, str]:
    """Return `stop_reason` of the fit that left a checkpoint; nothing where none is recorded."""
    path = Path(checkpoint).with_name(FILE)
    return {"stop_reason": json.loads(path.read_text())["stop_reason"]} if path.is_file() else {}


def _record_path(trainer: Trainer) -> Path | None:
    """Return where the record goes, None without a folder of checkpoints."""
    folders = (getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks)
    return next((Path(folder) / FILE for folder in folders if folder), None)
