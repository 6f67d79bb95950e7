"""Ids as exact 64-bit integers and measurements as float64 in their canonical units."""

import numpy as np
from astropy import units as u

from datamodules.clustering.gaia_columns import UNITS, Array, RawColumn, RawTable

EXACT_FLOAT = 2**53
"""Above this, not every integer has a float64."""

GAIA_ID_STEP = 128
"""Gaia's source ids are multiples of this, as their lowest seven bits name components."""


def identifiers(column: RawColumn, origin: str, raw: RawTable) -> tuple[Array, Array]:
    """Take the ids as int64, never through a float; also where they are missing."""
    name = next(name for name, other in raw.items() if other is column)
    values = column.values
    if values.dtype.kind in "US":
        filled = np.where(column.mask, "0", np.char.strip(values))
        try:
            values = filled.astype(np.int64)
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"{origin}: column '{name}' (source_id) holds text that is no 64-bit integer: "
                f"{error}; give the file integer ids"
            ) from error
    if values.dtype.kind not in "iu" or (values.dtype == np.uint64 and np.any(values >> 63)):
        raise ValueError(
            f"{origin}: column '{name}' (source_id) is {values.dtype}, so 64-bit ids are damaged "
            "or may be; write the file again with ids as 64-bit integers"
        )
    return values.astype(np.int64), column.mask


def numbers(column: RawColumn, name: str, origin: str, unit: str | None) -> Array:
    """Take a column as float64 in its canonical unit, NaN where masked."""
    values = column.values
    if values.dtype.kind in "USO":
        words = values[~column.mask].astype(str)
        example = next((word for word in words if not _is_number(word)), "")
        if example:
            raise ValueError(
                f"{origin}: column '{name}' is not numeric (for example '{example[:40]}'); "
                "map another column to it or mend the file"
            )
        values = np.where(column.mask, "nan", values.astype(str))
    result = np.array(values, dtype=np.float64)
    result[column.mask] = np.nan
    infinite = int(np.isinf(result).sum())
    if infinite:
        raise ValueError(
            f"{origin}: column '{name}' is infinite in {infinite} of {len(result)} rows; "
            "leave such values blank or remove the rows"
        )
    return result * _factor(name, unit or column.unit, origin)


def _is_number(word: str) -> bool:
    """Tell whether a word can be read as a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


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
