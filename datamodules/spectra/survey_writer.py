"""Writes a survey's five files in the layout of DR16 or DR17, whole or with holes on the disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from datamodules.spectra.columns import ELEMENTS, MISSING
from datamodules.spectra.selection import ASPCAPFLAG_BITS, STARFLAG_BITS

Columns = Mapping[str, NDArray[Any]]
Release = Literal["dr16", "dr17"]

FITS_BLOCK = 2880
REAL_NUM_ROWS = 473307
"""Rows of DR16's allStar file."""

IMAGES = {
    "final": ("flux", ">f4", -32),
    "err": ("flux_error", ">f4", -32),
    "mask": ("pixel_mask", ">i4", 32),
}
"""Part of the file's name: our column, type on disk, BITPIX."""

CATALOGUES = {
    ("dr16", False): "allStar-r12-l33.fits",
    ("dr16", True): "allStarLite-r12-l33.fits",
    ("dr17", False): "allStar-dr17-synspec_rev1.fits",
    ("dr17", True): "allStarLite-dr17-synspec_rev1.fits",
}
NUM_PARAMETERS = {"dr16": 9, "dr17": 20}
"""Length of FPARAM."""

CALIBRATION = {"TEFF": 30.0, "LOGG": -0.1}
"""What the survey adds to the spectroscopic values (as an example) to get calibrated ones."""


def write_survey(
    folder: Path,
    columns: Columns,
    release: Release = "dr16",
    lite: bool = False,
    rows: Sequence[int] | None = None,
    num_rows: int | None = None,
) -> dict[str, Path]:
    """Write contspec_*_{final,err,mask}.fits, allStar and astroNN's catalogue, row by row alike.

    With `rows` and `num_rows` the files have the real shape but are holes on the disk except for
    the rows given: all others are zero, S/N included, and pass no cut.

    Args:
        folder: Where to write; made if it is not there.
        columns: As of a store of spectra, each (n, ...).
        release: Layout of the table: vectors of 9 (DR16) or 20 (DR17) parameters, 32- or 64-bit
            flags.
        lite: Whether the table has no vectors, and its list of symbols is in HDU 2 instead of 3.
        rows: Places of the rows in the files, (n,); the first n if None.
        num_rows: Rows of the files; n if None.

    Returns:
        Paths by role: `flux`, `error`, `mask`, `catalogue`, `astronn`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = np.arange(len(columns["name"])) if rows is None else np.asarray(rows)
    size = len(places) if num_rows is None else num_rows
    paths = {}
    for part, role in zip(IMAGES, ("flux", "error", "mask"), strict=True):
        paths[role] = folder / f"contspec_{release}_{part}.fits"
        _write_image(paths[role], part, columns, places, size)
    paths["catalogue"] = folder / CATALOGUES[release, lite]
    table = _all_star(columns, release, lite)
    _write_table(paths["catalogue"], table, places, size, _tail(release, lite))
    paths["astronn"] = folder / f"apogee_astroNN-{release.upper()}-v1.fits"
    _write_table(paths["astronn"], _astronn(columns), places, size, [])
    return paths


def text_of_flags(bits: NDArray[Any], names: Mapping[str, int]) -> NDArray[np.str_]:
    """Write flags as the survey does: names between commas."""
    texts = [",".join(n for n, bit in names.items() if (int(v) >> bit) & 1) for v in bits]
    return np.array(texts)


def _write_image(path: Path, part: str, columns: Columns, places: Any, num_rows: int) -> None:
    """Write an image of `num_rows` rows, and in the file of fluxes which rows exist."""
    name, kind, bitpix = IMAGES[part]
    values = np.asarray(columns[name])
    cards = {"BITPIX": bitpix, "NAXIS": 2, "NAXIS1": values.shape[1], "NAXIS2": num_rows}
    header = fits.Header([("SIMPLE", True), *cards.items(), ("EXTEND", True)])
    with path.open("wb") as file:
        _write_rows(file, header, values.astype(kind), places, num_rows)
    if part == "final":
        exists = np.zeros(num_rows, np.uint8)
        exists[places] = np.abs(np.nan_to_num(values)).max(1) > 0
        fits.append(path, exists)


def _write_table(
    path: Path, table: NDArray[Any], places: Any, num_rows: int, tail: list[NDArray[Any]]
) -> None:
    """Write a table of `num_rows` rows after an empty primary HDU, then further HDUs."""
    header = fits.BinTableHDU(table).header.copy()
    header["NAXIS2"] = num_rows
    with path.open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        _write_rows(file, header, table, places, num_rows)
    for data in tail:
        fits.append(path, data)


def _write_rows(
    file: BinaryIO, header: fits.Header, values: NDArray[Any], places: Any, num_rows: int
) -> None:
    """Write a header and rows at their places; what lies between takes no room on the disk."""
    file.write(header.tostring().encode("ascii"))
    start = file.tell()
    row_bytes = values.nbytes // max(len(values), 1)
    end = start + num_rows * row_bytes
    file.truncate(end + -(end - start) % FITS_BLOCK)
    for place, row in zip(places, values, strict=True):
        file.seek(start + int(place) * row_bytes)
        file.write(row.tobytes())


def _records(fields: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Put arrays of one length together as FITS's big-endian records."""
    arrays = {name: np.asarray(values) for name, values in fields.items()}
    arrays = {
        k: np.char.encode(v, "ascii") if v.dtype.kind == "U" else v for k, v in arrays.items()
    }
    kinds = [(name, v.dtype.newbyteorder(">"), v.shape[1:]) for name, v in arrays.items()]
    records = np.zeros(len(next(iter(arrays.values()))), kinds)
    for name, values in arrays.items():
        records[name] = values
    return records


