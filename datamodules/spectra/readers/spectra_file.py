"""Spectra in one file of arrays: HDF5 or npz."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.files import fingerprint
from datamodules.readers.array_files import SUFFIXES, Arrays, opened_arrays
from datamodules.spectra.continuum import Continuum, check_normalised, renormalise
from datamodules.spectra.flag_bits import as_bits
from datamodules.spectra.grid import GRIDS, NUM_PIXELS, WHOLE, Grid, grid_of
from datamodules.spectra.pixel_mask import has_value, pixel_bits
from datamodules.spectra.readers.survey_table import measured
from datamodules.spectra.schema import LABELS, SCHEMA, SPECTRAL, VERSION
from datamodules.spectra.source import Columns, SpectraSource

BLOCK = 256
"""Spectra converted at a time."""

WAVELENGTH_TOLERANCE = 0.01
"""In A. Wavelengths in air are off by 4 A."""

NANOMETRE = 10.0
_FLAGS = ("starflag", "aspcapflag")
_NUMBERS = ("snr", *LABELS, *(f"{name}_error" for name in LABELS))
_WIDE = (*SPECTRAL, "flux_ivar")
_REALS = ("flux", "flux_error", "true_flux")


@dataclass
class SpectraFile(SpectraSource):
    """Spectra in one file: HDF5 with a data set a column, npz with an array a column, or a store.

    Needed are `flux` (N, P) over the continuum and `flux_error` or `flux_ivar`; P is 7514, 7214,
    or 8575 with the gaps. Known besides are `name`, `pixel_mask` (bits of APOGEE_PIXMASK; without
    it bit 0 is set where there is no value), `wavelength` (P,) in A or nm in vacuum, which is
    checked, labels, errors, flags and true values, see `SpectraSource`; further columns of one
    number a row are kept. A file of one spectrum may have arrays (P,).

    Args:
        path: The file, `.h5`, `.hdf5` or `.npz`.
        columns: Our column to its name in the file, where it has another, for example
            `{flux: normalized_flux}`.
        values: Columns with one value for all rows, for example `{name: HD 1, teff: 4859.0}`.
        grid: Number of pixels wanted, if it is less than the file's: 7214.
        renormalise: Whether to divide by `Continuum`, for fluxes that are not normalised, or
            otherwise than those of a model.
    """

    path: str
    columns: dict[str, str] | None = None
    values: dict[str, float | str] | None = None
    grid: int | None = None
    renormalise: bool = False

    def __post_init__(self) -> None:
        """Refuse other files, grids and values."""
        self.columns, self.values = dict(self.columns or {}), dict(self.values or {})
        self._path = Path(self.path).expanduser()
        self._grid = None if self.grid is None else grid_of(self.grid, "data.source.grid")
        if self._path.suffix not in SUFFIXES:
            raise ValueError(f"{self.path}: data.source.path must end in .h5, .hdf5 or .npz")
        for name, value in self.values.items():
            if name in _WIDE or (name != "name" and isinstance(value, str)):
                raise ValueError(
                    f"data.source.values.{name}={value!r}: name columns of one number a row here"
                )

    def parameters(self) -> dict[str, Any]:
        """Return the settings and the identity (path, size, time) of the file."""
        settings = {name: value for name, value in asdict(self).items() if name != "path"}
        return {"file": fingerprint(self._path), **settings}

    def prepare(self, path: Path, seed: int) -> None:
        """Write the spectra to a row store; `seed` has no effect.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged, or lacks a column.
        """
        with opened_arrays(self._path, SCHEMA, VERSION, ["wavelength"]) as table:
            known = self._matched(table)
            size, own = self._shape(known)
            grid = self._grid or (GRIDS[7514] if own is WHOLE else own)
            self.continuum = Continuum(grid) if self.renormalise else None
            self._check_shapes(known, size)
            defaults: list[str] = []
            self._check_wavelength(known, own, defaults)
            narrow = self._narrow(known, size, defaults)
            blocks = self._blocks(known, narrow, own.positions_of(grid), defaults)
            self.write(path, grid, blocks, {"rows": size, "selected": size}, defaults)

    def _matched(self, table: Arrays) -> dict[str, Any]:
        """Find our columns among the file's arrays.

        Raises:
            ValueError: A name is not in the file, or there is no flux or error.
        """
        given, values = self.columns or {}, self.values or {}
        absent = sorted(set(given.values()) - set(table))
        if absent:
            raise ValueError(f"{self.path}: no arrays {absent}; it has {sorted(table)}")
        found = {name: array for name, array in table.items() if name not in given.values()}
        found |= {ours: table[theirs] for ours, theirs in given.items()}
        if "flux" not in found or not {"flux_error", "flux_ivar"} & set(found):
            raise ValueError(
                f"{self.path}: needs flux and flux_error (or flux_ivar); name them in "
                f"data.source.columns, such as {{flux: ...}}; it has {sorted(table)}"
            )
        return {ours: array for ours, array in found.items() if ours not in values}

    def _shape(self, known: Arrays) -> tuple[int, Grid]:
        """Find the number of rows and the pixels of the file."""
        shape = known["flux"].shape
        if len(shape) not in (1, 2) or 0 in shape:
            raise ValueError(f"{self.path}: flux has the shape {shape}, not (N, P)")
        grids = {NUM_PIXELS: WHOLE, **GRIDS}
        if shape[-1] not in grids:
            raise ValueError(f"{self.path}: flux has {shape[-1]} pixels, not one of {[*grids]}")
        return (1 if len(shape) == 1 else shape[0]), grids[shape[-1]]

    def _check_shapes(self, known: Arrays, size: int) -> None:
        """Refuse known columns of other rows, pixels or types."""
        shape = known["flux"].shape
        for name in (*_WIDE, "name", *_NUMBERS, *_FLAGS, *(self.columns or {})):
            if name not in known or name == "wavelength":
                continue
            array, wanted = known[name], [shape] if name in _WIDE else [(size,), ()]
            if array.shape not in wanted:
                raise ValueError(
                    f"{self.path}: {name} has the shape {array.shape}, not {wanted[0]}; flux has "
                    f"the shape {shape}"
                )
            if name != "name" and array.dtype.kind not in "iufb":
                raise ValueError(f"{self.path}: {name} holds {array.dtype}, not numbers")

    def _check_wavelength(self, known: Arrays, own: Grid, defaults: list[str]) -> None:
        """Refuse spectra on other wavelengths."""
        if "wavelength" not in known:
            defaults.append(f"{self.path}: without wavelength, pixels are taken as APOGEE's")
            return
        found, expected = np.asarray(known["wavelength"][...]), own.wavelength
        if found.shape == expected.shape and found.dtype.kind == "f":
            scale = NANOMETRE if np.median(found) < 5000 else 1.0
            if np.max(np.abs(found * scale - expected)) < WAVELENGTH_TOLERANCE:
                return
        raise ValueError(
            f"{self.path}: wavelength is not APOGEE's grid in vacuum, {expected[0]:.3f} to "
            f"{expected[-1]:.3f} A (a different grid, or wavelengths in air?)"
        )

    def _narrow(self, known: Arrays, size: int, defaults: list[str]) -> Columns:
        """Read the columns of one value a row, with those that are the same for all."""
        columns: Columns = {}
        for name, array in known.items():
            if name != "name" and array.shape in ((size,), ()) and array.dtype.kind in "iufb":
                values = np.broadcast_to(np.asarray(array[...]), size)
                convert = as_bits if name in _FLAGS else measured
                columns[name] = convert(values, f"{self.path}: {name}")
        kinds = {"name": str, **dict.fromkeys(_FLAGS, np.int64)}
        for name, value in (self.values or {}).items():
            columns[name] = np.full(size, np.array(value, kinds.get(name, np.float32)))
        if "name" not in columns:
            columns["name"] = self._names(known, size, defaults)
        for name in {*_NUMBERS, *_FLAGS} - set(columns):
            absent, kind = (0, np.int64) if name in _FLAGS else (np.nan, np.float32)
            columns[name] = np.full(size, absent, kind)
            defaults.append(f"{self.path}: {name} is {'unknown' if absent else 'taken as 0'}")
        return columns

    def _names(self, known: Arrays, size: int, defaults: list[str]) -> NDArray[np.str_]:
        """Read the stars' ids, or number the rows."""
        if "name" not in known:
            defaults.append(f"{self.path}: every row is taken as a star of its own")
            return np.array([f"{self._path.stem}:{row}" for row in range(size)])
        names = np.asarray(known["name"][...]).reshape(-1)
        texts = (n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names)
        return np.array([text.strip() for text in texts])

    def _blocks(
        self, known: Arrays, narrow: Columns, pixels: NDArray[np.int64], defaults: list[str]
    ) -> Iterator[Columns]:
        """Yield the rows of a store, block by block."""
        if "pixel_mask" not in known:
            defaults.append(f"{self.path}: without pixel_mask, pixels with a value are good")
        size = len(narrow["name"])
        for first in range(0, size, BLOCK):
            rows = slice(first, first + BLOCK)
            block = {name: values[rows] for name, values in narrow.items()}
            block |= self._wide(known, rows, pixels)
            if self.continuum is not None:
                renormalise(block, self.continuum)
            check_normalised(block, self.path, "set data.source.renormalise: true")
            yield block

    def _wide(self, known: Arrays, rows: slice, pixels: NDArray[np.int64]) -> Columns:
        """Read the columns of P values of some rows."""

        def read(name: str) -> NDArray[Any]:
            array = known[name]
            values = np.asarray(array[rows] if len(array.shape) == 2 else array[...][None])
            return values[:, pixels]

        block: Columns = {n: read(n).astype(np.float32) for n in _REALS if n in known}
        if "flux_error" not in block:
            ivar = read("flux_ivar").astype(np.float64)
            error = np.full(ivar.shape, np.inf)
            np.power(ivar, -0.5, out=error, where=ivar > 0)
            block["flux_error"] = error.astype(np.float32)
        if "pixel_mask" in known:
            block["pixel_mask"] = pixel_bits(read("pixel_mask"), f"{self.path}: pixel_mask")
        else:
            bad = ~has_value(block["flux"], block["flux_error"])
            block["pixel_mask"] = bad.astype(np.int32)
        return block
