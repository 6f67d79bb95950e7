"""The survey's table of stars: allStar and allStarLite of DR13 to DR17, as our columns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.spectra.readers.fits_images import TableRows
from datamodules.spectra.schema import ELEMENTS, LABELS, MISSING
from datamodules.spectra.selection import ASPCAPFLAG_BITS, STARFLAG_BITS, as_bits

Columns = dict[str, NDArray[Any]]

# Our column: the survey's, the first that is there. *_SPEC are as measured, before calibration.
_LABELS = {
    "teff": ("TEFF_SPEC", "TEFF"),
    "logg": ("LOGG_SPEC", "LOGG"),
    "fe_h": ("FE_H", "FE_H_SPEC", "M_H"),
    "alpha_m": ("ALPHA_M", "PARAM_ALPHA_M", "ALPHA_M_SPEC"),
    **{f"{x}_fe": (f"{x.upper()}_FE",) for x in ELEMENTS},
}
_ERRORS = {
    "teff": ("TEFF_ERR",),
    "logg": ("LOGG_ERR",),
    "fe_h": ("FE_H_ERR", "M_H_ERR"),
    "alpha_m": ("ALPHA_M_ERR", "PARAM_ALPHA_M_ERR"),
    **{f"{x}_fe": (f"{x.upper()}_FE_ERR",) for x in ELEMENTS},
}
_FLAGS = {
    "starflag": ("STARFLAG", "STARFLAGS", STARFLAG_BITS),
    "aspcapflag": ("ASPCAPFLAG", "ASPCAPFLAGS", ASPCAPFLAG_BITS),
}
_PARAMETERS = {"teff": 0, "logg": 1, "fe_h": 3, "alpha_m": 6}
"""Places in FPARAM, where fe_h is the overall [M/H]."""

_SPARED = {"APOGEE_ID": "APSTAR_ID", "STARFLAG": "STARFLAGS", "ASPCAPFLAG": "ASPCAPFLAGS"}
"""Column to the long text that need not be read where it is there."""

_OLD_NAMES = {"METALS": "M_H", "ALPHAFE": "ALPHA_M", "CFE": "C_M", "NFE": "N_M"}
"""Flags that releases before DR13 named otherwise."""


def survey_columns(path: Path) -> tuple[Columns, list[str]]:
    """Read names, labels, errors, S/N and flags of all rows of an allStar file.

    Returns:
        Our columns, each (N,), see `SpectraSource`; and sentences on what was assumed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or has no ids.
    """
    table = TableRows(path)
    known = {name.upper(): name for name in table.names}
    spared = {text for number, text in _SPARED.items() if number in known}
    if all(_LABELS[name][0] in known for name in LABELS):
        spared |= {"FPARAM", "FPARAM_COV"}  # the covariances of DR17 are 1.2 GB
    wanted = [known[name] for name in known if name in _useful() - spared]
    raw = {name.upper(): values for name, values in table.read(wanted).items()}
    return translate(raw, str(path))


def translate(raw: Mapping[str, NDArray[Any]], origin: str) -> tuple[Columns, list[str]]:
    """Turn the survey's columns into ours.

    Args:
        raw: Upper-case name to values, (N, ...).
        origin: Where they come from, for messages.

    Raises:
        ValueError: There are no ids.
    """
    defaults: list[str] = []
    columns: Columns = {"name": _names(raw, origin, defaults)}
    size = len(columns["name"])
    for name, sources in _LABELS.items():
        first, *others = sources
        found = next((source for source in others if source in raw), None)
        if first in raw:
            columns[name] = measured(raw[first], f"{origin}: {first}")
        elif name in _PARAMETERS and "FPARAM" in raw:
            columns[name] = measured(raw["FPARAM"][:, _PARAMETERS[name]], f"{origin}: FPARAM")
            what = " ([M/H])" if name == "fe_h" else ""
            defaults.append(f"{origin}: {name} is FPARAM[{_PARAMETERS[name]}]{what}")
        elif found is not None:
            columns[name] = measured(raw[found], f"{origin}: {found}")
            defaults.append(f"{origin}: {name} is {found}, for there is no {first}")
        elif name in LABELS:
            columns[name] = np.full(size, np.nan, np.float32)
            defaults.append(f"{origin}: {name} is unknown, for there is no column {first}")
        if name in columns:
            columns[f"{name}_error"] = _error(raw, name, size, origin)
    unknown = np.full(size, np.nan, np.float32)
    columns["snr"] = measured(raw["SNR"], f"{origin}: SNR") if "SNR" in raw else unknown
    for name in _FLAGS:
        columns[name] = _flag(raw, name, size, origin, defaults)
    return columns, defaults


def measured(values: NDArray[Any], what: str) -> NDArray[np.float32]:
    """Return values as float32 with NaN for the survey's -9999 and what is not finite.

    Args:
        values: One number a row, (N,).
        what: What they are, for messages.

    Raises:
        ValueError: They are something else.
    """
    if values.dtype.kind not in "biuf" or values.size != len(values):
        raise ValueError(
            f"{what}: not one number a row, but {values.dtype} of the shape {values.shape}"
        )
    result = np.asarray(values, np.float32).reshape(len(values)).copy()
    result[~np.isfinite(result) | (result < MISSING / 2)] = np.nan
    return result


def flags_of_text(
    texts: NDArray[np.str_], names: Mapping[str, int]
) -> tuple[NDArray[np.int64], set[str]]:
    """Turn the names of flags, between commas, into bits.

    Args:
        texts: Such as `STAR_WARN,COLORTE_WARN`, (N,).
        names: Name to bit.

    Returns:
        Bits, (N,), and the names that are unknown.
    """
    unique, inverse = np.unique(texts, return_inverse=True)
    bits, unknown = np.zeros(len(unique), np.int64), set()
    for place, text in enumerate(unique):
        for word in filter(None, (part.strip() for part in str(text).split(","))):
            stem, _, end = word.rpartition("_")
            current = f"{_OLD_NAMES.get(stem, stem)}_{end}"
            if current in names:
                bits[place] |= 1 << names[current]
            else:
                unknown.add(word)
    return bits[inverse], unknown


def _useful() -> set[str]:
    """List the survey's columns that are read."""
    single = {"APOGEE_ID", "APSTAR_ID", "SNR", "FPARAM", "FPARAM_COV"}
    flags = {name for pair in _FLAGS.values() for name in pair[:2]}
    return single | flags | {n for t in (_LABELS, _ERRORS) for names in t.values() for n in names}


