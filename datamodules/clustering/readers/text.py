"""Readers of text tables: ECSV, CSV and whitespace columns, integers never through a float."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.csv
from astropy.table.meta import get_header_from_yaml

from datamodules.clustering.gaia_columns import Array, RawColumn, RawTable

MISSING = ("", "null", "NULL", "nan", "NaN", "NAN", "--", "N/A", "None")
"""Words that stand for a missing value in text files (Gaia's bulk files write `null`)."""


def read_ecsv(content: bytes) -> RawTable:
    """Read an ECSV table: units and types from its header, rows by the fast CSV reader."""
    text = content.decode("utf-8")
    lines = [line for line in text[: _header_end(text)].splitlines() if line.startswith("#")]
    header = get_header_from_yaml([line[1:].removeprefix(" ") for line in lines[1:]])
    types = {c["name"]: _arrow_type(str(c.get("datatype", "float64"))) for c in header["datatype"]}
    units = {c["name"]: str(c["unit"]) for c in header["datatype"] if "unit" in c}
    delimiter = str(header.get("delimiter", " "))
    table = _arrow_csv(content, delimiter, types)
    if missing := set(types) - set(table.column_names):
        raise ValueError(f"columns {sorted(missing)} of its header are not in its table")
    return from_arrow(table, units)


def _header_end(text: str) -> int:
    """Find the offset of the first line that is not a comment."""
    offset = 0
    while text.startswith("#", offset):
        following = text.find("\n", offset)
        if following < 0:
            return len(text)
        offset = following + 1
    return offset


def _arrow_type(name: str) -> pa.DataType:
    """Translate an ECSV type name."""
    names = {"float16": pa.float32(), "float128": pa.float64(), "bool": pa.bool_()}
    if name in names:
        return names[name]
    known = ("int", "uint", "float")
    return getattr(pa, name)() if name.startswith(known) else pa.string()


def read_csv(content: bytes) -> RawTable:
    """Read values below a header line; leading `#` lines are skipped.

    The delimiter is whichever of comma, tab, semicolon and bar is most frequent in the header.
    """
    text = content.decode("utf-8-sig")
    header = text[_header_end(text) :].split("\n", 1)[0]
    return from_arrow(_arrow_csv(content, max(",\t;|", key=header.count), {}), {})


def _arrow_csv(content: bytes, delimiter: str, types: dict[str, pa.DataType]) -> pa.Table:
    """Parse delimited text; integers stay integers beside missing values."""
    text = content.decode("utf-8-sig")
    rows = text[_header_end(text) :].encode()
    block = min(len(rows) + 1, 2**31 - 1)  # one block: types are inferred from all rows
    return pa.csv.read_csv(
        io.BytesIO(rows),
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=block),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter),
        convert_options=pa.csv.ConvertOptions(
            column_types=types,
            null_values=list(MISSING),
            strings_can_be_null=True,
            true_values=["true", "True", "TRUE"],
            false_values=["false", "False", "FALSE"],
        ),
    )


def from_arrow(table: pa.Table, units: dict[str, str]) -> RawTable:
    """Take the columns of an Arrow table apart, filling missing values before leaving Arrow."""
    raw = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_nested(column.type):
            continue
        mask = column.is_null().to_numpy(zero_copy_only=False)
        values = _fill(column).to_numpy(zero_copy_only=False)
        text = values.dtype == object
        raw[name] = RawColumn(values.astype(str) if text else values, mask, units.get(name))
    return raw


def _fill(column: pa.Array) -> pa.Array:
    """Put a harmless value where an Arrow column has none, so that its type survives in numpy."""
    if pa.types.is_null(column.type):
        return pa.array(np.full(len(column), np.nan))
    if column.null_count == 0:
        return column
    if pa.types.is_boolean(column.type):
        return column.fill_null(False)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.fill_null(pa.scalar(0, column.type))
    return column.cast(pa.string()).fill_null("")


def read_text(content: bytes) -> RawTable:
    """Read a whitespace table: names in its first line, or in the last `#` line above the rows."""
    lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    first = next((i for i, line in enumerate(lines) if not line.lstrip().startswith("#")), None)
    if first is None:
        return {}
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
    return {name: _text_column(words) for name, words in zip(names, np.array(rows).T, strict=True)}


def _text_column(words: Array) -> RawColumn:
    """Give words their narrowest type: int64, else float64, else text."""
    mask = np.isin(words, MISSING)
    filled = np.where(mask, "0", words)
    for dtype in (np.int64, np.float64):
        try:
            return RawColumn(filled.astype(dtype), mask)
        except (ValueError, OverflowError):
            continue
    return RawColumn(words, mask)
