"""Predictions to files: one shard a process, merged and sorted by rank 0."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
from astropy.table import Table
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from callbacks.predictions.base import BLOCK, ShardWriter
from callbacks.report.gather import whole_precision
from callbacks.report.paths import unused_stem
from callbacks.report.table import run_facts, to_plain
from datamodules.files import atomic_path, publish
from datamodules.store import FORMAT

SCHEMA = "astrolit.predictions"
SUFFIXES = {"hdf5": "h5"}
Array = NDArray[Any]


class PredictionWriter(ShardWriter):
    """Writes what `predict_step` returns to `predictions.h5` and `.csv` or `.ecsv`.

    Rows are sorted by `index`, each object once, with `name`, the datamodule's own id (int64 or
    string), if there is one. The merge of the shards holds one column in memory at a time (`ecsv`
    holds the table). Files appear whole or not at all.

    Args:
        formats: Files to write beside each other; `hdf5` is laid out as a row store of schema
            `astrolit.predictions`; in `csv` and `ecsv` a vector becomes `<key>_0`, `<key>_1`...
            and what has more axes, such as a probability after each epoch, is left out.
        keys: Keys of the predictions to keep; all by default.
    """

    stem: ClassVar[str] = "predictions"

    def __init__(
        self,
        formats: Sequence[Literal["hdf5", "csv", "ecsv"]] = ("hdf5", "csv"),
        keys: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        unknown = sorted(set(formats) - {"hdf5", "csv", "ecsv"})
        if unknown or not formats:
            raise ValueError(f"formats {unknown or list(formats)}: choose from hdf5, csv, ecsv")
        self.formats = tuple(formats)
        self.keys = None if keys is None else tuple(dict.fromkeys(("index", *keys)))
        self._stem = self.stem

    def columns(self, outputs: Any, batch: Any) -> dict[str, Array]:
        """Return the predictions to keep."""
        return select(outputs, self.keys)

    def merge(self, trainer: Trainer, module: LightningModule, shards: Sequence[Path]) -> None:
        """Write the files asked for."""
        facts = {"module": type(module).__name__, **run_facts(trainer, module)}
        suffixes = [SUFFIXES.get(name, name) for name in self.formats]
        self._stem = unused_stem(self._folder, self.stem, suffixes)
        names = getattr(getattr(trainer, "datamodule", None), "names", None)
        merged = self._folder / f".{self.stem}.merged.h5"
        merge_shards(shards, merged, to_plain(facts), names)
        for path in self.paths:
            WRITERS[path.suffix](merged, path)
        merged.unlink(missing_ok=True)
        print(f"predictions: {', '.join(str(path) for path in self.paths)}")

    @property
    def paths(self) -> list[Path]:
        """The files written."""
        # The text files are made from the merged HDF5, which is renamed last.
        last = sorted(set(self.formats), key=lambda name: name == "hdf5")
        return [self._folder / f"{self._stem}.{SUFFIXES.get(name, name)}" for name in last]


def select(outputs: Any, keys: Sequence[str] | None) -> dict[str, Array]:
    """Return the predictions of one batch as arrays.

    Args:
        outputs: What `predict_step` returned.
        keys: Keys to keep; all by default.

    Raises:
        ValueError: If it is not a dict of tensors, all with first axis the objects, with `index`.
    """
    if not isinstance(outputs, Mapping) or "index" not in outputs:
        raise ValueError("predict_step must return a dict of tensors with 'index' to be written")
    missing = sorted(set(keys or ()) - set(outputs))
    if missing:
        raise ValueError(f"predictions have no {missing}; they have {sorted(outputs)}")
    kept = {key: outputs[key] for key in keys or outputs}
    size = len(outputs["index"])
    for key, value in kept.items():
        if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != size:
            raise ValueError(f"prediction {key!r} is not a tensor with first axis {size} objects")
    return {key: to_array(value) for key, value in kept.items()}


def to_array(values: Tensor) -> Array:
    """Return a tensor as an array, half precision as float32."""
    return whole_precision(values).cpu().numpy()


def merge_shards(
    shards: Sequence[Path],
    path: Path,
    attributes: dict[str, Any],
    names: Callable[[NDArray[np.int64]], Array] | None = None,
) -> None:
    """Merge shards into one file sorted by `index`, each object once.

    Args:
        shards: Files of `append`; those without rows are passed over.
        path: The file to write.
        attributes: Plain values for the header.
        names: From int64 row numbers to the objects' own ids.

    Raises:
        FileNotFoundError: If a shard is not there.
        ValueError: If no shard has rows.
    """
    for shard in shards:
        if not shard.is_file():
            raise FileNotFoundError(
                f"{shard}: this process's shard is missing; all processes must write to one folder"
            )
    with ExitStack() as stack:
        files = [stack.enter_context(h5py.File(shard, "r")) for shard in shards]
        files = [file for file in files if "index" in file]
        if not files:
            raise ValueError(f"{path.parent}: nothing was predicted")
        out = stack.enter_context(h5py.File(path, "w"))
        whole = np.concatenate([file["index"][:] for file in files])
        index, first = np.unique(whole, return_index=True)
        for key in files[0]:
            values = np.concatenate([file[key][:] for file in files])[first]
            out.create_dataset(key, data=values, chunks=True, fletcher32=True)
        if names is not None:
            ids = np.asarray(names(index))
            text = ids.dtype.kind in "OUS"
            ids = ids.astype(h5py.string_dtype("utf-8")) if text else ids
            out.create_dataset("name", data=ids, chunks=True, fletcher32=not text)
        header = {"schema": SCHEMA, "version": 1, "num_rows": len(index), "attributes": attributes}
        out.attrs["format"] = FORMAT
        out.attrs["header"] = json.dumps(header)


def flat_blocks(path: Path, rows: int = BLOCK) -> Iterator[dict[str, Array]]:
    """Yield the rows of a merged file in blocks, vectors as numbered columns, matrices left out.

    Args:
        path: A file of `merge_shards`.
        rows: Rows of a block.
    """
    with h5py.File(path, "r") as file:
        keys = [key for key in ("name", "index") if key in file]
        keys += [key for key in file if key not in keys and file[key].ndim <= 2]
        for start in range(0, len(file["index"]), rows):
            block: dict[str, Array] = {}
            for key in keys:
                dataset = file[key]
                text = h5py.check_string_dtype(dataset.dtype) is not None
                values = (dataset.asstr() if text else dataset)[start : start + rows]
                block.update(split_columns(key, np.asarray(values)))
            yield block


def split_columns(key: str, values: Array) -> dict[str, Array]:
    """Return a column as it is, or a vector as `<key>_0`, `<key>_1`..."""
    if values.ndim == 1:
        return {key: values.astype(str) if values.dtype.kind == "O" else values}
    flat = values.reshape(len(values), -1)
    return {f"{key}_{i}": flat[:, i] for i in range(flat.shape[1])}


def write_csv(source: Path, path: Path) -> None:
    """Write a merged file as CSV, block by block."""
    with atomic_path(path) as temporary, ExitStack() as stack:
        writer: Any = None
        for block in flat_blocks(source):
            table = pa.table({name: pa.array(values) for name, values in block.items()})
            if writer is None:
                writer = stack.enter_context(pyarrow.csv.CSVWriter(temporary, table.schema))
            writer.write_table(table)


def write_ecsv(source: Path, path: Path) -> None:
    """Write a merged file as ECSV with its header's attributes as metadata."""
    blocks = list(flat_blocks(source))
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    with h5py.File(source, "r") as file:
        header = json.loads(file.attrs["header"])
    with atomic_path(path) as temporary:
        Table(columns, meta=header["attributes"]).write(temporary, format="ascii.ecsv")


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    ".csv": write_csv,
    ".ecsv": write_ecsv,
    ".h5": publish,
}
