"""The base of all LightningDataModules: sources, splits by object or group, whole-batch loaders."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from filelock import FileLock
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.files import cache_key, make_folder
from datamodules.samplers import Batch, EpochBatchSampler, ShardSampler, make_loader
from datamodules.source import Source
from datamodules.splits import SPLIT_CODES, split_by_object
from datamodules.store import RowStore

if TYPE_CHECKING:
    from astropy.table import Table


class BaseDataModule(LightningDataModule, ABC):
    """Base of all datamodules.

    Args:
        source: Where the data come from.
        batch_size: Objects in one process's batch.
        num_workers: Worker processes of the loaders; 0 is fastest for arrays in memory.
        seed: Fixes simulation, split and shuffle (`seed_everything` fixes training only).
        val_fraction: Share of objects (or groups, see `groups`) for validation.
        test_fraction: Share of objects (or groups) held out.
        cache_dir: Folder of the prepared row stores.

    Attributes:
        units: Column of the store to its unit as astropy writes it, where it has one.
        split_settings: Arguments that, with the source, fix which objects are held out.
    """

    method: ClassVar[str]
    schema: ClassVar[str]
    version: ClassVar[int] = 1
    id_column: ClassVar[str] = "name"
    units: ClassVar[Mapping[str, str]] = {}
    evaluation_only: ClassVar[tuple[str, ...]] = ("label",)
    split_settings: ClassVar[tuple[str, ...]] = ("seed", "val_fraction", "test_fraction")
    rows_per_block: ClassVar[int] = 4096

    def __init__(
        self,
        source: Source,
        batch_size: int = 256,
        num_workers: int = 0,
        seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        cache_dir: str = ".astrolit",
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0 or seed < 0:
            raise ValueError(
                f"data.batch_size={batch_size} must be at least 1, data.num_workers={num_workers} "
                f"and data.seed={seed} at least 0"
            )
        self.source = source
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.cache_dir = Path(cache_dir)
        self.columns: dict[str, Tensor] = {}
        self.rows: dict[str, Tensor] = {}

    @abstractmethod
    def load(self, store: RowStore) -> dict[str, Tensor]:
        """Return the arrays of the batch for every row kept, with `index`, the row in the store."""

    @abstractmethod
    def training_statistics(self) -> dict[str, Tensor]:
        """Return what modules fit their buffers from; computed on the training split alone."""

    @property
    def store_path(self) -> Path:
        """The prepared row store, named by a hash of all that determines it."""
        key = {"source": type(self.source).__qualname__, "parameters": self.source.parameters()}
        layout = {"schema": self.schema, "version": self.version, "seed": self.seed}
        name = cache_key([json.dumps({**key, **layout}, sort_keys=True)])
        return self.cache_dir / self.method / f"{type(self.source).__name__}-{name}.h5"

    def prepare_data(self) -> None:
        """Simulate, convert or download once, whatever runs or nodes start at the same time."""
        path = self.store_path
        if not path.exists():
            make_folder(path.parent)
            with FileLock(path.with_name(f".{path.name}.lock")):
                if not path.exists():
                    self.source.prepare(path, self.seed)

    def setup(self, stage: str | None = None) -> None:
        """Open the store, load the arrays and split by object or group (once).

        Raises:
            ValueError: To fit, but no object fell into the training split.
        """
        if not self.columns:
            self._load()
        if stage == "fit" and not len(self.rows["train"]):
            raise ValueError(
                f"{self.store.path}: no object of {len(self.rows['all'])} fell into the training "
                "split; lower data.val_fraction and data.test_fraction or bring more data"
            )

    def _load(self) -> None:
        """Load the arrays and split by object or group.

        Raises:
            ValueError: If `groups` does not give one group for each row.
        """
        self.store = RowStore(self.store_path, self.schema, self.version)
        columns = self.load(self.store)
        groups = self.groups(columns["index"])
        ids = self.names(columns["index"]) if groups is None else np.asarray(groups)
        if len(ids) != len(columns["index"]):
            raise ValueError(
                f"{type(self).__name__}.groups gave {len(ids)} groups for {len(columns['index'])} "
                "rows; it must give one for each"
            )
        codes = torch.from_numpy(
            split_by_object(ids, self.seed, self.val_fraction, self.test_fraction)
        )
        codes, rows = self.split_rows(codes, columns)
        self.columns = {**columns, "split": codes}
        self.rows = {**rows, "all": torch.arange(len(codes))}

    def split_rows(
        self, codes: Tensor, columns: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the split code of every row, and the rows of `train`, `val` and `test`.

        A method that keeps some objects out of training overrides it.

        Args:
            codes: Codes by the hash of id or group, shape (N,).
            columns: The arrays of the batch.
        """
        return codes, {name: torch.where(codes == code)[0] for name, code in SPLIT_CODES.items()}

    @property
    def sample_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one object's entry under each key of the batch, known after `setup`."""
        return {name: tuple(values.shape[1:]) for name, values in self.columns.items()}

    def names(self, index: Tensor | NDArray[np.int64]) -> NDArray[Any]:
        """Return the ids (int64 or string) of rows of the store."""
        return self.store.read([self.id_column], np.asarray(index))[self.id_column]

    def groups(self, index: Tensor | NDArray[np.int64]) -> NDArray[Any] | None:
        """Return the group (int64 or string) of each row of the store; None if there are none.

        A group (the maps of one halo, the stars of one field, a pair) stays on one side of the
        split, and a report's bootstrap resamples groups. Without groups the split is by `names`
        and every row is resampled on its own.

        Args:
            index: Rows of the store, as in a batch, shape (n,).
        """
        return None

    def catalogue(self, index: Tensor | NDArray[np.int64]) -> "Table":
        """Return all that has one value an object: the id, then what has a unit, then the rest.

        Args:
            index: Rows of the store, as in a batch, shape (n,).
        """
        from astropy.table import Table  # half a second that only a report or a prediction needs

        rows = np.asarray(index, dtype=np.int64)
        found = self.store.read([n for n in self.store.scalars if n != self.id_column], rows)
        units = {name: unit for name, unit in self.units.items() if name in found}
        names = [*units, *(name for name in found if name not in units)]
        columns = {self.id_column: self.names(rows), **{name: found[name] for name in names}}
        return Table(columns, units={name: unit for name, unit in units.items() if unit})

    def provenance(self) -> dict[str, Any]:
        """Return plain values that say what the data are, for reports."""
        return {
            "source": type(self.source).__name__,
            "parameters": self.source.parameters(),
            "store": str(self.store_path),
            "num_objects": {name: len(rows) for name, rows in self.rows.items()},
        }

    def batches(self, split: str, keys: Sequence[str] | None = None) -> Iterator[Batch]:
        """Yield batches of `rows_per_block` objects of a split, in order, every row on every rank.

        Args:
            split: `train`, `val`, `test` or `all`.
            keys: Keys of the batch; all but the evaluation's by default.
        """
        columns = self._columns(labels=False)
        for rows in self.rows[split].split(self.rows_per_block):
            yield {name: columns[name][rows] for name in keys or columns}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the shuffled training batches, without labels."""
        sampler = EpochBatchSampler(
            self.rows["train"], self.batch_size, self.seed, *self._rank_and_world_size()
        )
        return make_loader(self._columns(labels=False), sampler, self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Return the validation batches, or none if there is no validation split."""
        return self._evaluation_loader("val", labels=True) if len(self.rows["val"]) else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return all objects, labelled, with their `split` code: 0 train, 1 val, 2 test."""
        return self._evaluation_loader("all", labels=True)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return all objects, without labels."""
        return self._evaluation_loader("all", labels=False)

    def _evaluation_loader(self, split: str, labels: bool) -> DataLoader[Batch]:
        """Return a loader over one split in order."""
        sampler = ShardSampler(self.rows[split], self.batch_size, *self._rank_and_world_size())
        return make_loader(self._columns(labels), sampler, self.num_workers)

    def _columns(self, labels: bool) -> dict[str, Tensor]:
        """Return the arrays of a batch; without labels unless the stage may see them."""
        hidden = () if labels else (*self.evaluation_only, "split")
        return {name: values for name, values in self.columns.items() if name not in hidden}

    def _rank_and_world_size(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size
