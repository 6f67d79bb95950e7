"""Readers of survey formats: a file of any supported kind to raw columns, ids exact, masks kept.

Nothing here knows what a column means; see `validation` for that. No reader sends an integer
through a float, so that 64-bit source ids stay exact beside masked values.
"""

import gzip
import io
import re
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet
from astropy.io import fits, votable
from astropy.table import MaskedColumn, Table
from astropy.table.meta import get_header_from_yaml

from datamodules.clustering.gaia_columns import Array, RawColumn, RawTable
from datamodules.clustering.readers.text import from_arrow, read_csv, read_ecsv, read_text

Format = Literal["auto", "fits", "ecsv", "csv", "votable", "parquet", "text"]

SUFFIXES: dict[str, Format] = {
    ".fits": "fits",
    ".fit": "fits",
    ".ecsv": "ecsv",
    ".csv": "csv",
    ".tsv": "csv",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".dat": "text",
    ".asc": "text",
    ".tab": "text",
}


def read_raw(path: Path, kind: Format = "auto") -> RawTable:
    """Read a catalogue file of any supported format.

    Args:
        path: file, gzip-compressed or not.
        kind: format, or `auto` to go by the suffix (and by the first line for ECSV).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the format is unknown or the file is truncated or broken.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; set data.source.path to a catalogue")
    content = _content(path)
    kind = _kind(path, content) if kind == "auto" else kind
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=".*truncated.*")
            table = _READERS[kind](content)
    except Exception as error:  # every library has its own exceptions for a broken file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        message = f"{path}: cannot be read as {kind} (truncated or not {kind}?): {reason}"
        raise ValueError(message) from error
    if not table or len(next(iter(table.values())).values) == 0:
        raise ValueError(f"{path}: the table is empty; it needs at least one row")
    return table


def from_astropy(table: Table) -> RawTable:
    """Take the columns of an astropy table apart; columns of several values a row are left out."""
    return {
        name: RawColumn(
            _native(np.asarray(column.data)),
            np.array(column.mask) if isinstance(column, MaskedColumn) else _false(len(column)),
            None if column.unit is None else str(column.unit),
        )
        for name, column in table.columns.items()
        if column.ndim == 1
    }


def _content(path: Path) -> bytes:
    """Read the whole file, decompressed if it is gzip by its first bytes."""
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{path}: the gzip file is truncated or damaged ({error}); fetch it again"
        ) from error


def _kind(path: Path, content: bytes) -> Format:
    """Find the format from the suffix; a `.csv` that begins as ECSV (Gaia's bulk files) is ECSV."""
    if content.startswith(b"# %ECSV"):
        return "ecsv"
    name = Path(path.name.lower().removesuffix(".gz"))
    if name.suffix not in SUFFIXES:
        known = " ".join(sorted(SUFFIXES))
        raise ValueError(
            f"{path}: unknown suffix '{name.suffix}' (known: {known}, each also with .gz); "
            "set data.source.format"
        )
    return SUFFIXES[name.suffix]


def _false(count: int) -> Array:
    """Give a mask without missing values."""
    return np.zeros(count, dtype=bool)


def _native(values: Array) -> Array:
    """Bring an array to native byte order and plain text."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _read_fits(content: bytes) -> RawTable:
    """Read the first table of a FITS file."""
    with fits.open(io.BytesIO(content), memmap=False) as units:
        tables = [hdu for hdu in units if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            raise ValueError("it holds no table extension")
        return from_astropy(Table.read(tables[0]))


def _read_parquet(content: bytes) -> RawTable:
    """Read a parquet file; units come from the field metadata or from astropy's header."""
    table = pyarrow.parquet.read_table(io.BytesIO(content), use_threads=False)
    units = {}
    for field in table.schema:
        entry = (field.metadata or {}).get(b"unit", b"")
        if entry:
            units[field.name] = entry.decode()
    written = (table.schema.metadata or {}).get(b"table_meta_yaml")
    if written is not None:
        header = get_header_from_yaml(written.decode().split("\n"))
        units |= {c["name"]: str(c["unit"]) for c in header["datatype"] if "unit" in c}
    return from_arrow(table, units)


def _read_votable(content: bytes) -> RawTable:
    """Read the first table of a VOTable, which must hold its rows itself."""
    if re.search(rb"<STREAM[^>]*\bhref", content):
        raise ValueError("it keeps its rows elsewhere (a STREAM with href); save it as one file")
    table = votable.parse_single_table(io.BytesIO(content), verify="ignore")
    return from_astropy(table.to_table(use_names_over_ids=True))


_READERS: dict[str, Callable[[bytes], RawTable]] = {
    "fits": _read_fits,
    "ecsv": read_ecsv,
    "csv": read_csv,
    "votable": _read_votable,
    "parquet": _read_parquet,
    "text": read_text,
}
