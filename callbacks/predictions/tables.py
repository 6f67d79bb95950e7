"""Predictions as a table: HDF5, CSV, ECSV, FITS, VOTable."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.io.votable.tree import Info
from astropy.table import Column, Table, vstack
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.predictions.base import MergedRows, ShardWriter
from callbacks.predictions.fits import add_facts, as_text, header
from callbacks.report.base import NamedData
from callbacks.report.gather import Rows, whole_precision
from datamodules.store import RowStore

Format = Literal["hdf5", "csv", "ecsv", "fits", "votable"]
Facts = dict[str, Any]


class PredictionWriter(ShardWriter):
    """Writes what `predict_step` returns to `predictions.h5` and other formats.

    Rows are sorted by `index`, each object once, with `name`, the datamodule's own id (int64 or
    string), if there is one. `hdf5` and `csv` are written block by block, the others hold the
    table in memory. Files appear whole or not at all; earlier files are kept.

    Args:
        formats: Files to write beside each other; `hdf5` is laid out as a row store of schema
            `astrolit.predictions`; in the others a vector becomes `<key>_0`, `<key>_1`... and
            what has more axes, such as a probability after each epoch, is left out.
        keys: Keys of the predictions to keep; all by default.
    """

    stem: ClassVar[str] = "predictions"

    def __init__(
        self, formats: Sequence[Format] = ("hdf5", "csv"), keys: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        unknown = sorted(set(formats) - set(WRITERS))
        if unknown or not formats:
            raise ValueError(f"formats {unknown}: choose from {', '.join(WRITERS)}")
        self.formats = tuple(dict.fromkeys(formats))
        self.suffixes = [WRITERS[name][0] for name in self.formats]
        self.keys = None if keys is None else tuple(dict.fromkeys(("index", *keys)))

    def columns(self, outputs: Any, batch: Any) -> Rows:
        """Return the predictions to keep."""
        return select(outputs, self.keys)

    def table(self, rows: Rows) -> Iterator[Column]:
        """Yield the table's columns of some rows; `meta` may have a UCD under `ucd`."""
        if isinstance(self.data, NamedData):
            yield Column(self.data.names(rows["index"]), "name")
        for key in ("index", *(key for key in rows if key != "index")):
            yield Column(rows[key], key, copy=False)

    def facts(self, trainer: Trainer, module: LightningModule) -> Facts:
        """Return what the files say of themselves, as plain values; see `add_facts`."""
        return header(trainer, module)

    def write(
        self, paths: Sequence[Path], rows: MergedRows, trainer: Trainer, module: LightningModule
    ) -> None:
        """Write the table in each format."""
        facts = self.facts(trainer, module)
        for name, path in zip(self.formats, paths, strict=True):
            tables = (to_table(self.table(block), name != "hdf5") for block in rows.blocks())
            WRITERS[name][1](path, tables, facts, self.stem)


def select(outputs: Any, keys: Sequence[str] | None) -> Rows:
    """Return the predictions of one batch as arrays, half precision as float32.

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
    return {key: whole_precision(value).cpu().numpy() for key, value in kept.items()}


def to_table(columns: Iterable[Column], split: bool) -> Table:
    """Return columns as a table.

    Args:
        columns: Of equal length; none may have the name of another.
        split: Whether to number the columns of a vector and to leave out what has more axes.
    """
    table = Table()
    for column in (part for whole in columns for part in (parts(whole) if split else [whole])):
        if column.name in table.colnames:
            raise ValueError(f"the input has a column {column.name!r} already: rename it")
        table.add_column(column, copy=False)
    return table


def parts(column: Column) -> Iterator[Column]:
    """Yield a column as it is, a vector as `<key>_0`, `<key>_1`..., a matrix not at all."""
    if column.ndim == 1:
        yield column
    for i in range(column.shape[1] if column.ndim == 2 else 0):
        text = f"{column.description} {i}" if column.description else None
        values = np.asarray(column)[:, i]
        yield Column(values, f"{column.name}_{i}", description=text, meta=column.meta, copy=False)


def write_hdf5(path: Path, tables: Iterable[Table], facts: Facts, name: str) -> None:
    """Write a row store, block by block."""
    with RowStore.writer(path, f"astrolit.{name}", attributes=facts) as writer:
        for table in tables:
            writer.append({key: np.asarray(table[key]) for key in table.colnames})


def write_csv(path: Path, tables: Iterable[Table], facts: Facts, name: str) -> None:
    """Write plain text, block by block; it has no place for what made it."""
    with ExitStack() as stack:
        writer: Any = None
        for table in tables:
            block = pa.table({key: pa.array(np.asarray(table[key])) for key in table.colnames})
            writer = writer or stack.enter_context(pyarrow.csv.CSVWriter(path, block.schema))
            writer.write_table(block)


def write_ecsv(path: Path, tables: Iterable[Table], facts: Facts, name: str) -> None:
    """Write text with units, types and what made it in a YAML header."""
    table = vstack(list(tables))
    table.meta = facts
    table.write(path, format="ascii.ecsv")


def write_fits(path: Path, tables: Iterable[Table], facts: Facts, name: str) -> None:
    """Write a binary table with descriptions (TCOMM) and UCDs of its columns and what made it."""
    table = vstack(list(tables))
    hdu = fits.table_to_hdu(table)
    hdu.name = name.upper()
    add_facts(hdu.header, facts)
    for number, column in enumerate(table.itercols(), 1):
        if column.description:
            hdu.header[f"TCOMM{number}"] = as_text(column.description)
        if "ucd" in column.meta:
            hdu.header[f"TUCD{number}"] = column.meta["ucd"]
    hdu.writeto(path)


def write_votable(path: Path, tables: Iterable[Table], facts: Facts, name: str) -> None:
    """Write a binary VOTable with units, UCDs and what made it as INFO elements."""
    document = from_table(vstack(list(tables)))
    document.infos.extend(Info(name=key, value=as_text(value)) for key, value in facts.items())
    document.to_xml(str(path), tabledata_format="binary2")


WRITERS: dict[str, tuple[str, Callable[[Path, Iterable[Table], Facts, str], None]]] = {
    "hdf5": ("h5", write_hdf5),
    "csv": ("csv", write_csv),
    "ecsv": ("ecsv", write_ecsv),
    "fits": ("fits", write_fits),
    "votable": ("vot", write_votable),
}
"""Format to suffix and function of path, blocks of the table, what made it, and its name."""
