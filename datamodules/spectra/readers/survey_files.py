"""The survey's normalised spectra: three images of all stars and the table that goes with them."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_info
from numpy.typing import NDArray

from datamodules.files import cache_key, fingerprint
from datamodules.readers.fits_images import ImageRows, TableRows
from datamodules.spectra.continuum import check_normalised
from datamodules.spectra.grid import grid_of
from datamodules.spectra.pixel_mask import pixel_bits
from datamodules.spectra.readers.survey_table import measured, survey_columns
from datamodules.spectra.selection import EVERY_ROW, describe, read_names
from datamodules.spectra.source import Columns, SpectraSource

BLOCK = 256
"""Spectra copied at a time: 25 MB."""


@dataclass
class SurveySpectra(SpectraSource):
    """All spectra of a data release: `contspec_*` and `allStar`, row by row the same stars.

    The images (N, 7514) hold normalised flux, errors and APOGEE_PIXMASK, as astroNN's catalogue
    made them; the table is `allStar` or `allStarLite` of DR13 to DR17. Cuts are made on the table
    first, then the rows that pass are read from the images, block by block. Labels are the
    spectroscopic ones (`TEFF_SPEC`, `LOGG_SPEC`, `FE_H`) where the release has them, and -9999 is
    missing; every column that is taken instead of another is printed and reported.

    Args:
        folder: Where the files are.
        flux: Name of the image of fluxes; may have wildcards.
        error: Name of the image of errors.
        mask: Name of the image of masks, integers or whole reals.
        catalogue: Name of the table.
        added: Name of a further table with the same rows, such as astroNN's catalogue; only adds
            columns.
        added_columns: Columns of it to keep, under `astronn_<name>`, lower case.
        stars: Text file of ids (APOGEE_ID), one a line: no others are read, not even in a
            prediction, which keeps every other row of the survey.
    """

    selects: ClassVar[bool] = True

    folder: str
    flux: str = "contspec_*_final.fits"
    error: str = "contspec_*_err.fits"
    mask: str = "contspec_*_mask.fits"
    catalogue: str = "allStar*.fits"
    added: str | None = None
    added_columns: tuple[str, ...] = ("TEFF", "LOGG", "FE_H")
    stars: str | None = None

    def __post_init__(self) -> None:
        """Read the ids of the stars that are wanted."""
        self._stars = None if self.stars is None else read_names(self.stars, "data.source.stars")

    def paths(self) -> dict[str, Path]:
        """Find the files.

        Raises:
            FileNotFoundError: A name matches no file.
            ValueError: A name matches several files.
        """
        roles = ("flux", "error", "mask", "catalogue", *(["added"] if self.added else []))
        return {role: self._path(role, getattr(self, role)) for role in roles}

    def parameters(self) -> dict[str, Any]:
        """Return the identity (path, size, time) of every file, and the cuts."""
        return {
            **{role: fingerprint(path) for role, path in self.paths().items()},
            "added_columns": list(self.added_columns),
            "stars": None if self._stars is None else cache_key(self._stars),
            "selection": self.selection.parameters() if self.selection else None,
        }

    def prepare(self, path: Path, seed: int) -> None:
        """Write the rows that pass the cuts to a row store; `seed` has no effect.

        Raises:
            FileNotFoundError: A file does not exist.
            ValueError: A file is damaged, files disagree, or no row passes.
        """
        paths = self.paths()
        columns, defaults = survey_columns(paths["catalogue"])
        images = {role: ImageRows(paths[role]) for role in ("flux", "error", "mask")}
        tables = [TableRows(paths["added"])] if self.added else []
        sizes = {paths["catalogue"]: len(columns["name"])}
        sizes |= {image.path: image.num_rows for image in images.values()}
        _agree("rows", sizes | {table.path: table.num_rows for table in tables})
        pixels = _agree("pixels", {image.path: image.num_pixels for image in images.values()})
        grid = grid_of(pixels, str(paths["flux"]))
        for table in tables:
            columns |= self._added(table, columns["name"])
        kept, counts = self._select(columns, paths["catalogue"])
        self.write(path, grid, _blocks(images, columns, np.flatnonzero(kept)), counts, defaults)

    def _select(self, columns: Columns, path: Path) -> tuple[NDArray[np.bool_], dict[str, int]]:
        """Apply the cuts to the table.

        Raises:
            ValueError: No row passes.
        """
        kept, counts = (self.selection or EVERY_ROW).select(columns)
        if self._stars is not None:
            others = ~np.isin(columns["name"], self._stars)
            kept &= ~others
            counts |= {"other_stars": int(others.sum()), "selected": int(kept.sum())}
        rank_zero_info(f"{path}: {describe(counts)}")
        if not kept.any():
            raise ValueError(f"{path}: no row passes data.selection ({describe(counts)})")
        return kept, counts

    def _path(self, role: str, name: str) -> Path:
        """Find one file."""
        folder = Path(self.folder).expanduser()
        found = [name] if (folder / name).is_file() else sorted(glob.glob(name, root_dir=folder))
        if not found:
            raise FileNotFoundError(
                f"{folder / name}: no such file; set data.source.folder and data.source.{role}"
            )
        if len(found) > 1:
            raise ValueError(
                f"{folder / name} matches {len(found)} files ({found[0]}, {found[1]}, ...); name "
                f"one in data.source.{role}"
            )
        return folder / found[0]

    def _added(self, table: TableRows, ids: NDArray[np.str_]) -> Columns:
        """Read the further table.

        Raises:
            ValueError: It has other stars, or lacks a column.
        """
        known = {name.upper(): name for name in table.names}
        absent = [name for name in self.added_columns if name.upper() not in known]
        if absent:
            raise ValueError(
                f"{table.path}: no columns {absent}; choose data.source.added_columns from "
                f"{sorted(known)[:20]}"
            )
        if "APOGEE_ID" in known:
            (found,) = table.read([known["APOGEE_ID"]]).values()
            if not np.array_equal(found, ids):
                raise ValueError(
                    f"{table.path}: its APOGEE_ID are not those of the catalogue row by row"
                )
        raw = table.read([known[name.upper()] for name in self.added_columns])
        return {
            f"astronn_{name.lower()}": measured(values, f"{table.path}: {name}")
            for name, values in raw.items()
        }


def _agree(unit: str, sizes: dict[Path, int]) -> int:
    """Return the size that all files have; refuse files that do not belong together."""
    (first, size), *others = sizes.items()
    for path, other in others:
        if other != size:
            raise ValueError(
                f"{path} has {other} {unit}, but {first} has {size}; take files of one release"
            )
    return size


def _blocks(
    images: dict[str, ImageRows], columns: Columns, rows: NDArray[np.int64]
) -> Iterator[Columns]:
    """Yield the rows that are wanted, block by block."""
    flux, error, mask = images.values()
    for part in np.array_split(rows, -(-len(rows) // BLOCK)):
        block = {
            **{name: values[part] for name, values in columns.items()},
            "flux": flux.read(part).astype(np.float32),
            "flux_error": error.read(part).astype(np.float32),
            "pixel_mask": pixel_bits(mask.read(part), f"{mask.path} (data.source.mask)"),
        }
        check_normalised(block, str(flux.path), "set data.source.flux to the fluxes")
        yield block
