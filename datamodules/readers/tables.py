"""Readers of survey formats: a file of any supported kind to a table, ids exact, masks kept.

Nothing here knows what a column means; see `validation` for that. No reader sends an integer
through a float, so that 64-bit source ids stay exact beside masked values.
"""

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from astropy.io import fits, votable
from astropy.io.misc.pyarrow.csv import convert_pa_table_to_astropy_table
from astropy.table import Column, MaskedColumn, Table
from astropy.table.meta import get_header_from_yaml

from datamodules.files import read_bytes
from lightning_modules.physics.arrays import Array

Format = Literal["auto", "fits", "ecsv", "csv", "votable", "parquet", "text"]

SUFFIXES: dict[str, Format] = {
    **dict.fromkeys((".fits", ".fit"), "fits"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    **dict.fromkeys((".vot", ".votable", ".xml"), "votable"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".txt", ".dat", ".asc", ".tab"), "text"),
    ".ecsv": "ecsv",
}

MISSING = ["", "null", "NULL", "nan", "NaN", "NAN", "--", "N/A", "None"]
"""Words that stand for a missing value in text files (Gaia's bulk files write `null`)."""


def read_raw(path: Path, kind: Format = "auto") -> Table:
    """Read a catalogue file of any supported format.

    Args:
        path: File, gzip-compressed or not.
        kind: Format, or `auto` to go by the suffix (and by the first line for ECSV).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The format is unknown or the file is truncated or broken.
    """
    content = read_bytes(path)
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
    if len(table) == 0:
        raise ValueError(f"{path}: the table is empty; it needs at least one row")
    return table


def plain_values(column: Column) -> tuple[Array, Array]:
    """Return the values of a table's column, in native byte order, and where they are missing.

    Args:
        column: Of any type, perhaps masked, shape (n,).
    """
    values = np.asarray(np.ma.getdata(column))
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    return values.astype(values.dtype.newbyteorder("=")), np.ma.getmaskarray(column)


def _kind(path: Path, content: bytes) -> Format:
    """Find the format from the suffix; a `.csv` that begins as ECSV (Gaia's bulk files) is ECSV."""
    if content.startswith(b"# %ECSV"):
        return "ecsv"
    name = Path(path.name.lower().removesuffix(".gz"))
    if name.suffix not in SUFFIXES:
        known = " ".join(sorted(SUFFIXES))
        raise ValueError(
            f"{path}: unknown suffix '{name.suffix}' (known: {known}, each also with .gz); "
            "rename the file, or name its format if the source takes one"
        )
    return SUFFIXES[name.suffix]


def _read_fits(content: bytes) -> Table:
    """Read the first table of a FITS file."""
    with fits.open(io.BytesIO(content), memmap=False) as units:
        tables = [hdu for hdu in units if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            raise ValueError("it holds no table extension")
        return Table.read(tables[0])


def _read_ecsv(content: bytes) -> Table:
    """Read an ECSV table, types and units from its header."""
    content = content.replace(b"datatype: float128", b"datatype: float64")  # Arrow's longest
    return Table.read(io.BytesIO(content), format="ecsv", engine="pyarrow", null_values=MISSING)


def _read_csv(content: bytes) -> Table:
    """Read values below a header line; leading `#` lines are skipped.

    The delimiter is whichever of comma, tab, semicolon and bar is most frequent in the header.
    """
    text = re.sub(r"\A(#.*(\n|\Z))+", "", content.decode("utf-8-sig"))
    header, rows = text.split("\n", 1)[0], text.encode()
    block = min(len(rows) + 1, 2**31 - 1)  # one block: types are inferred from all rows
    table = pa.csv.read_csv(
        io.BytesIO(rows),
        pa.csv.ReadOptions(use_threads=False, block_size=block),
        pa.csv.ParseOptions(delimiter=max(",\t;|", key=header.count)),
        pa.csv.ConvertOptions(null_values=MISSING, strings_can_be_null=True),
    )
    return _from_arrow(table, {})


def _read_parquet(content: bytes) -> Table:
    """Read a parquet file; units come from the field metadata or from astropy's header."""
    table = pyarrow.parquet.read_table(io.BytesIO(content), use_threads=False)
    found = {field.name: (field.metadata or {}).get(b"unit", b"") for field in table.schema}
    units = {name: unit.decode() for name, unit in found.items() if unit}
    written = (table.schema.metadata or {}).get(b"table_meta_yaml")
    if written is not None:
        header = get_header_from_yaml(written.decode().split("\n"))
        units |= {c["name"]: str(c["unit"]) for c in header["datatype"] if "unit" in c}
    return _from_arrow(table, units)


def _from_arrow(table: pa.Table, units: dict[str, str]) -> Table:
    """Take the columns of an Arrow table that have one value a row; integers stay integers."""
    names = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    columns = {name: table[name].cast(_plain_type(table[name].type)) for name in names}
    result = convert_pa_table_to_astropy_table(pa.table(columns))
    for name in set(units) & set(result.colnames):
        result[name].unit = units[name]
    return result


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a column leaves Arrow: a number, or text for all others."""
    if pa.types.is_null(kind):
        return pa.float64()
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return kind if plain else pa.string()


def _read_votable(content: bytes) -> Table:
    """Read the first table of a VOTable, which must hold its rows itself."""
    if re.search(rb"<STREAM[^>]*\bhref", content):
        raise ValueError("it keeps its rows elsewhere (a STREAM with href); save it as one file")
    table = votable.parse_single_table(io.BytesIO(content), verify="ignore")
    return table.to_table(use_names_over_ids=True)


def _read_text(content: bytes) -> Table:
    """Read a whitespace table: names in its first line, or in the last `#` line above the rows."""
    lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    first = next((i for i, line in enumerate(lines) if not line.lstrip().startswith("#")), None)
    if first is None:
        return Table()
    names, start = lines[first].split(), first + 1
    above = lines[first - 1].lstrip("# \t").split() if first > 0 else []
    if len(above) == len(names):
        names, start = above, first
    rows = [line.split() for line in lines[start:] if not line.lstrip().startswith("#")]
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
    if wrong is not None:
        raise ValueError(
            f"row {wrong + 1} has {len(rows[wrong])} values for {len(names)} columns {names}"
        )
    return Table([_text_column(words) for words in np.array(rows).T], names=names)


def _text_column(words: Array) -> MaskedColumn:
    """Return words in their narrowest type: int64, else float64, else text."""
    mask = np.isin(words, MISSING)
    filled = np.where(mask, "0", words)
    for dtype in (np.int64, np.float64):
        try:
            return MaskedColumn(filled.astype(dtype), mask=mask)
        except (ValueError, OverflowError):
            continue
    return MaskedColumn(words, mask=mask)


_READERS: dict[str, Callable[[bytes], Table]] = {
    "fits": _read_fits,
    "ecsv": _read_ecsv,
    "csv": _read_csv,
    "votable": _read_votable,
    "parquet": _read_parquet,
    "text": _read_text,
}
