"""Predictions to shards: each process appends its batches to a file of its own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import h5py
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from callbacks.report.paths import log_folder

Array = NDArray[Any]
BLOCK = 65536


class ShardWriter(Callback, ABC):
    """Base of callbacks that write what `predict` finds.

    Each process appends its batches to a shard in the log folder, in constant memory; all
    processes must see that folder. At the end rank 0 merges the shards, then they are removed; if
    prediction fails, too.
    """

    stem: ClassVar[str]

    def __init__(self) -> None:
        self._folder = Path()
        self._shard: h5py.File | None = None

    @abstractmethod
    def columns(self, outputs: Any, batch: Any) -> dict[str, Array]:
        """Return what one batch adds, each with first axis the objects; `index` among them."""

    @abstractmethod
    def merge(self, trainer: Trainer, module: LightningModule, shards: Sequence[Path]) -> None:
        """Write the files from the shards of all processes; called on rank 0."""

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this process's shard."""
        self._folder = log_folder(trainer)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._shard = h5py.File(self._shard_path(trainer.global_rank), "w")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append one batch to the shard."""
        assert self._shard is not None
        append(self._shard, self.columns(outputs, batch))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge the shards on rank 0."""
        assert self._shard is not None
        self._shard.close()
        self._shard = None
        trainer.strategy.barrier(f"{self.stem} shards")
        if trainer.is_global_zero:
            shards = [self._shard_path(rank) for rank in range(trainer.world_size)]
            self.merge(trainer, pl_module, shards)
            for shard in shards:
                shard.unlink()
        trainer.strategy.barrier(self.stem)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Remove this process's shard when prediction fails."""
        if self._shard is not None:
            self._shard.close()
            self._shard = None
            self._shard_path(trainer.global_rank).unlink(missing_ok=True)

    def _shard_path(self, rank: int) -> Path:
        """Return the shard of a rank."""
        return self._folder / f".{self.stem}.rank{rank}.h5"


def append(file: h5py.File, columns: Mapping[str, Array]) -> None:
    """Append rows to the datasets of a file, made at the first call."""
    for name, values in columns.items():
        if 0 in values.shape[1:]:  # such as the labels of a model without labels
            continue
        if name not in file:
            chunk = max(1, min(BLOCK, (1 << 18) // max(1, values[:1].nbytes)))
            shape = values.shape[1:]
            file.create_dataset(
                name, (0, *shape), values.dtype, maxshape=(None, *shape), chunks=(chunk, *shape)
            )
        dataset = file[name]
        dataset.resize(len(dataset) + len(values), axis=0)
        dataset[-len(values) :] = values
