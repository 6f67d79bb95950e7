"""The base of all LightningModules: one step, exact means, shape check, checkpoints of before."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor, nn

from lightning_modules.metrics.means import NamedMeans
from lightning_modules.nn import processes
from lightning_modules.old_names import renew_arguments, renew_callback_states, renew_config
from lightning_modules.optimizers import OptimizedModule, Schedule
from lightning_modules.stopping import stop_reason

Batch = dict[str, Tensor]


class BaseModule(OptimizedModule, ABC):
    """Base of all models.

    A subclass calls this constructor, then `save_hyperparameters()`, then builds its network, and
    implements `step` and `predict_step`. Means over all objects are logged at epoch end as
    `train/<term>`, `val/<term>` and `test/<term>`.

    Args:
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay of AdamW; norms, biases and embeddings have none.
        schedule: `constant`, or `cosine`: half a cosine from `lr` to 0 at the last optimizer step.
        warmup_steps: Optimizer steps over which the rate first rises linearly to `lr`.
    """

    terms: ClassVar[tuple[str, ...]] = ("loss",)
    needs_checkpoint: bool = True
    """Whether an evaluation needs `--ckpt_path`; a model that loads its own parts sets False."""
    loss_is_of_batches: ClassVar[bool] = True
    """Whether its means are those of `step` over batches; else an `Ensemble` of it logs none."""
    final_state_is_best: ClassVar[bool] = False
    """Whether `val/loss` does not tell which epoch is best, as with a loss whose targets move.

    `best.ckpt` is then the newest epoch, and early stopping does not look at `val/loss`."""
    statistics_fitted: Tensor

    def __init__(
        self,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        if schedule not in get_args(Schedule) or warmup_steps < 0:
            raise ValueError(
                f"schedule={schedule!r} must be constant or cosine and "
                f"warmup_steps={warmup_steps} must be >= 0"
            )
        self.lr, self.weight_decay = lr, weight_decay
        self.schedule, self.warmup_steps = schedule, warmup_steps
        self.register_buffer("statistics_fitted", torch.tensor(False))
        self.means = nn.ModuleDict(
            {f"{stage}_means": NamedMeans(self.terms) for stage in ("train", "val", "test")}
        )
        self.last_terms: dict[str, Tensor] = {}
        self.run_record: dict[str, Any] = {}
        self._shapes_checked = False

    @abstractmethod
    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the loss and its terms, each a mean over the batch's objects.

        Args:
            batch: The dict that the datamodule documents.
            stage: `train`, `val` or `test`.

        Returns:
            One scalar for each name in `terms`; `loss` is what training minimises.
        """

    @abstractmethod
    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return predictions with `index`, each with first axis the objects of the batch."""

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return batch key to (shape of one object's entry, argument that sets it or "")."""
        return {}

    def fit_statistics(self, statistics: dict[str, Tensor]) -> None:
        """Fill buffers from `datamodule.training_statistics()`, once, before training."""

    def inherited(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what `--init_from` takes of a checkpoint: what the model has by the same name."""
        own = self.state_dict()
        return {name: values for name, values in saved.items() if name in own}

    def setup(self, stage: str) -> None:
        """Compare shapes with the data and fit buffers before the first training.

        Raises:
            ValueError: If the datamodule cannot tell its shapes or statistics, or shapes differ.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            return
        asked = "sample_shapes", "training_statistics"
        if missing := [name for name in asked if not hasattr(datamodule, name)]:
            raise ValueError(
                f"{type(datamodule).__name__} has no {' and no '.join(missing)}, which "
                f"{type(self).__name__} asks for; subclass datamodules.BaseDataModule, or give the "
                "Trainer the loaders alone"
            )
        self._check_shapes(datamodule.sample_shapes)
        if stage == "fit" and not self.statistics_fitted:
            self.fit_statistics(datamodule.training_statistics())
            self.statistics_fitted.fill_(True)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss, scaled to this rank's share of the global batch."""
        loss = self._measure(batch, "train")["loss"]
        return loss * batch["loss_scale"] if "loss_scale" in batch else loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation means."""
        self._measure(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Add a batch to the test means and return its predictions."""
        self._measure(batch, "test")
        return self.predict_step(batch, batch_idx)

    def on_train_start(self) -> None:
        """Forget why an earlier training ended."""
        super().on_train_start()
        self.run_record.pop("stop_reason", None)

    def on_train_end(self) -> None:
        """Record why this training ended, unless the model has said so itself."""
        reason = stop_reason(self.trainer, self.trainer.current_epoch)
        self.run_record.setdefault("stop_reason", reason)

    def on_train_epoch_end(self) -> None:
        """Log the training means."""
        self._log_means("train")

    def on_validation_epoch_end(self) -> None:
        """Log the validation means."""
        self._log_means("val")

    def on_test_epoch_end(self) -> None:
        """Log the test means."""
        self._log_means("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the means of an epoch in progress and the run's record."""
        checkpoint["astrolit"] = {
            "train_means": self._means("train").of_all_ranks(),
            "run_record": self._record_so_far(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` saved; this run's record wins."""
        if "callbacks" in checkpoint:  # which Lightning restores next
            checkpoint["callbacks"] = renew_callback_states(checkpoint["callbacks"])
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get("astrolit")
        if saved is None:
            return
        self.run_record = {**saved["run_record"], **self.run_record}
        if self.has_trainer:
            ranks = self.trainer.global_rank, self.trainer.world_size
            self._means("train").restore(saved["train_means"], *ranks)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Return the model of a checkpoint, also of one that knows old names.

        Args:
            checkpoint_path: A file, a URL or an open file.
            *args: As Lightning takes them.
            **kwargs: Likewise; hyper-parameters among them win over the checkpoint's.
        """
        if isinstance(checkpoint_path, str | Path):
            weights_only = kwargs.get("weights_only")
            read = TorchCheckpointIO().load_checkpoint(checkpoint_path, weights_only=weights_only)
            saved = read.get("hyper_parameters", {})
            renewed = renew_arguments(cls, renew_config(saved)).items()
            kwargs = {k: v for k, v in renewed if k not in saved or v != saved[k]} | kwargs
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights; refuse those of another model in one sentence.

        Raises:
            ValueError: If a tensor has another shape than this model's, or names differ.
        """
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip(" \t.")
            raise ValueError(
                f"the checkpoint does not fit this {type(self).__name__}: {reason}; give the model "
                "the arguments that it was trained with, or --init_from to take what both have"
            ) from None

    def counted(self, batch: Batch) -> Tensor:
        """Return which rows of a batch count, (B,) bool.

        A process without rows in the last global batch repeats one at `loss_scale` 0, which must
        not enter any sum.
        """
        everything = torch.ones_like(batch["index"], dtype=torch.bool)
        return everything & (batch.get("loss_scale", 1.0) > 0)

    def sum_over_processes(self, values: Tensor) -> Tensor:
        """Return the sum over processes, with gradient; every process must call this.

        A term of the loss that every process computes alike from such sums keeps the gradient that
        it has in one process, with no factor: the gradients of all processes come back to each
        one's values, weighted by `loss_scale`, whose mean over processes is 1, and DDP takes the
        mean. The same holds for `gather_rows`.

        Args:
            values: Of one shape and type everywhere; float64 where rounding matters.
        """
        return processes.sum_over_processes(values) if self._is_shared else values

    def gather_rows(self, rows: Tensor, batch: Batch) -> Tensor:
        """Return the rows of the global batch, (N, ...), in training in the order of one process.

        Every process gets them all and must call this; gradients reach the process that a row
        came from, see `sum_over_processes`. Rows that only repeat (see `counted`) are left out.

        Args:
            rows: Of any type, one for each row of the batch, shape (B, ...); B may differ.
            batch: The batch of this process.
        """
        own = rows[self.counted(batch)]
        return processes.gather_rows(own) if self._is_shared else own

    @property
    def _is_shared(self) -> bool:
        """Whether other processes work at the same batch."""
        return self.has_trainer and self.trainer.world_size > 1

    def ramp(self, stage: str, epochs: int) -> float:
        """Return the share that a weight has reached at this optimizer step, rising from 0 to 1.

        Args:
            stage: Outside `train` the weight is whole, so that epochs can be compared.
            epochs: Over which it rises; 0 starts at 1.
        """
        if stage != "train" or not epochs:
            return 1.0
        batches = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        return min(1.0, self.global_step / (epochs * math.ceil(batches)))

    def _record_so_far(self) -> dict[str, Any]:
        """Return the run's record, with the reason if the training ends after what is saved now."""
        fitting = self.has_trainer and self.trainer.state.fn == "fit"
        if not fitting or self.trainer.sanity_checking or "stop_reason" in self.run_record:
            return dict(self.run_record)
        epochs = self.trainer.current_epoch + int(self.trainer.is_last_batch)
        reason = stop_reason(self.trainer, epochs)
        return self.run_record | ({"stop_reason": reason} if reason else {})

    def _measure(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Run the step and add its terms to the means."""
        if not self._shapes_checked:
            self._check_shapes({name: tuple(values.shape[1:]) for name, values in batch.items()})
        terms = self.step(batch, stage)
        self.last_terms = {name: value.detach() for name, value in terms.items()}
        shared = "loss_scale" in batch  # else nothing is asked of the device
        count = int(self.counted(batch).sum()) if shared else len(batch["index"])
        self._means(stage).update(terms, count)
        return terms

    def _check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse data of another shape: at `setup`, or at the first step without a datamodule."""
        name = type(self).__name__
        for key, (expected, argument) in self.expected_shapes().items():
            if key not in shapes:
                raise ValueError(f"{name} needs {key!r} in the batch, but the data do not have it")
            if (found := tuple(shapes[key])) != expected:
                if not argument:
                    raise ValueError(
                        f"{name} needs {key!r} of shape {expected} for each object, but the data "
                        f"have {found}; correct what the datamodule yields"
                    )
                value, data = (x[0] if len(x) == 1 else x for x in (expected, found))
                raise ValueError(
                    f"{name} expects {argument}={value} but the data have {data} in {key!r}; "
                    f"set model.{argument}"
                )
        self._shapes_checked = True

    def _means(self, stage: str) -> NamedMeans:
        """Return the means of a stage."""
        means = self.means[f"{stage}_means"]
        assert isinstance(means, NamedMeans)
        return means

    def _log_means(self, stage: str) -> None:
        """Log and reset the means of a stage."""
        means = self._means(stage)
        for name, value in means.compute().items():
            self.log(f"{stage}/{name}", value, prog_bar=name == "loss", rank_zero_only=False)
        means.reset()
