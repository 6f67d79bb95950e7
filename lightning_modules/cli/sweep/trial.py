"""One run of a sweep: fitted, watched, pruned, tested."""

import json
import math
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from optuna.trial import Trial

from datamodules.files import atomic_path
from lightning_modules.cli.app import make_cli
from lightning_modules.cli.shipped_configs import run_name
from lightning_modules.cli.sweep.settings import Settings
from lightning_modules.cli.sweep.space import words_of
from lightning_modules.cli.sweep.study import FITTED


class NoObjectiveError(ValueError):
    """No trial of this sweep can have a value; the sweep ends."""


class TrialWatch(Callback):
    """Tells the study the monitored metric after each validation, and ends a run that it prunes.

    Args:
        trial: Of the study.
        monitor: The metric.

    Attributes:
        value: Of the checkpoint that is tested, once the fit has ended.
        pruned: Whether the study ended the fit.
    """

    def __init__(self, trial: Trial, monitor: str) -> None:
        self.trial = trial
        self.monitor = monitor
        self.value: float | None = None
        self.pruned = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the metric; stop the training if the study says so."""
        if trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            raise NoObjectiveError(
                f"--sweep.monitor {self.monitor} is not logged; the validation logs "
                f"{', '.join(sorted(name for name in metrics if name.startswith('val/')))}"
            )
        self.trial.report(float(metrics[self.monitor]), trainer.current_epoch)
        if self.trial.should_prune():
            self.pruned = trainer.should_stop = True
            place = f"{self.monitor} at epoch {trainer.current_epoch}"
            reason = f"pruned: {place} is worse than the median of the runs before"
            getattr(pl_module, "run_record", {})["stop_reason"] = reason

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the value of the tested checkpoint, and show it beside the hyper-parameters."""
        self.value = self._tested(trainer)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self.trial.params, {"objective": self.value})

    def _tested(self, trainer: Trainer) -> float:
        """Return the metric of the best checkpoint where the metric chooses that, else the last."""
        for checkpoint in trainer.checkpoint_callbacks:
            score = getattr(checkpoint, "best_model_score", None)
            if getattr(checkpoint, "monitor", None) == self.monitor and score is not None:
                return float(score)
        if self.monitor not in trainer.callback_metrics:
            raise NoObjectiveError(
                f"--sweep.monitor {self.monitor} was never logged: the run has no validation; set "
                "data.val_fraction above 0"
            )
        return float(trainer.callback_metrics[self.monitor])


def run_trial(trial: Trial, settings: Settings, words: list[str], folder: Path) -> TrialWatch:
    """Fit the run of a trial.

    Args:
        trial: Its point is what the run differs in; the value becomes its user attribute `fitted`.
        settings: Of the sweep.
        words: Of the command line `astrolit fit`, without the trial's own.
        folder: Of the study; the run goes to version_<number of the trial> in it.

    Raises:
        NoObjectiveError: If no run of this sweep logs the monitored metric.
        FloatingPointError: If the metric is not finite.
    """
    watch = TrialWatch(trial, settings.monitor)
    place = ["--trainer.logger", json.dumps(logger_of(folder, trial.number))]
    cli = make_cli(["fit", *words, *words_of(trial.params), *place], callbacks=[watch])
    if watch.value is None or not math.isfinite(watch.value):
        raise FloatingPointError(f"{settings.monitor} is {watch.value}")
    run = run_of(folder, trial.number)
    home = run_name(list(cli.configs), cli.datamodule.method, type(cli.model).__name__)
    send_home(run / "config.yaml", home)
    if not watch.pruned:
        trial.set_user_attr(FITTED, watch.value)
    return watch


def test_trial(trial: Trial, folder: Path) -> None:
    """Test the run of a trial that is fitted.

    Args:
        trial: The report's keys of the model become its user attributes.
        folder: Of the study.
    """
    run = run_of(folder, trial.number)
    make_cli(["test", "-c", str(run / "config.yaml"), "--ckpt_path", str(run)])
    record_report(trial, run)


def run_of(folder: Path, number: int) -> Path:
    """Return the folder of a trial's run."""
    return folder / f"version_{number}"


def logger_of(folder: Path, number: int) -> dict[str, Any]:
    """Return the logger of a trial's run as a configuration has it."""
    place = {"save_dir": str(folder.parent), "name": folder.name, "version": number}
    return {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {**place, "default_hp_metric": False},
    }


def send_home(path: Path, name: str) -> None:
    """Make what is fitted from a run's configuration go where it goes without a sweep.

    Args:
        path: The run's config.yaml, whose logger has the study's folder and the trial's number.
        name: Folder of such runs below runs/.
    """
    text = path.read_text()
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    config = yaml.safe_load(text)
    config["trainer"]["logger"]["init_args"] |= {"save_dir": "runs", "name": name, "version": None}
    with atomic_path(path) as temporary:
        temporary.write_text(header + yaml.safe_dump(config, sort_keys=False))


def record_report(trial: Trial, run: Path) -> None:
    """Keep what a run's report says of the model, if there is one, beside the objective.

    Args:
        trial: Gets the report's keys `model/...`, without standard deviations, as user attributes.
        run: The run's folder.
    """
    path = run / "report.json"
    if not path.is_file():
        return
    for key, value in json.loads(path.read_text()).items():
        if key.startswith("model/") and not key.endswith("_std"):
            trial.set_user_attr(key, value)
