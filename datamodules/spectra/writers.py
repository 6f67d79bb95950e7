"""Writes single stars as the survey does, aspcapStar and apStar, and shards in HDF5."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from datamodules.spectra.grid import LOG_START, LOG_STEP, NUM_PIXELS, Grid, grid_of
from datamodules.spectra.pixel_mask import LARGEST_ERROR, PixelMaskPolicy
from datamodules.spectra.survey_writer import parameter_vectors, write_survey

__all__ = ["raw_continuum", "write_ap_star", "write_aspcap_star", "write_shard", "write_survey"]

DEAD_ERROR = 1e10
"""Error of pixels without information in apStar files."""

NUM_LSF = 26
"""Coefficients of the line spread function in HDU 8 of apStar."""

BAD = PixelMaskPolicy()


def raw_continuum(grid: Grid, level: float = 1500.0) -> NDArray[np.float64]:
    """Give the counts of a star before normalisation: a steep curve with a step at each detector.

    Args:
        grid: The pixels.
        level: Flux at 1.6 microns in 1e-17 erg/s/cm^2/A.

    Returns:
        Shape (P,).
    """
    result = level * (grid.wavelength / 16000.0) ** -3
    for chip, (pixels, factor) in enumerate(zip(grid.chips, (0.97, 1.02, 1.0), strict=True)):
        x = np.linspace(-1.0, 1.0, pixels.stop - pixels.start)
        result[pixels] *= factor * (1.0 + 0.02 * (chip + 1) * x**2)
    return np.asarray(result)


def write_aspcap_star(path: Path, star: Mapping[str, Any]) -> None:
    """Write an aspcapStar file: normalised flux, errors, best fit, and a table of one row.

    It has no mask: pixels that are bad (by the default policy) and the gaps have flux and error 0.

    Args:
        path: File to write; replaced.
        star: One row of a store: `name`, `flux`, `flux_error`, `pixel_mask` (P,), labels, `snr`
            and flags; `true_flux` is the best fit if it is there.
    """
    flux, error = np.asarray(star["flux"]), np.asarray(star["flux_error"])
    grid = grid_of(len(flux))
    good = BAD.good(np.asarray(star["pixel_mask"]), flux, error)
    model = np.asarray(star.get("true_flux", np.where(good, flux, 1.0)))
    images = [np.where(good, flux, 0.0), np.where(good, error, 0.0), model]
    hdus = [fits.PrimaryHDU(header=_header(star, OBJ=str(star["name"])))]
    hdus += [_image(grid.embed(values.astype(np.float32))) for values in images]
    one = {name: np.asarray([value]) for name, value in star.items() if np.ndim(value) == 0}
    vectors = parameter_vectors(one, "dr16")
    names = {"APOGEE_ID": one["name"].astype("S18"), "SNR": one["snr"].astype(np.float32)}
    flags = {k.upper(): one[k].astype(np.int32) for k in ("starflag", "aspcapflag")}
    fields = {**names, **flags, **vectors, "PARAM": vectors["FPARAM"]}
    kinds = [(name, values.dtype, values.shape[1:]) for name, values in fields.items()]
    row = np.zeros(1, kinds)
    for name, values in fields.items():
        row[name] = values
    fits.HDUList([*hdus, fits.BinTableHDU(row)]).writeto(path, overwrite=True)


def write_ap_star(
    path: Path, visits: Mapping[str, Any], continuum: NDArray[np.float64] | None = None
) -> None:
    """Write an apStar file: flux before normalisation, errors and masks of the visits.

    One visit gives arrays (8575,). More give (2 + visits, 8575): the combination weighted pixel by
    pixel, the one weighted by the visits' S/N, and the visits. In the gaps the flux is 0, the
    error 1e10 and bit 0 of the mask is set.

    Args:
        path: File to write; replaced.
        visits: Rows of a store that are one star: `name`, `flux`, `flux_error`, `pixel_mask`
            (V, P), `snr`, `starflag` (V,).
        continuum: What the normalised flux is multiplied with, (P,); `raw_continuum` if None.
    """
    flux, error = np.asarray(visits["flux"], float), np.asarray(visits["flux_error"], float)
    mask = np.asarray(visits["pixel_mask"])
    grid = grid_of(flux.shape[1])
    dead = ~(np.isfinite(flux) & np.isfinite(error) & (error > 0) & (error < LARGEST_ERROR))
    flux, error, mask = np.where(dead, 0, flux), np.where(dead, DEAD_ERROR, error), mask | dead
    if len(flux) > 1:
        flux, error, mask = _with_combinations(flux, error, mask, np.asarray(visits["snr"]))
    scale = raw_continuum(grid) if continuum is None else continuum
    error = np.where(error < LARGEST_ERROR, error * scale, DEAD_ERROR)
    images = [
        grid.embed((flux * scale).astype(np.float32)),
        grid.embed(error.astype(np.float32), DEAD_ERROR),
        grid.embed(mask.astype(np.int16), 1),
    ]
    shape = images[0].shape
    images = [values[0] if len(shape) == 2 and shape[0] == 1 else values for values in images]
    first = {name: np.asarray(visits[name])[0] for name in ("name", "snr", "starflag")}
    first["snr"] = np.sqrt(np.square(np.asarray(visits["snr"], float)).sum())
    cards = {"OBJID": str(first["name"]), "NVISITS": len(visits["flux"])}
    hdus = [fits.PrimaryHDU(header=_header(first, **cards))]
    hdus += [_image(values) for values in images]
    hdus += [_image(np.zeros_like(images[0])) for _ in range(4)]
    velocities = np.zeros(1, [("VHELIO", np.float64, (len(visits["flux"]),))])
    lsf = fits.ImageHDU(np.zeros(NUM_LSF))
    fits.HDUList([*hdus, lsf, fits.BinTableHDU(velocities)]).writeto(path, overwrite=True)


def write_shard(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write spectra as a plain HDF5 file: one data set a column, and `wavelength`.

    Args:
        path: File to write; replaced.
        columns: As of a store of spectra, each (n, ...).
    """
    grid = grid_of(np.shape(columns["flux"])[1])
    with h5py.File(path, "w") as file:
        file["wavelength"] = grid.wavelength
        for name, values in columns.items():
            array = np.asarray(values)
            text = array.dtype.kind == "U"
            file[name] = array.astype(h5py.string_dtype("utf-8")) if text else array