def _names(raw: Mapping[str, NDArray[Any]], origin: str, defaults: list[str]) -> NDArray[np.str_]:
    """Return the id of each row's star: the last part of APSTAR_ID where there is no APOGEE_ID."""
    found = next((name for name in ("APOGEE_ID", "APSTAR_ID") if name in raw), None)
    if found is None:
        raise ValueError(f"{origin}: no column APOGEE_ID or APSTAR_ID; is it an allStar file?")
    names = np.char.strip(np.asarray(raw[found]).astype(str).reshape(-1))
    if found == "APSTAR_ID":
        names = np.char.rpartition(names, ".")[:, 2]
    blank = np.flatnonzero(names == "")
    if len(blank):
        defaults.append(f"{origin}: {len(blank)} rows without {found} are stars of their own")
        names = names.astype(f"U{max(names.dtype.itemsize // 4, 16)}")
        names[blank] = [f"row {row}" for row in blank]
    return np.asarray(names)


def _error(
    raw: Mapping[str, NDArray[Any]], name: str, size: int, origin: str
) -> NDArray[np.float32]:
    """Return the error of a label, NaN where unknown."""
    found = next((source for source in _ERRORS[name] if source in raw), None)
    if found is not None:
        return measured(raw[found], f"{origin}: {found}")
    if name in _PARAMETERS and {"FPARAM", "FPARAM_COV"} <= set(raw):
        place = _PARAMETERS[name]
        covariance = np.asarray(raw["FPARAM_COV"])
        count = np.shape(raw["FPARAM"])[1]
        of_one = covariance.reshape(size, count, count)[:, place, place]
        variance = measured(of_one, f"{origin}: FPARAM_COV")
        return np.sqrt(np.where(variance > 0, variance, np.nan)).astype(np.float32)
    return np.full(size, np.nan, np.float32)


def _flag(
    raw: Mapping[str, NDArray[Any]], name: str, size: int, origin: str, defaults: list[str]
) -> NDArray[np.int64]:
    """Return the bits of a flag from numbers or names; 0 where there are neither."""
    number, text, names = _FLAGS[name]
    if number in raw:
        return as_bits(raw[number], f"{origin}: {number}").reshape(size)
    if text not in raw:
        defaults.append(f"{origin}: {name} is taken as 0, for there is no column {number}")
        return np.zeros(size, np.int64)
    bits, unknown = flags_of_text(np.asarray(raw[text]).astype(str).reshape(size), names)
    if unknown:
        defaults.append(f"{origin}: names in {text} that are no known bits: {sorted(unknown)}")
    return bits
