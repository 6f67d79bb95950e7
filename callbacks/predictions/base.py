"""Predictions to files: a shard a process, merged in blocks of rows sorted by index."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from astropy.table import Table
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from callbacks.report.base import NamedData
from callbacks.report.gather import Rows
from callbacks.report.paths import log_folder, unused_stem
from datamodules.files import atomic_path
from datamodules.store import RowStore

BLOCK_BYTES = 8 << 20


@runtime_checkable
class CatalogueData(NamedData, Protocol):
    """A datamodule that knows the input's columns."""

    def catalogue(self, index: NDArray[np.int64]) -> Table:
        """Return the columns of rows of the data, with units."""


class MergedRows:
    """Rows of all shards in the order of `index`, each object once, read block by block.

    In memory are the row numbers, 16 bytes an object, and one block.

    Args:
        shards: Row stores, one a process; those of no bytes had no batch.

    Attributes:
        index: Row numbers of the data, ascending, shape (N,).
        keys: The columns, `index` among them.

    Raises:
        FileNotFoundError: If a shard is not there.
        ValueError: If no shard has rows.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        missing = [str(shard) for shard in shards if not shard.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{missing[0]}: missing; all processes must write to one folder"
            )
        self._stores = [RowStore(shard) for shard in shards if shard.stat().st_size]
        if not self._stores:
            raise ValueError(f"{shards[0].parent}: nothing was predicted")
        self.keys = self._stores[0].names
        self._first = np.cumsum([0, *(store.num_rows for store in self._stores)])
        whole = np.concatenate([store.read(["index"])["index"] for store in self._stores])
        self.index, self._places = np.unique(whole, return_index=True)

    def read(self, keys: Sequence[str] | None = None, rows: slice = slice(None)) -> Rows:
        """Return columns as arrays with first axis the objects.

        Args:
            keys: Columns to read; all by default.
            rows: Which rows, in the order of `index`; all by default.
        """
        places = self._places[rows]
        owner = np.searchsorted(self._first, places, side="right") - 1
        result: Rows = {}
        for number in np.unique(owner):
            mine = owner == number
            found = self._stores[number].read(keys or self.keys, places[mine] - self._first[number])
            for key, values in found.items():
                shape = (len(places), *values.shape[1:])
                result.setdefault(key, np.empty(shape, values.dtype))[mine] = values
        return result

    def blocks(self, keys: Sequence[str] | None = None) -> Iterator[Rows]:
        """Yield columns in blocks of about `BLOCK_BYTES`; see `read`."""
        row_bytes = sum(values.nbytes for values in self.read(keys, slice(1)).values())
        size = max(1, BLOCK_BYTES // row_bytes)
        for start in range(0, len(self.index), size):
            yield self.read(keys, slice(start, start + size))


class ShardWriter(Callback, ABC):
    """Base of callbacks that write what `predict` finds.

    Each process appends its batches to a shard in the log folder, which all must see, in constant
    memory. At the end rank 0 writes the files from the merged shards, all or none of them, under
    a name that no earlier file has. Shards are removed, if prediction fails, too.
    """

    stem: ClassVar[str]
    needs: ClassVar[type] = object
    """What the datamodule must be: a protocol."""
    suffixes: Sequence[str]
    """Of the files, without the dot."""

    def __init__(self) -> None:
        self.data: Any = None
        self._shard: Path | None = None
        self._stack = ExitStack()
        self._writer: Any = None

    @abstractmethod
    def columns(self, outputs: Any, batch: Any) -> Rows:
        """Return what one batch adds, first axis the objects, `index` (int64) among it.

        Args:
            outputs: What `predict_step` returned.
            batch: What it was given.
        """

    @abstractmethod
    def write(
        self, paths: Sequence[Path], rows: MergedRows, trainer: Trainer, module: LightningModule
    ) -> None:
        """Write the files; called on rank 0.

        Args:
            paths: One for each of `suffixes`.
            rows: What all processes predicted.
            trainer: Knows what made it.
            module: Made it.
        """

    def title(self, rows: MergedRows) -> str:
        """Return what was written, for the line that is printed."""
        return self.stem

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse data that cannot be written before any work is done; mark the shard's place."""
        self.data = getattr(trainer, "datamodule", None)
        if not isinstance(self.data, self.needs):
            asked = [name for name in vars(self.needs) if not name.startswith("_")]
            raise ValueError(
                f"{type(self).__name__} needs a datamodule with {', '.join(asked)}, which "
                f"{type(self.data).__name__} has not: use PredictionWriter"
            )
        folder = log_folder(trainer)
        folder.mkdir(parents=True, exist_ok=True)
        self._shard = self._shard_path(folder, trainer.global_rank)
        self._shard.write_bytes(b"")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Append one batch to the shard."""
        assert self._shard is not None
        columns = self.columns(outputs, batch)
        if self._writer is None:
            writer = RowStore.writer(self._shard, "astrolit.shard")
            self._writer = self._stack.enter_context(writer)
        # A column may have no width, such as the labels of a model without labels.
        self._writer.append({key: x for key, x in columns.items() if 0 not in x.shape[1:]})

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files on rank 0."""
        assert self._shard is not None
        self._writer = None
        self._stack.close()
        trainer.strategy.barrier(f"{self.stem} shards")
        if trainer.is_global_zero:
            folder = self._shard.parent
            shards = [self._shard_path(folder, rank) for rank in range(trainer.world_size)]
            try:
                self._merge(folder, MergedRows(shards), trainer, pl_module)
            finally:
                for shard in shards:
                    shard.unlink(missing_ok=True)
        self._shard = None
        trainer.strategy.barrier(self.stem)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Remove this process's shard when prediction fails."""
        if self._shard is not None:
            self._writer = None
            self._stack.__exit__(type(exception), exception, exception.__traceback__)
            self._shard.unlink(missing_ok=True)
            self._shard = None

    def _merge(
        self, folder: Path, rows: MergedRows, trainer: Trainer, module: LightningModule
    ) -> None:
        """Write the files, all or none of them, and say so."""
        stem = unused_stem(folder, self.stem, self.suffixes)
        paths = [folder / f"{stem}.{suffix}" for suffix in self.suffixes]
        with ExitStack() as stack:
            temporary = [stack.enter_context(atomic_path(path)) for path in paths]
            self.write(temporary, rows, trainer, module)
        print(f"{self.title(rows)}: {', '.join(str(path) for path in paths)}")

    def _shard_path(self, folder: Path, rank: int) -> Path:
        """Return the shard of a rank."""
        return folder / f".{self.stem}.rank{rank}.h5"
