"""What is known of each map beside its pixels: types, missing values, defaults."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]

TEXT = ("name", "simulation")
IDS = ("halo", "projection")
NUMBERS = ("cross_section", "redshift", "log_mass")
KNOWN = (*TEXT, *IDS, *NUMBERS)
"""Columns of every store; further ones are numbers, too."""

MISSING = np.iinfo(np.int64).min
"""An id that is not given."""


def converted(name: str, values: NDArray[Any], where: str) -> NDArray[Any]:
    """Return a column in its type: text, int64 ids (`MISSING` for NaN), else float32.

    Args:
        name: Our name of the column.
        values: One value a map, shape (n,).
        where: File and column, for messages.

    Raises:
        ValueError: The values are of another kind.
    """
    if values.ndim != 1:
        raise ValueError(f"{where} has the shape {values.shape}; give one value a map")
    if name in TEXT:
        texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]
        return np.array([str(text).strip() for text in texts])
    numbers = _as_float(values, where) if values.dtype.kind in "OUS" else values
    if numbers.dtype.kind not in "iufb":
        raise ValueError(f"{where} holds {values.dtype}, not numbers; mend the file")
    return _as_ids(numbers, where) if name in IDS else numbers.astype(np.float32)


def _as_float(values: NDArray[Any], where: str) -> NDArray[np.float64]:
    """Turn text or plain objects, None where missing, into float64."""
    try:
        return np.array([np.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is not numeric ({str(error)[:80]}); mend the file") from error


def _as_ids(values: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Turn whole numbers into int64 ids, NaN into `MISSING`."""
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        whole = np.where(missing, 0, values)
        if np.any(whole != np.round(whole)) or np.any(np.abs(whole) > 2**53):
            raise ValueError(f"{where} holds numbers that are not whole; give integer ids")
        return np.where(missing, MISSING, whole.astype(np.int64))
    return values.astype(np.int64)


def completed(given: Mapping[str, NDArray[Any]], names: list[str], first: int) -> Columns:
    """Return all columns of a store for the maps of one file.

    A map without a halo is its own halo, of a negative id, so that it meets no given one.

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
    own = -1 - np.arange(first, first + count)
    columns["halo"] = np.where(columns["halo"] == MISSING, own, columns["halo"])
    columns["projection"] = np.where(columns["projection"] == MISSING, 0, columns["projection"])
    return columns