def _all_star(columns: Columns, release: Release, lite: bool) -> NDArray[Any]:
    """Make the survey's table of stars."""
    size = len(columns["name"])
    names = np.asarray(columns["name"]).astype(str)
    telescope, version = ("apo25m", "r12") if release == "dr16" else ("apo25m", "dr17")
    ids = np.char.add(f"apogee.{telescope}.{version}.stars.field.", names)
    flag = np.int32 if release == "dr16" else np.int64
    fields: dict[str, NDArray[Any]] = {
        "APSTAR_ID": ids.astype("U60"),
        "APOGEE_ID": names.astype("U18"),
        "SNR": np.asarray(columns["snr"], np.float32),
        "STARFLAG": np.asarray(columns["starflag"]).astype(flag),
        "ASPCAPFLAG": np.asarray(columns["aspcapflag"]).astype(flag),
        "STARFLAGS": text_of_flags(columns["starflag"], STARFLAG_BITS).astype("U132"),
        "ASPCAPFLAGS": text_of_flags(columns["aspcapflag"], ASPCAPFLAG_BITS).astype("U114"),
        "EXTRATARG": np.zeros(size, np.int32),
    }
    for ours, theirs in (("teff", "TEFF"), ("logg", "LOGG")):
        fields[f"{theirs}_SPEC"] = _filled(columns, ours)
        fields[theirs] = _filled(columns, ours, CALIBRATION[theirs])
        fields[f"{theirs}_ERR"] = _filled(columns, f"{ours}_error")
    for ours in ("fe_h", "alpha_m", *(f"{x}_fe" for x in ELEMENTS)):
        fields[ours.upper()] = _filled(columns, ours)
        fields[f"{ours.upper()}_ERR"] = _filled(columns, f"{ours}_error")
    return _records(fields if lite else {**fields, **parameter_vectors(columns, release)})


def parameter_vectors(columns: Columns, release: Release) -> dict[str, NDArray[Any]]:
    """Make FPARAM and FPARAM_COV: Teff, logg, log vmicro, [M/H], [C/M], [N/M], [alpha/M], ..."""
    size, count = len(columns["name"]), NUM_PARAMETERS[release]
    values = np.zeros((size, count), np.float32)
    covariance = np.zeros((size, count, count), np.float32)
    for place, name in {0: "teff", 1: "logg", 3: "fe_h", 6: "alpha_m"}.items():
        values[:, place] = _filled(columns, name)
        error = _filled(columns, f"{name}_error")
        covariance[:, place, place] = np.where(error > 0, error**2, MISSING)
    return {"FPARAM": values, "FPARAM_COV": covariance}


def _astronn(columns: Columns) -> NDArray[Any]:
    """Make astroNN's catalogue: its own labels of the same rows."""
    fields: dict[str, NDArray[Any]] = {"APOGEE_ID": np.asarray(columns["name"]).astype("U18")}
    for name in ("teff", "logg", "fe_h", "mg_fe"):
        fields[name.upper().replace("MG_FE", "MG_H")] = _filled(columns, name)
        fields[f"{name.upper().replace('MG_FE', 'MG_H')}_ERR"] = _filled(columns, f"{name}_error")
    return _records({**fields, "age": np.full(len(columns["name"]), 5.0, np.float32)})


def _filled(columns: Columns, name: str, offset: float = 0.0) -> NDArray[np.float32]:
    """Give a column with -9999 where it is missing."""
    values = columns.get(name)
    if values is None:
        return np.full(len(columns["name"]), MISSING, np.float32)
    return np.nan_to_num(np.asarray(values, np.float32) + np.float32(offset), nan=MISSING)


def _tail(release: Release, lite: bool) -> list[NDArray[Any]]:
    """Give what follows the table: in the full file an image, then the names of the vectors."""
    symbols = ["TEFF", "LOGG", "LOG10VDOP", "METALS", "C", "N", "O Mg Si S Ca Ti", "LGVSINI", "O"]
    symbols += [""] * (NUM_PARAMETERS[release] - len(symbols))
    names = np.array([[f"{x.capitalize()}/Fe" for x in ELEMENTS]])
    table = _records({"PARAM_SYMBOL": np.array([symbols]), "ELEM_SYMBOL": names})
    return [table] if lite else [np.zeros(1, np.float32), table]
