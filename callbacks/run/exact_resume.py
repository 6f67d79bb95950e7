"""Random states, running metrics and loop counters in checkpoints: resume is bit for bit."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks.report.gather import all_gather
from callbacks.run.lightning_private import (
    begin_resuming,
    epoch_just_ended,
    finish_resuming,
    forget_begun_validation,
    mark_due_work,
    start_resumed,
    step_metric_schedulers,
)

KEY = "astrolit_resume"


class ExactResume(Callback):
    """Makes a resumed training equal to the uninterrupted one, bit for bit.

    Saves the states of torch's, numpy's and Python's generators (and of the rank's GPU) of every
    rank, as tensors, and restores them before the first batch, validation or epoch of the resumed
    run. A checkpoint saved after the last batch of an epoch or inside a validation resumes with
    that whole validation. Metrics that other callbacks monitor are restored too.

    Holds for checkpoints saved by `PreemptionCheckpoint` and `ModelCheckpoint`, on a CPU, with the
    same number of processes; with another number nothing random is restored, with a warning.
    """

    def __init__(self) -> None:
        self._before_validation: dict[str, Tensor] | None = None
        self._to_restore: dict[str, Tensor] | None = None
        self._validation_begun = False
        self._epoch_just_ended = False

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of all ranks; every rank calls this."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        validating = self._before_validation is not None
        reruns = mark_due_work(trainer, checkpoint, validating)
        states = self._before_validation if reruns and validating else None
        states = self._to_restore or states or random_states(trainer)
        metrics = trainer.callback_metrics.items()
        checkpoint[KEY] = {
            "random": {name: all_gather(trainer, value) for name, value in states.items()},
            "metrics": {name: value.detach().cpu().clone() for name, value in metrics},
            "validation_begun": reruns,
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take this rank's states out of a checkpoint."""
        saved = checkpoint.get(KEY)
        if saved is None or trainer.state.fn != TrainerFn.FITTING:
            return
        begin_resuming(trainer)
        self._validation_begun = saved["validation_begun"]
        self._epoch_just_ended = epoch_just_ended(checkpoint)
        self._metrics: dict[str, Tensor] = saved["metrics"]
        world_size = len(saved["random"]["torch"])
        if world_size != trainer.world_size:
            rank_zero_warn(
                f"the checkpoint was saved by {world_size} processes and is resumed by "
                f"{trainer.world_size}: random states are not restored, so dropout and sampled "
                "latents will differ from the uninterrupted run"
            )
            return
        rank = trainer.global_rank
        # Cloned, for `torch.set_rng_state` crashes on a slice of a larger tensor.
        self._to_restore = {name: values[rank].clone() for name, values in saved["random"].items()}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the metrics of a resumed run."""
        start_resumed(trainer)
        self._before_validation = None
        for name, value in getattr(self, "_metrics", {}).items():
            trainer.callback_metrics.setdefault(name, value)
        self._metrics = {}
        if self._epoch_just_ended:
            step_metric_schedulers(trainer)
        self._epoch_just_ended = False

    def on_train_epoch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Restore the random states if not done yet."""
        if self._to_restore is not None:
            set_random_states(trainer, self._to_restore)
            self._to_restore = None

    on_train_batch_start = on_train_epoch_start

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore if not done yet, and remember the states at the start of the validation."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        self.on_train_epoch_start(trainer)
        if self._validation_begun:
            forget_begun_validation(trainer)
        self._validation_begun = False
        self._before_validation = random_states(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the states at the start of the validation."""
        self._before_validation = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore if not done yet and end what is special about a resumed epoch."""
        self.on_train_epoch_start(trainer)
        finish_resuming(trainer)


def random_states(trainer: Trainer) -> dict[str, Tensor]:
    """Return the states of all global generators of this process as tensors.

    Args:
        trainer: Its device's generator is included if it is a GPU.
    """
    _, numpy_words, position, has_gauss, numpy_gauss = np.random.get_state(legacy=True)
    _, python_words, python_gauss = random.getstate()
    gauss = [numpy_gauss, float("nan") if python_gauss is None else python_gauss]
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor([*np.asarray(numpy_words).tolist(), position, has_gauss]),
        "python": torch.tensor(python_words),
        "gauss": torch.tensor(gauss, dtype=torch.float64),
    }
    device = trainer.strategy.root_device
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(trainer: Trainer, states: dict[str, Tensor]) -> None:
    """Set all global generators of this process.

    Args:
        trainer: Its device's generator is set if it is a GPU and its state is known.
        states: What `random_states` returned.
    """
    numpy_gauss, python_gauss = states["gauss"].tolist()
    *words, position, has_gauss = states["numpy"].tolist()
    keys = np.array(words, dtype=np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, numpy_gauss))
    gauss = None if np.isnan(python_gauss) else python_gauss
    random.setstate((3, tuple(states["python"].tolist()), gauss))
    torch.set_rng_state(states["torch"])
    device = trainer.strategy.root_device
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
