"""Stop at the first non-finite loss, before it spoils the weights, and say which objects did it."""

import math
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from callbacks.report.gather import all_gather

SHOWN = 10
Batch = dict[str, Tensor]


class NonFiniteGuard(Callback):
    """Stops every rank when a loss term is NaN or infinite, naming the terms and the objects.

    The training loss is checked before the backward pass, the means over the validation at its
    end. The objects named are those of the batch with non-finite inputs (absent values, with
    `good` False, do not count), else all of the batch; weights and buffers that are not finite
    are named too.
    """

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._batch_idx = 0
        self._bad_validation: tuple[int, Batch] | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch, to name its objects."""
        self._batch, self._batch_idx = batch, batch_idx

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Check the training loss.

        Raises:
            FloatingPointError: On every rank, if any rank's loss is not finite.
        """
        bad = not math.isfinite(loss.item())
        if trainer.strategy.reduce_boolean_decision(bad, all=False):
            terms = getattr(pl_module, "last_terms", None) or {"loss": loss.detach()}
            found = self._batch if bad else None
            self._stop(trainer, terms, "train", self._batch_idx if bad else -1, found)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last validation."""
        self._bad_validation = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        *args: Any,
    ) -> None:
        """Keep the first batch with a non-finite term."""
        if self._bad_validation is None:
            terms = list(getattr(pl_module, "last_terms", {}).values())
            if terms and not torch.stack(terms).isfinite().all():
                self._bad_validation = batch_idx, batch

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the validation's means, which are the same on every rank.

        Raises:
            FloatingPointError: On every rank, if the mean of a term is not finite.
        """
        names = getattr(pl_module, "terms", ("loss",))
        logged = {name: trainer.callback_metrics.get(f"val/{name}") for name in names}
        terms = {name: value for name, value in logged.items() if value is not None}
        bad = not all(math.isfinite(value.item()) for value in terms.values())
        if trainer.strategy.reduce_boolean_decision(bad, all=False):
            batch_idx, batch = self._bad_validation or (-1, None)
            self._stop(trainer, terms, "val", batch_idx, batch)

    def _stop(
        self,
        trainer: Trainer,
        terms: dict[str, Tensor],
        stage: str,
        batch_idx: int,
        batch: Batch | None,
    ) -> None:
        """Raise the same error on every rank; every rank calls this.

        Args:
            trainer: Knows the epoch, the step and the datamodule.
            terms: Name to value.
            stage: `train` or `val`.
            batch_idx: The batch on this rank, -1 if its values are finite.
            batch: That batch.
        """
        rows, inputs_broken = culprits(batch)
        head = torch.full((SHOWN + 3,), -1, dtype=torch.int64)
        head[:3] = torch.tensor([batch_idx, len(rows), inputs_broken])
        head[3 : 3 + len(rows[:SHOWN])] = rows[:SHOWN]
        values = torch.stack([value.detach().double() for value in terms.values()])
        heads = all_gather(trainer, head)
        rank = int((heads[:, 0] >= 0).int().argmax())
        of_rank = f" of rank {rank}" if trainer.world_size > 1 else ""
        head, values = heads[rank], all_gather(trainer, values)[rank]
        shown = ", ".join(
            f"{stage}/{name} = {value:g}"
            for name, value in zip(terms, values.tolist(), strict=True)
            if not np.isfinite(value)
        )
        raise FloatingPointError(
            f"{shown or f'{stage}/loss is not finite'} at epoch {trainer.current_epoch}, "
            f"step {trainer.global_step}, batch {int(head[0])}{of_rank}"
            f"{_objects(trainer, head)}{_broken_state(trainer.lightning_module)}"
        )


def culprits(batch: Batch | None) -> tuple[Tensor, bool]:
    """Return the `index` of the rows to blame and whether their inputs are non-finite.

    Args:
        batch: The batch; `good` marks usable entries of keys of its own shape, other keys may
            then hold NaN for absent, but nothing infinite.

    Returns:
        The rows with non-finite inputs and True, or, if there are none, all rows and False.
    """
    if not isinstance(batch, dict) or "index" not in batch:
        return torch.empty(0, dtype=torch.int64), False
    index, good = batch["index"].cpu(), batch.get("good")
    broken = torch.zeros(len(index), dtype=torch.bool)
    for values in batch.values():
        if not values.is_floating_point() or len(values.shape) == 0:
            continue
        bad = ~values.isfinite()
        if good is not None:
            bad = bad & good if good.shape == values.shape else values.isinf()
        broken |= bad.reshape(len(index), -1).any(dim=1).cpu()
    return (index[broken], True) if broken.any() else (index, False)


def _objects(trainer: Trainer, head: Tensor) -> str:
    """Name the objects, by id if there is a datamodule that knows ids."""
    _, count, inputs_broken, *rows = head.tolist()
    rows = rows[: min(count, SHOWN)]
    if not rows:
        return ""
    names_of = getattr(getattr(trainer, "datamodule", None), "names", None)
    names = [f"row {row}" for row in rows] if names_of is None else names_of(np.array(rows))
    shown = ", ".join(str(name) for name in names) + (", ..." if count > SHOWN else "")
    if inputs_broken:
        return f"; the inputs of {count} object(s) are not finite: {shown}"
    return f"; the inputs are finite, the batch holds {count} object(s): {shown}"


def _broken_state(module: LightningModule) -> str:
    """Name the weights and buffers that are not finite themselves, or say what else to try."""
    state = module.state_dict().items()
    floating = [(name, value) for name, value in state if value.is_floating_point()]
    broken = [name for name, value in floating if not value.isfinite().all()]
    if broken:
        return f"; not finite in the module: {', '.join(broken[:SHOWN])}"
    return "; weights and buffers are finite: mend the inputs, or lower the learning rate"
