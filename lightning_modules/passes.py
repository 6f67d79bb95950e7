"""The base of models that are fitted in passes over the data, without gradients."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.base import BaseModule, Batch


class PassModule(BaseModule, ABC):
    """Base of models fitted by sums over all objects: mixtures by EM, k-means, quantiles.

    An epoch is one pass over the training split. `accumulate` returns sums over the rows of a
    batch; they are added in float64 over batches and processes. When the pass is complete, before
    the validation, `update` makes new parameters of them, which are buffers. A checkpoint inside a
    pass holds its sums, so that a resumed pass is exact. `trainer.max_epochs` is the most passes.

    One number that nothing moves is trained, for optimizers and torch's distributed training
    refuse a model without any; so steps are counted, saved and guarded as for every model.

    Args:
        tolerance: The fit ends when the mean loss of a pass differs from that of the pass before by
            less; 0 makes all passes.

    Attributes:
        converged: Whether the fit has ended; `update` may set it.
    """

    def __init__(self, tolerance: float = 1e-6) -> None:
        super().__init__()
        if tolerance < 0:
            raise ValueError(f"model.tolerance={tolerance} must not be negative; 0 never stops")
        self.tolerance = tolerance
        self.unmoved = nn.Parameter(torch.zeros(()))
        self.converged = False
        self._sums: dict[str, Tensor] = {}
        self._last_loss = math.inf

    @abstractmethod
    def accumulate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over the rows of a batch, under the present parameters.

        Args:
            batch: The dict that the datamodule documents.

        Returns:
            The names and shapes are the same for every batch; among them a scalar for each name in
            `terms`: `loss` is summed over rows.
        """

    @abstractmethod
    def update(self, sums: dict[str, Tensor]) -> None:
        """Change the parameters in place after a pass.

        Args:
            sums: Of `accumulate` over the training split, float64, and `count`, its rows ().
        """

    @torch.no_grad()
    def fit_in_memory(self, batches: Callable[[], Iterable[Batch]], max_passes: int) -> None:
        """Make passes without a Trainer of its own, as part of another model's fit.

        Every process has to be given all batches, for none asks the others.

        Args:
            batches: Gives the batches of a training split anew for each pass.
            max_passes: At most; the fit may end before.
        """
        for _ in range(max_passes):
            with torch.autocast(self.device.type, enabled=False):
                for batch in batches():
                    self._add(self.accumulate(batch), self.counted(batch).sum())
            self._end_pass()
            if self.converged:
                return

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the terms, means over the rows; in training keep the sums.

        Args:
            batch: As `accumulate` takes it.
            stage: `train`, `val` or `test`.
        """
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            sums = self.accumulate(batch)
            if stage == "train":
                self._add(*self._over_processes(sums, self.counted(batch)))
        return {name: sums[name] / len(batch["index"]) for name in self.terms}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss, with a gradient of zero; after the last batch, end the pass."""
        loss = super().training_step(batch, batch_idx)
        if self.trainer.is_last_batch:
            self._end_pass()
        return loss + 0.0 * self.unmoved

    def on_train_start(self) -> None:
        """Do nothing more if the fit had ended when the checkpoint was saved."""
        reason = self.run_record.get("stop_reason")
        super().on_train_start()
        if self.converged:
            self.trainer.should_stop = True
            self.run_record["stop_reason"] = reason

    def on_train_epoch_end(self) -> None:
        """Log the means; stop if the fit has ended."""
        super().on_train_epoch_end()
        self.trainer.should_stop |= self.converged

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the sums of a pass in progress, which are those of all processes."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["astrolit"]["pass"] = {
            "sums": {name: value.clone() for name, value in self._sums.items()},
            "loss": self._last_loss,
            "converged": self.converged,
            "tolerance": self.tolerance,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` saved."""
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get("astrolit", {}).get("pass")
        if saved is not None:  # else the weights are another model's, which is refused next
            self._sums, self._last_loss = dict(saved["sums"]), saved["loss"]
            # A smaller tolerance typed now goes on.
            self.converged = saved["converged"] and self.tolerance >= saved["tolerance"]

    def _over_processes(
        self, sums: dict[str, Tensor], counted: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the sums of a batch and its rows over all processes.

        At once, not at the end of the pass: every process, and so every checkpoint, has them all.
        """
        total = {
            name: self.sum_over_processes(torch.where(counted.any(), value.double(), 0.0))
            for name, value in sums.items()
        }
        return total, self.sum_over_processes(counted.sum().double())

    def _add(self, sums: dict[str, Tensor], count: Tensor) -> None:
        """Add sums and number of rows to those of the pass."""
        for name, value in {**sums, "count": count}.items():
            total = value.double()
            self._sums[name] = self._sums[name].to(total) + total if name in self._sums else total

    @torch.no_grad()
    def _end_pass(self) -> None:
        """Update the parameters from the sums, and forget them."""
        sums, self._sums = self._sums, {}
        loss = float(sums["loss"] / sums["count"])
        with torch.autocast(self.device.type, enabled=False):
            self.update(sums)
        if abs(self._last_loss - loss) < self.tolerance:
            self.converged = True
            self.run_record["stop_reason"] = f"the loss moved by less than {self.tolerance}"
        self._last_loss = loss
