"""Light curves of real surveys: which column is what, which unit, which time (no Lightning)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.microlensing.readers.text_files import TextTable, read_text_file
from datamodules.microlensing.simulate.noise import MAG_TO_RELATIVE
from lightning_modules.physics.arrays import Array

Unit = Literal["mag", "flux", "difference_flux"]
UNITS: tuple[Unit, ...] = ("mag", "flux", "difference_flux")

ZERO_MAGNITUDE = 18.0
"""Magnitude whose flux is 1; it cancels when a curve is divided by its reference flux."""

TIME_ZERO = 2450000.0
MJD_ZERO = 2400000.5
LAST_DAY = 30000.0
SENTINEL = 90.0
"""Magnitudes from here on mean that nothing was measured."""

MAX_LISTED = 5
IS_TIME = re.compile(r"(hjd|bjd|jd|mjd|time|julian)", re.IGNORECASE)
IS_ERROR = re.compile(r"(err|unc|sigma|^e_|^sig)", re.IGNORECASE)
IS_DIFFERENCE = re.compile(r"(delta|diff|dflux|relative)", re.IGNORECASE)


@dataclass
class LightCurve:
    """One telescope's light curve.

    Attributes:
        path: The file.
        time: JD - 2450000 (heliocentric if the file's is), float64, increasing, shape (n,).
        flux: In some linear unit, shape (n,).
        error: In the same unit, shape (n,).
        problems: What was wrong with rows of the file.
    """

    path: Path
    time: Array
    flux: Array
    error: Array
    problems: list[str] = field(default_factory=list)


def read_light_curve(
    path: Path,
    unit: Unit | None = None,
    columns: Sequence[str] | None = None,
    time_zero: float | None = None,
    reference_flux: float | None = None,
) -> LightCurve:
    """Read one file.

    Args:
        path: The file.
        unit: `mag`, `flux` or `difference_flux`, where the header does not say or has several.
        columns: Of a bare file: time, mag, flux, difference_flux, error, and `-` for one to skip.
        time_zero: Julian date of the file's time 0; recognised if None.
        reference_flux: Of the reference image, in the unit of a difference flux.

    Raises:
        ValueError: A unit or a time is unknown, a column or a reference flux is missing.
    """
    table = read_text_file(path)
    unit, places, time_name = _find_columns(table, unit, columns)
    if unit == "difference_flux" and reference_flux is None:
        raise ValueError(
            f"{path}: a difference flux says nothing about magnification without the flux of its "
            "reference image; set data.source.reference_flux in the same unit"
        )
    values, problems = _numbers(table, places, unit)
    value, error = values[:, 1], values[:, 2]
    time = _normalise_time(path, values[:, 0], time_name, time_zero)
    if unit == "mag":
        flux = 10.0 ** (-0.4 * (value - ZERO_MAGNITUDE))
        error = MAG_TO_RELATIVE * flux * error
    else:
        flux = value + ((reference_flux or 0.0) if unit == "difference_flux" else 0.0)
    order = np.argsort(time, kind="stable")
    again = (np.diff(time[order], prepend=np.nan) == 0) & (np.diff(flux[order], prepend=0) == 0)
    kept = order[~again]
    if again.any():
        problems.append(f"{path}: {int(again.sum())} rows repeat the one before; left out")
    return LightCurve(path, time[kept], flux[kept], error[kept], problems)


def _find_columns(
    table: TextTable, unit: Unit | None, columns: Sequence[str] | None
) -> tuple[Unit, tuple[int, int, int], str]:
    """Find unit, places of time, value and error, and the name of the time."""
    if unit is not None and unit not in UNITS:
        raise ValueError(f"data.source.unit={unit!r}: choose from {list(UNITS)}")
    names = columns or table.names or (unit and ["time", unit, "error"])
    if not names:
        raise ValueError(
            f"{table.path}: has no header, so its unit is unknown; set data.source.unit to one of "
            f"{list(UNITS)}"
        )
    time = next((i for i, name in enumerate(names) if IS_TIME.match(name)), None)
    found: dict[Unit, tuple[int, int]] = {}
    for place, name in enumerate(names):
        kind = _unit_of(name)
        error = kind and _error_of(names, place, kind)
        if kind is not None and error is not None:
            found.setdefault(kind, (place, error))
    chosen = unit or next((kind for kind in UNITS if kind in found), None)
    if time is None or chosen is None or chosen not in found:
        wanted = f"'{unit}'" if unit else "magnitude or flux"
        raise ValueError(
            f"{table.path}: no columns for time, {wanted} and its error among {list(names)}; name "
            "them in order by data.source.columns (time, mag, flux, difference_flux, error, - to "
            "skip)"
        )
    return chosen, (time, *found[chosen]), names[time]


def _unit_of(name: str) -> Unit | None:
    """Say what a column's name makes of it."""
    low = name.lower()
    if IS_ERROR.search(low) or IS_TIME.match(low):
        return None
    if "mag" in low and "aligned" not in low:
        return "mag"
    if "flux" in low:
        return "difference_flux" if IS_DIFFERENCE.search(low) else "flux"
    return None


def _error_of(names: Sequence[str], value: int, kind: Unit) -> int | None:
    """Find the error of a column: of the same quantity, or else the only error there is."""
    errors = [place for place, name in enumerate(names) if IS_ERROR.search(name)]
    word = "mag" if kind == "mag" else "flux"
    own = [place for place in errors if word in names[place].lower()]
    after = [place for place in own or errors if place > value]
    return next(iter(after or own or errors), None)


def _numbers(table: TextTable, places: tuple[int, int, int], unit: Unit) -> tuple[Array, list[str]]:
    """Turn rows to numbers and say which are bad, with file and line.

    Returns:
        Time, value and error of the good rows, shape (n, 3), and the problems.
    """
    good, bad = [], []
    for line, words in zip(table.lines, table.rows, strict=True):
        values, reason = _parse_row(words, places, unit)
        if reason:
            bad.append(f"{table.path}:{line}: {reason}; left out")
        else:
            good.append(values)
    if not good:
        raise ValueError(f"{table.path}: no usable row of {len(bad)}; the first: {bad[0]}")
    more = len(bad) - MAX_LISTED
    listed = bad[:MAX_LISTED] + ([f"{table.path}: {more} more bad rows"] if more > 0 else [])
    return np.array(good, dtype=np.float64), listed


def _parse_row(
    words: list[str], places: tuple[int, int, int], unit: Unit
) -> tuple[list[float], str]:
    """Parse time, value and error; the reason is empty if the row is good."""
    if len(words) <= max(places):
        return [], f"{len(words)} columns, {max(places) + 1} needed"
    try:
        values = [float(words[place]) for place in places]
    except ValueError:
        return [], f"not numbers: {[words[place] for place in places]}"
    if not np.isfinite(values).all():
        return [], "a value is not finite"
    if values[2] <= 0:
        return [], f"error {values[2]:g} is not positive"
    if unit == "mag" and (abs(values[1]) >= SENTINEL or values[2] >= 10):
        return [], f"magnitude {values[1]:g} +- {values[2]:g} is no measurement"
    return values, ""


def _normalise_time(path: Path, time: Array, name: str, time_zero: float | None) -> Array:
    """Bring times to JD - 2450000."""
    middle = float(np.median(time))
    if time_zero is not None:
        return time + (time_zero - TIME_ZERO)
    if name.lower().startswith("mjd"):
        return time + (MJD_ZERO - TIME_ZERO)
    if TIME_ZERO - 30000 < middle < TIME_ZERO + LAST_DAY:
        return time - TIME_ZERO
    if 0 <= middle < LAST_DAY:
        return time
    raise ValueError(
        f"{path}: times about {middle:.6g} are neither JD or HJD nor JD - 2450000; set "
        "data.source.time_zero to the Julian date of the file's time 0"
    )
