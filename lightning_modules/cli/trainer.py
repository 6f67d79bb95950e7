"""Lightning's Trainer with what the command line adds: `prepare` and alerts."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from rich.console import Console


class AstroTrainer(Trainer):
    """Lightning's Trainer with the subcommand `prepare`; `predict` also answers alerts."""

    def prepare(
        self,
        model: LightningModule | None = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Simulate, convert or download the data and stop (for a login or CPU node).

        Args:
            model: Unused; a saved configuration names one.
            datamodule: Whose `prepare_data` runs.
            ckpt_path: Unused; a saved configuration of `fit` may hold it.
            weights_only: Unused, likewise.
        """
        assert datamodule is not None
        datamodule.prepare_data()
        Console(soft_wrap=True).print(f"prepared: {getattr(datamodule, 'store_path', '')}")

    def predict(  # type: ignore[override]
        self,
        model: LightningModule | None = None,
        dataloaders: Any | None = None,
        datamodule: LightningDataModule | None = None,
        return_predictions: bool | None = False,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
        alerts: str | None = None,
    ) -> Any:
        """Predict every object; a writer among the callbacks saves what comes out.

        Args:
            model: The model.
            dataloaders: Loaders instead of a datamodule.
            datamodule: The data.
            return_predictions: Keep all predictions in memory and return them.
            ckpt_path: Checkpoint to load.
            weights_only: Always true with astrolit's checkpoint reader.
            alerts: File of JSON lines, or - for standard input, to answer instead of the data; one
                JSON line each to standard output, states in alerts.db beside the log.
        """
        if alerts is None:
            return super().predict(
                model, dataloaders, datamodule, return_predictions, ckpt_path, weights_only
            )
        return self._answer(model, ckpt_path, alerts)

    def _answer(self, model: LightningModule | None, ckpt_path: str | None, alerts: str) -> None:
        """Answer alerts one by one, as they come."""
        answer = getattr(model, "answer_alerts", None)
        if model is None or answer is None:
            raise ValueError(f"--alerts: {type(model).__name__} answers no alerts")
        if ckpt_path is None:
            raise ValueError("--alerts needs a trained model; give --ckpt_path")
        if alerts != "-" and not Path(alerts).is_file():
            raise FileNotFoundError(f"--alerts {alerts}: no such file; - reads standard input")
        model.load_state_dict(self.strategy.checkpoint_io.load_checkpoint(ckpt_path)["state_dict"])
        folder = Path(self.log_dir or self.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if alerts == "-":
            _print_lines(answer(sys.stdin, folder / "alerts.db"))
        else:
            with Path(alerts).open() as lines:
                _print_lines(answer(lines, folder / "alerts.db"))


def _print_lines(lines: Iterable[str]) -> None:
    """Print lines at once, so that a pipe sees each answer when it is given."""
    for line in lines:
        print(line, flush=True)
