"""What two gloo processes do; `test_ddp.py` starts this once and asserts on what it saves.

Lightning itself starts the second process, by running this script again.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from callbacks.report.gather import RowGatherer
from tests.reliability.processes import leave_process_group
from tests.reliability.runs import Run, Saver, assert_same_from, fit, make_data, make_trainer
from tests.reliability.tiny import TinyDataModule, TinyModule, TinySource

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
DDP: dict[str, Any] = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
NOISY = {"dropout": 0.3, "noise": 0.1}
# (rows, batch of one process): uneven last batch; last global batch of a single row
SIZES = ((83, 8), (40, 8), (40, 2))
STOPS = ("on_train_batch_end", "on_validation_batch_end", "on_train_epoch_end")


class Collect(Callback):
    """Gathers all rows that a test or a prediction saw, as they came and each once."""

    def __init__(self) -> None:
        self.rows = RowGatherer()
        self.seen: list[int] = []
        self.gathered: dict[str, Any] = {}

    def on_test_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *args: Any) -> None:
        self.rows.add(outputs)
        self.seen += outputs["index"].tolist()

    def on_predict_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *a: Any) -> None:
        self.on_test_batch_end(trainer, module, outputs)

    def on_test_end(self, trainer: Trainer, module: Any) -> None:
        gathered = self.rows.gather(trainer)
        self.gathered = {name: torch.from_numpy(values) for name, values in gathered.items()}

    def on_predict_end(self, trainer: Trainer, module: Any) -> None:
        self.on_test_end(trainer, module)


def summary(run: Run) -> dict[str, Any]:
    """Return what a training left, as plain values."""
    return {"state": run.state().clone(), "logged": dict(run.logged)}


def trained(num_rows: int, batch_size: int, **arguments: Any) -> dict[str, Any]:
    """Train the plain network for two epochs."""
    data = make_data(num_rows, batch_size=batch_size)
    return summary(fit(FOLDER, data=data, max_epochs=2, **arguments))


def evaluated(batch_size: int, **arguments: Any) -> dict[str, Any]:
    """Test and predict with a network of all trimmings on 83 rows."""
    torch.manual_seed(7)
    module = TinyModule(dropout=0.3, batch_norm=True)
    collect = Collect()
    trainer = make_trainer(FOLDER, collect, **arguments)
    data = make_data(83, batch_size=batch_size)
    trainer.test(module, data, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    tested, seen = collect.gathered, collect.seen
    collect.seen = []
    predictions = trainer.predict(module, data)
    assert isinstance(predictions, list)
    return {
        "metrics": metrics,
        "tested": tested["prediction"],
        "predicted": collect.gathered["prediction"],
        "seen": [seen, collect.seen],
        "returned": sum(len(batch["index"]) for batch in predictions),
    }


def resumed() -> list[str]:
    """Resume from every stop of a run with dropout and noise; raises where bits differ."""
    saver = Saver(FOLDER / "stops", *STOPS)
    model = {**NOISY, "plateau": True}
    reference = fit(FOLDER, saver, model=model, max_epochs=2, **DDP)
    for path in saver.paths:
        again = fit(FOLDER, seed=2, ckpt_path=path, model=model, max_epochs=2, **DDP)
        assert_same_from(path, reference, again)
    return [path.name for path in saver.paths]


def preempted() -> dict[str, Tensor] | None:
    """Resume what another pair of processes saved when told to end."""
    path = FOLDER / "preempted.ckpt"
    if not path.exists():
        return None
    reference = fit(FOLDER, model=NOISY, max_epochs=4, **DDP)
    again = fit(FOLDER, seed=2, ckpt_path=path, model=NOISY, max_epochs=4, **DDP)
    return {"reference": reference.state(), "resumed": again.state()}


def non_finite(**arguments: Any) -> str:
    """Train with one broken row, which only one rank sees."""
    data = TinyDataModule(TinySource(40, broken_row=3), 8)
    trainer = make_trainer(FOLDER, **arguments, num_sanity_val_steps=0)
    try:
        trainer.fit(TinyModule(), data)
    except FloatingPointError as error:
        return str(error)
    return "trained to the end"


def main() -> None:
    """Run every check and save what this rank found."""
    notebook = {"strategy": "ddp", "devices": 2}  # use_distributed_sampler stays True
    checks: dict[str, Callable[[], Any]] = {
        "trained": lambda: [trained(*size, **DDP) for size in SIZES],
        "trained as in a notebook": lambda: trained(*SIZES[0], **notebook),
        "evaluated": lambda: [evaluated(size, **DDP) for size in (8, 1)],
        "evaluated as in a notebook": lambda: evaluated(8, **notebook),
        "resumed": resumed,
        "preempted": preempted,
        "non_finite": lambda: non_finite(**DDP),
    }
    found: dict[str, Any] = {}
    for name, check in checks.items():
        found[name] = check()
    torch.save(found, FOLDER / f"rank{os.environ.get('LOCAL_RANK', '0')}.pt")


if __name__ == "__main__":
    main()
    leave_process_group()
