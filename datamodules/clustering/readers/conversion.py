"""Ids as exact 64-bit integers and measurements as float64 in their canonical units."""

import numpy as np
from astropy import units as u
from astropy.table import Column

from datamodules.clustering.gaia_columns import UNITS
from datamodules.readers.tables import plain_values
from lightning_modules.physics.arrays import Array

EXACT_FLOAT = 2**53
"""Above this, not every integer has a float64."""

GAIA_ID_STEP = 128
"""Gaia's source ids are multiples of this, as their lowest seven bits name components."""


def identifiers(column: Column, origin: str) -> tuple[Array, Array]:
    """Return the ids as int64, never through a float, and where they are missing.

    Args:
        column: The ids, shape (n,).
        origin: File or address, named in every message.
    """
    values, mask = plain_values(column)
    if values.dtype.kind == "U":
        filled = np.where(mask, "0", np.char.strip(values))
        try:
            values = filled.astype(np.int64)
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"{origin}: column '{column.name}' (source_id) holds text that is no 64-bit "
                f"integer: {error}; give the file integer ids"
            ) from error
    if values.dtype.kind not in "iu" or (values.dtype == np.uint64 and np.any(values >> 63)):
        raise ValueError(
            f"{origin}: column '{column.name}' (source_id) is {values.dtype}, so 64-bit ids are "
            "damaged or may be; write the file again with ids as 64-bit integers"
        )
    return values.astype(np.int64), mask


def numbers(column: Column, name: str, origin: str, unit: str | None) -> Array:
    """Return a column as float64 in its canonical unit, NaN where missing, shape (n,).

    Args:
        column: The measurements, shape (n,).
        name: Canonical name.
        origin: File or address, named in every message.
        unit: Unit if the file states none or a wrong one.
    """
    values, mask = plain_values(column)
    if values.dtype.kind in "UO":
        values = np.where(mask, "nan", values.astype(str))
    try:
        result = np.where(mask, np.nan, values.astype(np.float64))
    except ValueError as error:
        raise ValueError(
            f"{origin}: column '{name}' is not numeric ({str(error)[:80]}); "
            "map another column to it or mend the file"
        ) from error
    infinite = int(np.isinf(result).sum())
    if infinite:
        raise ValueError(
            f"{origin}: column '{name}' is infinite in {infinite} of {len(result)} rows; "
            "leave such values blank or remove the rows"
        )
    stated = None if column.unit is None else str(column.unit)
    return result * _factor(name, unit or stated, origin)


def _factor(name: str, unit: str | None, origin: str) -> float:
    """Find the factor from a column's unit to the canonical one; 1 where no unit is stated."""
    if not unit or not UNITS.get(name):
        return 1.0
    for style in ("generic", "vounit", "cds"):
        try:
            return float(u.Unit(unit, format=style).to(UNITS[name]))
        except u.UnitConversionError as error:
            raise ValueError(
                f"{origin}: column '{name}' is in '{unit}', which is no unit of its kind "
                f"({UNITS[name]}); map another column to it or set data.source.units"
            ) from error
        except ValueError:
            continue
    raise ValueError(
        f"{origin}: the unit '{unit}' of column '{name}' is unknown; "
        f"set data.source.units: {{{name}: {UNITS[name]}}}"
    )


def check_ids(ids: Array, origin: str) -> None:
    """Refuse ids that are repeated or that show the rounding of a float."""
    large = ids[np.abs(ids) > EXACT_FLOAT]
    step = np.spacing(np.abs(large).astype(np.float64)).astype(np.int64)
    rounded = large % np.maximum(step, 1) == 0
    evidence = np.log2(np.maximum(step, GAIA_ID_STEP) / GAIA_ID_STEP).sum()
    if rounded.all() and evidence > 40:  # by chance once in 2^40 tables of genuine Gaia ids
        raise ValueError(
            f"{origin}: column 'source_id' went through a float before it was saved (every id is "
            "a multiple of a float64's step, so its last digits are lost); take the original file"
        )
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise ValueError(
            f"{origin}: column 'source_id' repeats {int((counts > 1).sum())} ids (for example "
            f"{unique[counts > 1][0]}); keep one row for each star"
        )
