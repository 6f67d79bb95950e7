"""From raw columns to canonical ones: names, units, types, gaps; everything odd is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from astropy.table import Column, Table

from datamodules.clustering.gaia_columns import (
    DEFAULTS,
    ERRORS,
    MEASURED_TOGETHER,
    OPTIONAL,
    REQUIRED,
    REQUIRED_UNITS,
    UNITS,
    Missing,
    StarTable,
    storage,
)
from datamodules.clustering.readers.conversion import check_ids, identifiers, numbers
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.covariance import CORRELATIONS, correlation_matrix


@dataclass(frozen=True)
class Reading:
    """How a table is to be understood.

    Attributes:
        column_map: Canonical name to the name in the file, where they differ.
        units: Canonical name to unit, where the file states none or a wrong one.
        missing: What to do with rows that lack a required value or whose correlations are
            improper: `error` refuses them, `drop` leaves them out, `keep` keeps those that lack no
            more than parallax or proper motions and leaves out the rest.
        extra_columns: Further numeric columns of the file to keep under their own names.
        label_column: Column of labels or membership probabilities, None for none.
    """

    column_map: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    missing: Missing = "error"
    extra_columns: Sequence[str] = ()
    label_column: str | None = None

    def __post_init__(self) -> None:
        """Refuse names that are not canonical."""
        for option, names in (("column_map", self.column_map), ("units", self.units)):
            unknown = sorted(set(names) - set(UNITS) - {"source_id"})
            if unknown:
                raise ValueError(
                    f"data.source.{option}: {unknown} are not names known here; its keys are "
                    f"Gaia's names: {['source_id', *UNITS]}"
                )


def standardise(raw: Table, origin: str, reading: Reading) -> StarTable:
    """Turn a raw table into canonical columns.

    Args:
        raw: Columns as read.
        origin: File or address, named in every message.
        reading: How to understand them.

    Returns:
        The stars; `label_raw`, if a label column is named, keeps it as float64 (NaN where masked).

    Raises:
        ValueError: A required column or value is missing, or a value cannot be right.
    """
    single = [n for n in raw.colnames if isinstance(raw[n], Column) and raw[n].ndim == 1]
    found = _find(raw[single], origin, reading)
    ids, no_id = identifiers(found.pop("source_id"), origin)
    columns = {n: numbers(c, n, origin, reading.units.get(n)) for n, c in found.items()}
    keep = reading.missing == "keep"
    columns |= _blank_half_known(columns) if keep else {}
    needed = ("ra", "dec") if keep else tuple(REQUIRED_UNITS)
    gaps = {"source_id": no_id} | {name: np.isnan(columns[name]) for name in needed}
    absent = ", ".join(name for name, gap in gaps.items() if gap.any())
    incomplete = np.logical_or.reduce(list(gaps.values()))
    columns["source_id"] = ids
    columns, dropped = _without(columns, incomplete, f"{origin}: no value of {absent}", reading)
    check_ids(columns["source_id"], origin)
    _check_values(columns, origin)
    columns, defaults = _fill_defaults(columns)
    improper = np.linalg.eigvalsh(correlation_matrix(columns))[:, 0] <= 0.0
    text = f"{origin}: correlations are not positive definite"
    columns, more = _without(columns, improper, text, reading)
    columns["ra"] = np.mod(columns["ra"], 360.0)
    attributes = {"origin": [origin], "defaults": defaults, "dropped": dropped | more}
    return StarTable({name: storage(name, v) for name, v in columns.items()}, attributes)


def _find(raw: Table, origin: str, reading: Reading) -> dict[str, Column]:
    """Pick the canonical, extra and label columns of a table, whatever their case."""
    found = {}
    for name in (*REQUIRED, *OPTIONAL):
        given = reading.column_map.get(name, name)
        column = find_column(raw, given)
        if column is not None:
            found[name] = column
        elif name in REQUIRED or name in reading.column_map:
            raise ValueError(
                f"{origin}: no column '{given}' for {name}; the file has {sorted(raw.colnames)}; "
                f"set data.source.column_map: {{{name}: <name in the file>}}"
            )
    own = {name: name for name in reading.extra_columns}
    if reading.label_column is not None:
        own["label_raw"] = reading.label_column
    for name, given in own.items():
        column = find_column(raw, given)
        if column is None:
            option = "label_column" if name == "label_raw" else "extra_columns"
            raise ValueError(
                f"{origin}: no column '{given}' asked for by data.source.{option}; "
                f"the file has {sorted(raw.colnames)}"
            )
        found[name] = column
    return found


def find_column(raw: Table, name: str) -> Column | None:
    """Return a table's column, whatever the case of its name, or None if there is no such column.

    Args:
        raw: The table as read.
        name: Of the column; the same case is preferred.
    """
    same = [other for other in raw.colnames if other.lower() == name.lower()]
    return raw[name if name in same else same[0]] if same else None


def _blank_half_known(columns: Mapping[str, Array]) -> dict[str, Array]:
    """Return values and errors, NaN where any of those measured together is not known."""
    blanked: dict[str, Array] = {}
    for names in MEASURED_TOGETHER:
        both = [*names, *(f"{name}_error" for name in names)]
        unknown = np.isnan(np.stack([columns[name] for name in both])).any(axis=0)
        blanked |= {name: np.where(unknown, np.nan, columns[name]) for name in both}
    return blanked


def _without(
    columns: dict[str, Array], wrong: Array, text: str, reading: Reading
) -> tuple[dict[str, Array], dict[str, int]]:
    """Leave out the rows that are wrong, and say how many, or refuse them."""
    number = int(wrong.sum())
    if number and wrong.all():
        raise ValueError(f"{text} in every row; nothing is left")
    if number and reading.missing == "error":
        raise ValueError(
            f"{text} in {number} of {len(wrong)} rows; set data.source.missing: drop to leave "
            "these rows out"
        )
    return {name: v[~wrong] for name, v in columns.items()}, {text: number} if number else {}


def _check_values(columns: Mapping[str, Array], origin: str) -> None:
    """Refuse values that cannot be right."""
    rules = [
        ("dec", -90.0, 90.0, "outside -90..90 degrees"),
        ("ra", -360.0, 720.0, "outside -360..720 degrees"),
        *((name, -1.0, 1.0, "outside -1..1") for name in CORRELATIONS),
        *((name, np.nextafter(0.0, 1.0), np.inf, "zero or negative") for name in ERRORS),
    ]
    for name, low, high, text in rules:
        values = columns.get(name)
        if values is None:
            continue
        wrong = (values < low) | (values > high)
        if wrong.any():
            raise ValueError(
                f"{origin}: column '{name}' is {text} in {int(wrong.sum())} of {len(values)} rows "
                f"(for example {values[wrong][0]:g}); map another column to it or mend the file"
            )


def _fill_defaults(columns: dict[str, Array]) -> tuple[dict[str, Array], list[str]]:
    """Put defaults where optional values are missing, and say so.

    Position errors follow the mean ratios to the parallax error in Gaia DR3; correlations are 0.
    """
    filled, said, absent, zero = dict(columns), [], [], []
    parallax_error = columns["parallax_error"]
    for name in OPTIONAL:
        values = columns.get(name)
        if name not in DEFAULTS:
            absent += [name] if values is None else []
            continue
        gaps = np.ones(len(parallax_error), bool) if values is None else np.isnan(values)
        default = DEFAULTS[name] * parallax_error if DEFAULTS[name] else 0.0 * gaps
        filled[name] = np.where(gaps, default, values if values is not None else default)
        gaps &= ~np.isnan(parallax_error)  # nothing is taken for what a star has no use for
        if not gaps.any():
            continue
        where = name if values is None else f"{name} (in {int(gaps.sum())} rows)"
        if DEFAULTS[name] == 0:
            zero.append(where)
        else:
            said.append(f"{where}: {DEFAULTS[name]} x parallax_error")
    said += [f"0 taken for {', '.join(zero)}"] if zero else []
    said += [f"absent: {', '.join(absent)}"] if absent else []
    return filled, said
