"""Single stars: aspcapStar files (normalised) and apStar files (fluxes, one or more visits)."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from datamodules.readers.fits_images import opened
from datamodules.spectra.continuum import Continuum, renormalise
from datamodules.spectra.grid import LOG_START, LOG_STEP, NUM_PIXELS, Grid
from datamodules.spectra.pixel_mask import has_value, pixel_bits
from datamodules.spectra.readers.survey_table import translate
from datamodules.spectra.schema import LABELS

Row = dict[str, Any]

BAD_PIXEL = 1
"""Bit 0 of APOGEE_PIXMASK."""

_ID = re.compile(r"(?:2M|AP)\d{8}[+-]\d{7}")


def read_aspcap_star(
    path: Path, grid: Grid, continuum: Continuum | None = None
) -> tuple[Row, list[str]]:
    """Read an aspcapStar file: HDU 1 normalised flux, 2 error, 4 what ASPCAP found.

    The file has no mask: pixels without flux, or with an error of 1e5 and more, get bit 0. Labels
    are ASPCAP's own results (FPARAM), before any calibration.

    Args:
        path: The file.
        grid: The pixels wanted.
        continuum: How to normalise once more, if at all.

    Returns:
        One row of a store of spectra, and sentences on what was assumed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or something else.
    """
    with opened(path) as file:
        flux, error, model = (_spectrum(file, hdu, path, "aspcapStar") for hdu in (1, 2, 3))
        if model.dtype.kind != "f":
            raise ValueError(f"{path}: HDU 3 is a mask, not a best fit; read it by ApStarFiles")
        row, defaults = _results(file, path)
    flux, error = grid.take(flux), grid.take(error)
    mask = np.where(has_value(flux, error), 0, BAD_PIXEL).astype(np.int32)
    row |= {"flux": flux, "flux_error": error, "pixel_mask": mask}
    if continuum is not None:
        renormalise(row, continuum)
    return row, defaults


def read_ap_star(path: Path, continuum: Continuum) -> Row:
    """Read an apStar file (HDU 1 flux, 2 error, 3 mask) and divide by the continuum.

    A file of one visit has a spectrum, of more a table: the visits combined with weights by pixel
    (as in DR16 and DR17), which is read, then another combination and the visits. Bit 0 is set
    where flux or error are no numbers. The continuum is fitted to pixels that are good by the
    default policy of bad pixels.

    Args:
        path: The file.
        continuum: How to normalise, and on which grid.

    Returns:
        One row of a store of spectra, labels unknown.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or something else.
    """
    with opened(path) as file:
        whole = [_spectrum(file, hdu, path, "apStar") for hdu in (1, 2, 3)]
        row = _unknown(file, path)
    flux, error, mask = (continuum.grid.take(values) for values in whole)
    if mask.dtype.kind == "f":
        raise ValueError(f"{path}: HDU 3 holds reals, not a mask; is it an aspcapStar file?")
    mask = pixel_bits(mask, f"{path}: HDU 3")
    mask[~np.isfinite(flux) | ~np.isfinite(error)] |= BAD_PIXEL
    row |= {"flux": flux, "flux_error": error, "pixel_mask": mask}
    renormalise(row, continuum)
    return row


def _spectrum(file: fits.HDUList, number: int, path: Path, kind: str) -> NDArray[Any]:
    """Return the (first) spectrum of an HDU, (8575,), in the machine's byte order.

    Raises:
        ValueError: The HDU has none, or it is on another grid.
    """
    data = file[number].data if len(file) > number else None
    if data is None or data.ndim not in (1, 2) or data.shape[-1] != NUM_PIXELS:
        found = "nothing" if data is None else f"the shape {data.shape}"
        raise ValueError(
            f"{path}: HDU {number} has {found}, not {NUM_PIXELS} pixels; is it an {kind} file?"
        )
    header = file[number].header
    start, step = header.get("CRVAL1", LOG_START), header.get("CDELT1", LOG_STEP)
    if abs(start - LOG_START) > 1e-8 or abs(step - LOG_STEP) > 1e-12:
        raise ValueError(
            f"{path}: HDU {number} starts at log10(A) = {start} with step {step}, not at "
            f"{LOG_START} with {LOG_STEP}; is it an {kind} file?"
        )
    spectrum = data[0] if data.ndim == 2 else data
    return np.asarray(spectrum, spectrum.dtype.newbyteorder("="))


def _results(file: fits.HDUList, path: Path) -> tuple[Row, list[str]]:
    """Read what ASPCAP found, in HDU 4.

    Raises:
        ValueError: There is no such table.
    """
    table = file[4] if len(file) > 4 else None
    if not isinstance(table, fits.BinTableHDU) or len(table.data) != 1:
        raise ValueError(
            f"{path}: HDU 4 is no table of one row, ASPCAP's results; is it a whole aspcapStar "
            "file?"
        )
    row = _unknown(file, path)
    raw = {name.upper(): np.asarray(table.data[name]) for name in table.data.names}
    raw.setdefault("APOGEE_ID", np.array([row["name"]]))
    found, defaults = translate(raw, "aspcapStar files")
    return {name: found[name][0] if name in found else old for name, old in row.items()}, defaults


def _unknown(file: fits.HDUList, path: Path) -> Row:
    """Return what the header says of a star, all else unknown."""
    header = file[0].header
    match = _ID.search(path.name)
    fallback = match.group() if match else path.name.partition(".fits")[0]
    name = str(header.get("OBJID") or header.get("OBJ") or fallback).strip()
    snr = header.get("SNR", np.nan)
    unknown = {key: np.float32(np.nan) for x in (*LABELS, "alpha_m") for key in (x, f"{x}_error")}
    flags = {"starflag": np.int64(header.get("STARFLAG", 0)), "aspcapflag": np.int64(0)}
    return {"name": name, "snr": np.float32(snr if snr > -1 else np.nan), **flags, **unknown}
