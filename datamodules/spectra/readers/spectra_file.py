"""Spectra in one file of arrays: HDF5 or npz."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any, Protocol
from zipfile import BadZipFile

import h5py
import numpy as np
from numpy.typing import NDArray

from datamodules.files import fingerprint
from datamodules.spectra.continuum import (
    Continuum,
    check_normalised,
    describe_continuum,
    renormalise,
)
from datamodules.spectra.grid import GRIDS, LOG_START, LOG_STEP, NUM_PIXELS, Grid, grid_of
from datamodules.spectra.pixel_mask import has_value, pixel_bits
from datamodules.spectra.readers.survey_table import Columns, measured
from datamodules.spectra.schema import CHUNK_BYTES, LABELS, SCHEMA, SPECTRAL, VERSION
from datamodules.spectra.selection import as_bits
from datamodules.spectra.source import SpectraSource
from datamodules.store import FORMAT, RowStore

BLOCK = 256
"""Spectra converted at a time."""

WAVELENGTH_TOLERANCE = 0.01
"""In A. Wavelengths in air are off by 4 A."""

NANOMETRE = 10.0
_DAMAGE = (OSError, RuntimeError, KeyError, EOFError, BadZipFile, zlib.error, TokenError)
_FLAGS = ("starflag", "aspcapflag")
_WIDE = (*SPECTRAL, "flux_ivar")


class _Array(Protocol):
    """What has a shape and can be cut: an array or a data set."""

    shape: tuple[int, ...]
    dtype: Any

    def __getitem__(self, rows: Any) -> Any: ...


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

    def __init__(
        self,
        path: str,
        columns: dict[str, str] | None = None,
        values: dict[str, float | str] | None = None,
        grid: int | None = None,
        renormalise: bool = False,
    ) -> None:
        self.path = Path(path).expanduser()
        self.columns = dict(columns or {})
        self.values = dict(values or {})
        self.grid = None if grid is None else grid_of(grid, "data.source.grid")
        self.renormalise = renormalise
        if self.path.suffix not in (".h5", ".hdf5", ".npz"):
            raise ValueError(f"{path}: data.source.path must end in .h5, .hdf5 or .npz")
        for name, value in self.values.items():
            if name in _WIDE or (name != "name" and isinstance(value, str)):
                raise ValueError(
                    f"data.source.values.{name}={value!r}: name columns of one number a row here"
                )

    def parameters(self) -> dict[str, Any]:
        """Return the settings and the identity (path, size, time) of the file."""
        grid = None if self.grid is None else self.grid.num_pixels
        settings = {"columns": self.columns, "values": self.values, "grid": grid}
        return {"file": fingerprint(self.path), **settings, "renormalise": self.renormalise}

    def prepare(self, path: Path, seed: int) -> None:
        """Write the spectra to a row store; `seed` has no effect.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged, or lacks a column.
        """
        with _opened(self.path) as table:
            known = {ours: table[theirs] for ours, theirs in self._matched(table).items()}
            size, pixels, grid = self._shape(known)
            self._check_shapes(known, size)
            defaults: list[str] = []
            self._check_wavelength(known, defaults)
            continuum = Continuum(grid) if self.renormalise else None
            attributes, shared = describe_continuum(continuum)
            attributes |= {"grid": grid.num_pixels, "source": self.parameters()}
            attributes["counts"] = {"rows": size, "selected": size}
            shared["wavelength"] = grid.wavelength
            narrow = self._narrow(known, size, defaults)
            with RowStore.writer(path, SCHEMA, VERSION, attributes, shared, CHUNK_BYTES) as writer:
                for first in range(0, size, BLOCK):
                    rows = slice(first, min(first + BLOCK, size))
                    block = self._block(known, rows, pixels, defaults)
                    if continuum is not None:
                        renormalise(block, continuum)
                    check_normalised(block, str(self.path), "set data.source.renormalise: true")
                    writer.append({**{k: v[rows] for k, v in narrow.items()}, **block})
                writer.attributes["defaults"] = sorted(set(defaults))

    def _matched(self, table: Mapping[str, _Array]) -> dict[str, str]:
        """Find our columns among the file's names.

        Raises:
            ValueError: A name is not in the file, or there is no flux or error.
        """
        absent = sorted(set(self.columns.values()) - set(table))
        if absent:
            raise ValueError(f"{self.path}: no arrays {absent}; it has {sorted(table)}")
        found = {name: name for name in table if name not in self.columns.values()}
        found.update(self.columns)
        if "flux" not in found or not {"flux_error", "flux_ivar"} & set(found):
            raise ValueError(
                f"{self.path}: needs flux and flux_error (or flux_ivar); name them in "
                f"data.source.columns, such as {{flux: ...}}; it has {sorted(table)}"
            )
        return {ours: theirs for ours, theirs in found.items() if ours not in self.values}

    def _shape(self, known: Mapping[str, _Array]) -> tuple[int, NDArray[np.int64], Grid]:
        """Find the number of rows, which of the file's pixels are wanted, and their grid."""
        shape = known["flux"].shape
        if len(shape) not in (1, 2) or 0 in shape:
            raise ValueError(f"{self.path}: flux has the shape {shape}, not (N, P)")
        size, length = (1, shape[0]) if len(shape) == 1 else shape
        if length == NUM_PIXELS:
            grid = self.grid or GRIDS[7514]
            return size, grid.indices, grid
        if length not in GRIDS:
            raise ValueError(
                f"{self.path}: flux has {length} pixels, not {NUM_PIXELS}, 7514 or 7214"
            )
        own = GRIDS[length]
        grid = self.grid or own
        return size, own.positions_of(grid), grid

    def _check_shapes(self, known: Mapping[str, _Array], size: int) -> None:
        """Refuse known columns of other rows, pixels or types."""
        shape = known["flux"].shape
        labels = (*LABELS, *(f"{x}_error" for x in LABELS))
        for name in (*_WIDE, "name", "snr", *labels, *_FLAGS, *self.columns):
            if name not in known or name == "wavelength":
                continue
            array, wide = known[name], name in _WIDE
            if array.shape not in ((shape,) if wide else ((size,), ())):
                raise ValueError(
                    f"{self.path}: {name} has the shape {array.shape}, not "
                    f"{shape if wide else (size,)}; flux has the shape {shape}"
                )
            if name != "name" and array.dtype.kind not in "iufb":
                raise ValueError(f"{self.path}: {name} holds {array.dtype}, not numbers")

    def _check_wavelength(self, known: Mapping[str, _Array], defaults: list[str]) -> None:
        """Refuse spectra on other wavelengths."""
        if "wavelength" not in known:
            defaults.append(f"{self.path}: without wavelength, pixels are taken as APOGEE's")
            return
        length = known["flux"].shape[-1]
        found = np.asarray(known["wavelength"][...])
        whole = np.power(10.0, LOG_START + LOG_STEP * np.arange(NUM_PIXELS))
        expected = whole if length == NUM_PIXELS else GRIDS[length].wavelength
        if found.shape == expected.shape and found.dtype.kind == "f":
            scale = NANOMETRE if np.median(found) < 5000 else 1.0
            if np.max(np.abs(found * scale - expected)) < WAVELENGTH_TOLERANCE:
                return
        raise ValueError(
            f"{self.path}: wavelength is not APOGEE's grid in vacuum, {expected[0]:.3f} to "
            f"{expected[-1]:.3f} A (a different grid, or wavelengths in air?)"
        )

    def _narrow(self, known: Mapping[str, _Array], size: int, defaults: list[str]) -> Columns:
        """Read the columns of one value a row, with those that are the same for all."""
        columns: Columns = {}
        for name, array in known.items():
            if name != "name" and array.shape in ((size,), ()) and array.dtype.kind in "iufb":
                values = np.broadcast_to(np.asarray(array[...]), size)
                integer = name in _FLAGS
                what = f"{self.path}: {name}"
                columns[name] = as_bits(values, what) if integer else measured(values, what)
        for name, value in self.values.items():
            kind = {"name": str, **dict.fromkeys(_FLAGS, np.int64)}.get(name, np.float32)
            columns[name] = np.full(size, np.array(value, kind))
        if "name" not in columns:
            columns["name"] = self._names(known, size, defaults)
        for name in ("snr", *LABELS, *(f"{x}_error" for x in LABELS)):
            if name not in columns:
                columns[name] = np.full(size, np.nan, np.float32)
                defaults.append(f"{self.path}: {name} is unknown")
        for name in _FLAGS:
            if name not in columns:
                columns[name] = np.zeros(size, np.int64)
                defaults.append(f"{self.path}: {name} is taken as 0")
        return columns

    def _names(
        self, known: Mapping[str, _Array], size: int, defaults: list[str]
    ) -> NDArray[np.str_]:
        """Read the stars' ids, or number the rows."""
        if "name" not in known:
            defaults.append(f"{self.path}: every row is taken as a star of its own")
            return np.array([f"{self.path.stem}:{row}" for row in range(size)])
        names = np.asarray(known["name"][...]).reshape(-1)
        texts = (n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names)
        return np.array([text.strip() for text in texts])

    def _block(
        self,
        known: Mapping[str, _Array],
        rows: slice,
        pixels: NDArray[np.int64],
        defaults: list[str],
    ) -> Columns:
        """Read the columns of P values of some rows."""

        def read(name: str) -> NDArray[Any]:
            array = known[name]
            values = np.asarray(array[rows] if len(array.shape) == 2 else array[...][None])
            return values[:, pixels]

        flux = read("flux").astype(np.float32)
        if "flux_error" in known:
            error = read("flux_error").astype(np.float32)
        else:
            ivar = read("flux_ivar").astype(np.float64)
            error = np.full(ivar.shape, np.inf, np.float32)
            error[ivar > 0] = ivar[ivar > 0] ** -0.5
        block: Columns = {"flux": flux, "flux_error": error}
        if "pixel_mask" in known:
            block["pixel_mask"] = pixel_bits(read("pixel_mask"), f"{self.path}: pixel_mask")
        else:
            block["pixel_mask"] = np.where(has_value(flux, error), 0, 1).astype(np.int32)
            defaults.append(f"{self.path}: without pixel_mask, pixels with a value are good")
        if "true_flux" in known:
            block["true_flux"] = read("true_flux").astype(np.float32)
        return block


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, _Array]]:
    """Open a file as a table of arrays.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    fingerprint(path)
    opener = {".npz": _opened_npz}.get(path.suffix, _opened_hdf5)
    try:
        with opener(path) as table:
            yield table
    except _DAMAGE as error:
        raise ValueError(f"{path}: damaged ({error}); make or download it again") from error


@contextmanager
def _opened_npz(path: Path) -> Iterator[Mapping[str, _Array]]:
    """Read an npz; nothing in it is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{path}: not an npz of numbers and text ({error})") from error
    yield arrays


@contextmanager
def _opened_hdf5(path: Path) -> Iterator[Mapping[str, _Array]]:
    """Open HDF5; of a row store, check what it is."""
    with h5py.File(path) as file:
        if file.attrs.get("format") == FORMAT:
            RowStore(path, SCHEMA, VERSION)
        shared = file.get("shared", {})
        sets = {**file, **{k: v for k, v in shared.items() if k == "wavelength"}}
        yield {name: value for name, value in sets.items() if isinstance(value, h5py.Dataset)}
