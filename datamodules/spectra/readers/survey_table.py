"""The survey's table of stars: allStar and allStarLite of DR13 to DR17, as our columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.readers.fits_images import TableRows
from datamodules.spectra.flag_bits import ASPCAPFLAG_BITS, STARFLAG_BITS, as_bits, flags_of_text
from datamodules.spectra.schema import ELEMENTS, LABELS, MISSING
from datamodules.spectra.source import Columns

_PARAMETERS = {"FPARAM[0]": 0, "FPARAM[1]": 1, "FPARAM[3] ([M/H])": 3, "FPARAM[6]": 6}
"""Places in FPARAM and on the diagonal of FPARAM_COV, which are read as columns of their own."""

# Our column: the survey's, the first that is there. *_SPEC are as measured, before calibration.
_VALUES = {
    "teff": ("TEFF_SPEC", "FPARAM[0]", "TEFF"),
    "logg": ("LOGG_SPEC", "FPARAM[1]", "LOGG"),
    "fe_h": ("FE_H", "FPARAM[3] ([M/H])", "FE_H_SPEC", "M_H"),
    "alpha_m": ("ALPHA_M", "FPARAM[6]", "PARAM_ALPHA_M", "ALPHA_M_SPEC"),
    **{f"{x}_fe": (f"{x.upper()}_FE",) for x in ELEMENTS},
}
_ERRORS = {
    "teff": ("TEFF_ERR", "error of FPARAM[0]"),
    "logg": ("LOGG_ERR", "error of FPARAM[1]"),
    "fe_h": ("FE_H_ERR", "M_H_ERR", "error of FPARAM[3] ([M/H])"),
    "alpha_m": ("ALPHA_M_ERR", "PARAM_ALPHA_M_ERR", "error of FPARAM[6]"),
    **{f"{x}_fe": (f"{x.upper()}_FE_ERR",) for x in ELEMENTS},
}
_NAMES = ("APOGEE_ID", "APSTAR_ID")
_FLAGS = {
    "starflag": ("STARFLAG", "STARFLAGS", STARFLAG_BITS),
    "aspcapflag": ("ASPCAPFLAG", "ASPCAPFLAGS", ASPCAPFLAG_BITS),
}
_SPARED = {"APOGEE_ID": "APSTAR_ID", "STARFLAG": "STARFLAGS", "ASPCAPFLAG": "ASPCAPFLAGS"}
"""Column to the long text that need not be read where it is there."""


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
    useful = {"SNR", "FPARAM", "FPARAM_COV", *_NAMES, *_SPARED, *_SPARED.values()}
    useful |= {name for names in (*_VALUES.values(), *_ERRORS.values()) for name in names}
    useful -= {text for number, text in _SPARED.items() if number in known}
    if all(_VALUES[name][0] in known for name in LABELS):
        useful -= {"FPARAM", "FPARAM_COV"}  # the covariances of DR17 are 1.2 GB
    raw = table.read([known[name] for name in known if name in useful])
    return translate({name.upper(): values for name, values in raw.items()}, str(path))


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
    raw = {**raw, **_parameters(raw, origin)}

    def read(names: Sequence[str]) -> tuple[NDArray[np.float32], str | None]:
        """Return the first of some columns that is there, else NaN, and which it is."""
        found = next((name for name in names if name in raw), None)
        if found is None:
            return np.full(size, np.nan, np.float32), None
        return measured(raw[found], f"{origin}: {found}"), found

    for name, sources in _VALUES.items():
        values, found = read(sources)
        if found is not None or name in LABELS:
            columns[name], (columns[f"{name}_error"], _) = values, read(_ERRORS[name])
            if found != sources[0]:
                sentence = f"{name} is {found or 'unknown'}, for there is no {sources[0]}"
                defaults.append(f"{origin}: {sentence}")
    columns["snr"], _ = read(["SNR"])
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


def _parameters(raw: Mapping[str, NDArray[Any]], origin: str) -> Columns:
    """Return the parameters in FPARAM, and their errors from FPARAM_COV, each (N,)."""
    if "FPARAM" not in raw:
        return {}
    values = raw["FPARAM"]
    columns = {name: values[:, place] for name, place in _PARAMETERS.items()}
    if "FPARAM_COV" in raw:
        covariance = raw["FPARAM_COV"].reshape(*values.shape, values.shape[1])
        for name, place in _PARAMETERS.items():
            variance = measured(covariance[:, place, place], f"{origin}: FPARAM_COV")
            columns[f"error of {name}"] = np.sqrt(np.where(variance > 0, variance, np.nan))
    return columns


def _names(raw: Mapping[str, NDArray[Any]], origin: str, defaults: list[str]) -> NDArray[np.str_]:
    """Return the id of each row's star: the last part of APSTAR_ID where there is no APOGEE_ID."""
    found = next((name for name in _NAMES if name in raw), None)
    if found is None:
        raise ValueError(f"{origin}: no column {' or '.join(_NAMES)}; is it an allStar file?")
    names = np.char.strip(np.asarray(raw[found]).astype(str).reshape(-1))
    if found == "APSTAR_ID":
        names = np.char.rpartition(names, ".")[:, 2]
    blank = np.flatnonzero(names == "")
    if len(blank):
        defaults.append(f"{origin}: {len(blank)} rows without {found} are stars of their own")
        names = names.astype(f"U{max(names.dtype.itemsize // 4, 16)}")
        names[blank] = [f"row {row}" for row in blank]
    return np.asarray(names)


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
