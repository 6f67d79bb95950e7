"""One's own maps in FITS, npz or HDF5, with or without a table of what is known of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from astropy.io import fits
from astropy.table import Column
from astropy.units import UnitConversionError

from datamodules.files import fingerprint
from datamodules.readers.array_files import SUFFIXES as ARRAYS
from datamodules.readers.array_files import Arrays, opened_arrays, stored_attributes
from datamodules.readers.fits_images import check_whole, large_file
from datamodules.readers.tables import plain_values, read_raw
from datamodules.sidm.readers.map_arrays import FileMaps, map_blocks
from datamodules.sidm.readers.map_columns import KNOWN, Columns, converted
from datamodules.sidm.readers.map_reader import MapReader
from datamodules.sidm.source import SCHEMA

IMAGES = (".fits", ".fit", ".fts")
NO_MAPS = {"ERR", "ERROR", "WEIGHT", "WHT", "MASK", "DQ", "VAR", "IVAR", "RMS", "UNCERT"}
"""EXTNAMEs of images that are no maps."""

OURS = (*KNOWN, "map", "good")
"""Arrays that are known in any case of letters."""


@dataclass
class MapFiles(MapReader):
    """Maps in FITS images, npz or HDF5 (array `map`), in the order of the files' names.

    An array of two axes is one map of one channel. One of three axes is one map (C, H, W) where
    several `channels` are named, and N maps (N, H, W) of one channel otherwise. One of four axes is
    N maps (N, C, H, W). All images of a FITS file are maps unless `hdus` says which, or their
    EXTNAME is that of errors, weights or masks; other keys of headers are not used. A pixel that
    is not finite in some channel is bad, and one where an array `good`, (N, H, W) or (H, W), is 0.

    An npz or HDF5 may have further arrays of one value a map, and `table` gives the same for all
    maps, one row a map: `name`, `simulation`, `cross_section` (cm^2/g), `halo` (integer or name;
    maps of one halo share it), `redshift`, `log_mass` (log10 of M200c in Msun), `projection`, and
    other numbers. The table wins over the files; see `MapTable` for how its rows find their maps.
    A map without a halo, or with a negative one, is its own.

    Args:
        path: File, folder or pattern, or a list of those.
        pixel_scale: Size of a pixel in kpc.
        channels: Names of the channels: `total`, `stars` (Msun/kpc^2), `xray` (1e40 erg/s/kpc^2).
        table: Table in FITS, ECSV, CSV, VOTable, parquet or whitespace columns.
        columns: Our name to the name in files or table, such as `{map: kappa, redshift: z}`.
        hdus: Numbers of the images of a FITS file that are maps.
    """

    suffixes: ClassVar[tuple[str, ...]] = (*IMAGES, *ARRAYS)

    table: str | None = None
    columns: dict[str, str] | None = None
    hdus: list[int] | None = None

    def parameters(self) -> dict[str, Any]:
        """Return the settings and the identity (path, size, time) of every file."""
        table = None if self.table is None else fingerprint(Path(self.table).expanduser())
        return {**super().parameters(), "table": table}

    def read_table(self) -> Columns:
        """Return the columns of the table, each (rows,).

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is broken, or a column is of another kind.
        """
        if self.table is None:
            self._in_table: set[str] = set()
            return {}
        table = read_raw(Path(self.table).expanduser())
        self._in_table = set(table.colnames)
        columns: Columns = {}
        for name, column in self._renamed({n: table[n] for n in table.colnames}).items():
            values, missing = plain_values(column)
            where = f"{self.table}: column {column.name!r}"
            if name in KNOWN or (values.ndim == 1 and values.dtype.kind in "iufb"):
                values = np.where(missing, np.array(None), values) if missing.any() else values
                columns[name] = converted(name, values, where)
                if name == "cross_section" and column.unit is not None:
                    columns[name] *= _factor(column, where)
        return columns

    @contextmanager
    def opened(self, path: Path) -> Iterator[FileMaps]:
        """Open a file; broken ones are refused in one sentence that names it."""
        kind = path.suffix.lower()
        if kind in IMAGES:
            self._check_names(path, {})
            with large_file(path, memmap=False) as file:
                numbers, notes = self._image_numbers(path, file)
                for number in numbers:
                    check_whole(path, file, number, path.stat().st_size)
                arrays = [(file[k].section, f"{path}: HDU {k}") for k in numbers]
                maps = map_blocks(arrays, self.channels)
                maps.notes = notes
                yield maps
        elif kind in ARRAYS:
            with opened_arrays(path, SCHEMA, 1) as found:
                self._check_names(path, found)
                self._check_store(path)
                known = self._renamed(found)
                if "map" not in known:
                    raise ValueError(
                        f"{path}: no array 'map', but {sorted(found)}; name it in "
                        "data.source.columns, such as {map: kappa}"
                    )
                arrays = [(known.pop("map"), f"{path}: map")]
                maps = map_blocks(arrays, self.channels, known.pop("good", None))
                maps.columns = _scalars(known, maps.count, path)
                if unused := sorted({*known} - {*maps.columns}):
                    maps.notes.append(f"{path}: arrays {unused} are no number a map, and not used")
                yield maps
        else:
            raise ValueError(f"{path}: data.source.path must end in one of {self.suffixes}")

    def _renamed(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return columns under our names; those that are known in any case of letters."""
        given = self.columns or {}
        others = {name: x for name, x in found.items() if name not in given.values()}
        ours = {n.lower() if n.lower() in OURS else n: x for n, x in others.items()}
        return ours | {name: found[theirs] for name, theirs in given.items() if theirs in found}

    def _check_names(self, path: Path, found: Mapping[str, Any]) -> None:
        """Refuse names in `columns` that neither a file nor the table has."""
        absent = sorted({*(self.columns or {}).values()} - {*found} - self._in_table)
        if absent:
            has = sorted({*found, *self._in_table})
            raise ValueError(
                f"{path}: data.source.columns names {absent}, but file and table have {has}"
            )

    def _check_store(self, path: Path) -> None:
        """Refuse a row store whose channels and pixels are not those of the settings."""
        attributes = stored_attributes(path, SCHEMA, 1)
        for name in ("channels", "pixel_scale"):
            wanted = getattr(self, name)
            if attributes.get(name, wanted) != wanted:
                raise ValueError(
                    f"{path}: its {name} is {attributes[name]}, not {wanted}; set "
                    f"data.source.{name}"
                )

    def _image_numbers(self, path: Path, file: fits.HDUList) -> tuple[list[int], list[str]]:
        """Return the numbers of the images that are maps, and a sentence where some are not."""
        images = [k for k, unit in enumerate(file) if unit.is_image and unit.shape]
        plain = [k for k in images if not isinstance(file[k], fits.CompImageHDU)]
        wanted = [k for k in plain if file[k].name.upper() not in NO_MAPS]
        wanted = wanted if self.hdus is None else self.hdus
        if not wanted or not set(wanted) <= set(plain):
            raise ValueError(
                f"{path}: its images are {plain or 'none'}, not counting compressed ones "
                f"(funpack), but data.source.hdus is {self.hdus}"
            )
        if len(images) == 1 or self.hdus is not None:
            return wanted, []
        taken, left = (
            ", ".join(f"{k} ({file[k].name})" for k in images if (k in wanted) == is_map) or "none"
            for is_map in (True, False)
        )
        text = f"of files with several images, HDUs {taken} are maps, {left} are not"
        return wanted, [f"{text}; set data.source.hdus if this is wrong"]


def _scalars(found: Arrays, count: int, path: Path) -> Columns:
    """Return the arrays of one value a map, or of one for all, that are known or numbers."""
    columns: Columns = {}
    for name, array in found.items():
        if name in KNOWN and array.shape not in ((count,), ()):
            raise ValueError(f"{path}: {name} has the shape {array.shape}, not {(count,)}")
        if name in KNOWN or (array.shape == (count,) and array.dtype.kind in "iufb"):
            values = np.broadcast_to(np.asarray(array[...]), count)
            columns[name] = converted(name, values, f"{path}: {name}")
    return columns


def _factor(column: Column, where: str) -> np.float32:
    """Return the factor from a cross-section's stated unit to cm^2/g."""
    try:
        return np.float32(column.unit.to("cm2 / g"))
    except UnitConversionError as error:
        raise ValueError(f"{where} is in {column.unit}, not in cm2 / g; mend the table") from error
