"""Lightning's callbacks with astrolit's defaults; each value is set from the command line."""

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer, callbacks
from typing_extensions import override


class BestCheckpoint(callbacks.ModelCheckpoint):
    """Keep the checkpoint of the best epoch as best.ckpt.

    Args:
        monitor: Metric to compare; null keeps the newest epoch, and so does `val/loss` of a model
            whose `final_state_is_best`.
        mode: `min` or `max`.
        save_top_k: How many to keep; 0 keeps none.
        filename: Name without the suffix.
    """

    def __init__(
        self,
        monitor: str | None = "val/loss",
        mode: str = "min",
        save_top_k: int = 1,
        filename: str = "best",
    ) -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            filename=filename,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if _loss_misleads(self.monitor, pl_module):
            self.monitor = None
        super().setup(trainer, pl_module, stage)


class LastCheckpoint(callbacks.ModelCheckpoint):
    """Keep the newest state as last.ckpt, to resume from.

    Lightning's `save_last` beside a monitored metric is refreshed only when that metric improves;
    hence a callback of its own.

    Args:
        every_n_epochs: How often to save.
        every_n_train_steps: Save every so many optimizer steps instead.
    """

    def __init__(
        self, every_n_epochs: int | None = None, every_n_train_steps: int | None = None
    ) -> None:
        super().__init__(
            monitor=None,
            filename="last",
            every_n_epochs=every_n_epochs,
            every_n_train_steps=every_n_train_steps,
            enable_version_counter=False,
        )


class EarlyStopping(callbacks.EarlyStopping):
    """Stop when the monitored metric no longer improves.

    Args:
        monitor: Metric to watch; `val/loss` of a model whose `final_state_is_best` stops nothing.
        patience: Epochs without improvement; null never stops.
        min_delta: Least change that counts as an improvement.
        mode: `min` or `max`.
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        patience: int | None = 20,
        min_delta: float = 0.0,
        mode: str = "min",
    ) -> None:
        epochs = sys.maxsize if patience is None else patience
        # NonFiniteGuard reports a non-finite value with its objects; a quiet stop would hide it.
        super().__init__(monitor, min_delta, epochs, mode=mode, strict=False, check_finite=False)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if _loss_misleads(self.monitor, pl_module):
            self.patience = sys.maxsize
        super().setup(trainer, pl_module, stage)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The patience typed for this run wins over the one that the checkpoint remembers.
        super().load_state_dict({**state_dict, "patience": self.patience})


class LearningRateMonitor(callbacks.LearningRateMonitor):
    """Log the learning rate of each optimizer, where there is a logger.

    Args:
        logging_interval: `step`, `epoch` or null for the schedule's own.
        log_momentum: Log the momentum too.
    """

    def __init__(self, logging_interval: str | None = "epoch", log_momentum: bool = False) -> None:
        super().__init__(logging_interval, log_momentum)  # type: ignore[arg-type]

    @override
    def on_train_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.loggers:  # Lightning's refuses to run without one
            super().on_train_start(trainer, *args, **kwargs)


def _loss_misleads(monitor: str | None, module: LightningModule) -> bool:
    """Return whether a callback monitors a loss that does not tell which epoch is best."""
    return monitor == "val/loss" and getattr(module, "final_state_is_best", False)