def _with_combinations(
    flux: NDArray[Any], error: NDArray[Any], mask: NDArray[Any], snr: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Put the two combinations of visits before them, each array (2 + V, P)."""
    good = BAD.good(mask, flux, error)
    pixel = np.where(good, 1.0 / error**2, 0.0)
    whole = good * (snr.astype(float) ** 2)[:, None]
    fluxes, errors = [], []
    for weight in (pixel, whole):
        total = weight.sum(0)
        safe = np.where(total > 0, total, 1.0)
        fluxes.append(np.where(total > 0, (weight * flux).sum(0) / safe, 0.0))
        spread = np.sqrt((weight**2 * np.where(good, error, 0.0) ** 2).sum(0)) / safe
        errors.append(np.where(total > 0, spread, DEAD_ERROR))
    bits = np.bitwise_and.reduce(mask, axis=0)
    bits |= np.where(good.any(0), 0, np.bitwise_or.reduce(mask, axis=0))
    return (
        np.stack([*fluxes, *flux]),
        np.stack([*errors, *error]),
        np.stack([bits, bits, *mask]),
    )


def _image(values: NDArray[Any]) -> fits.ImageHDU:
    """Make an image on the 8575 pixels with their wavelengths in its header."""
    assert values.shape[-1] == NUM_PIXELS
    cards = {"CRVAL1": LOG_START, "CDELT1": LOG_STEP, "CRPIX1": 1, "CTYPE1": "LOG-LINEAR"}
    return fits.ImageHDU(values, fits.Header({**cards, "DC-FLAG": 1}))


def _header(star: Mapping[str, Any], **cards: Any) -> fits.Header:
    """Make the primary header with S/N and flags."""
    return fits.Header({**cards, "SNR": float(star["snr"]), "STARFLAG": int(star["starflag"])})
