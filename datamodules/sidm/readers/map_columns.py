"""What is known of each map beside its pixels: types, missing values, defaults."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.splits import as_integers

Columns = dict[str, NDArray[Any]]

TEXT = ("name", "simulation")
IDS = ("halo", "projection")
NUMBERS = ("cross_section", "redshift", "log_mass")
KNOWN = (*TEXT, *IDS, *NUMBERS)
"""Columns of every store; further ones are numbers, too."""

MISSING = np.iinfo(np.int64).min
"""An id that is not given."""

OWN_HALO = 1 << 62
"""Ids from here on, and negative ones, stand for no halo: such a map is a halo of its own."""


def converted(name: str, values: NDArray[Any], where: str) -> NDArray[Any]:
    """Return a column in its type: text, "" for NaN; int64 ids, `MISSING` for NaN; else float32.

    A halo may be a name, too (`A2744`): its id is a hash of the text, the same in all files.

    Args:
        name: Our name of the column.
        values: One value a map, shape (n,).
        where: File and column, for messages.

    Raises:
        ValueError: The values are of another kind.
    """
    if values.ndim != 1:
        raise ValueError(f"{where} has the shape {values.shape}; give one value a map")
    if values.dtype.kind not in "iufbOUS":
        raise ValueError(f"{where} holds {values.dtype}, not numbers; mend the file")
    if name in TEXT:
        return np.array([_text(value) for value in values])
    if name in IDS:
        if values.dtype.kind in "ib":
            return values.astype(np.int64)
        return np.array([_id(value, name == "halo", where) for value in values], np.int64)
    return (_as_float(values, where) if values.dtype.kind in "OUS" else values).astype(np.float32)


def _absent(value: Any) -> bool:
    """Return whether a value is None or NaN."""
    return value is None or value != value


def _text(value: Any) -> str:
    """Return a value as text, "" where there is none."""
    plain = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return "" if _absent(plain) else str(plain).strip()


def _as_float(values: NDArray[Any], where: str) -> NDArray[np.float64]:
    """Turn text or plain objects, None where missing, into float64."""
    try:
        return np.array([np.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is not numeric ({str(error)[:80]}); mend the file") from error


def _id(value: Any, hashed: bool, where: str) -> int:
    """Return an id as an integer, none of which passes through a float.

    Raises:
        ValueError: It is no whole number, and text is not `hashed`.
    """
    text = _text(value)
    if not text:
        return int(MISSING)
    number = _whole(text)
    if number is not None and abs(number) <= np.iinfo(np.int64).max:
        return number
    if not hashed or isinstance(value, float | np.floating):
        raise ValueError(f"{where} holds {text[:40]!r}, not a whole number; give integer ids")
    return int(as_integers(np.array([text]))[0] >> np.uint64(2))  # below OWN_HALO


def _whole(text: str) -> int | None:
    """Return the whole number that a text is, as 12 or 12.0, `MISSING` for NaN; None if none."""
    if text.lstrip("+-").isdecimal():
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return None
    if np.isnan(number):
        return int(MISSING)
    return int(number) if number.is_integer() and abs(number) <= 2**53 else None


def completed(given: Mapping[str, NDArray[Any]], names: list[str], first: int) -> Columns:
    """Return all columns of a store for the maps of one file.

    A map without a halo is its own, of an id from `OWN_HALO` on, so that it meets no given one.

    Args:
        given: Converted columns, each (n,).
        names: Default names, n of them.
        first: Number of the first map among those of all files.
    """
    count = len(names)
    columns: Columns = {
        "name": np.array(names),
        "simulation": np.full(count, ""),
        "projection": np.zeros(count, np.int64),
        "halo": np.full(count, MISSING),
        **{name: np.full(count, np.nan, np.float32) for name in NUMBERS},
        **given,
    }
    own = OWN_HALO + np.arange(first, first + count)
    columns["halo"] = np.where(without_halo(columns["halo"]), own, columns["halo"])
    columns["projection"] = np.where(columns["projection"] == MISSING, 0, columns["projection"])
    return columns


def without_halo(halo: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which ids stand for no halo, shape (n,)."""
    return (halo < 0) | (halo >= OWN_HALO)
