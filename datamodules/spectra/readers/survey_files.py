"""The survey's normalised spectra: three images of all stars and the table that goes with them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_info
from numpy.typing import NDArray

from datamodules.files import cache_key, fingerprint
from datamodules.spectra.continuum import check_normalised
from datamodules.spectra.grid import grid_of
from datamodules.spectra.pixel_mask import pixel_bits
from datamodules.spectra.readers.fits_images import ImageRows, TableRows
from datamodules.spectra.readers.survey_table import Columns, measured, survey_columns
from datamodules.spectra.schema import CHUNK_BYTES, SCHEMA, VERSION
from datamodules.spectra.selection import describe, read_names
from datamodules.spectra.source import SpectraSource
from datamodules.store import RowStore

BLOCK = 256
"""Spectra copied at a time: 25 MB."""


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

    def __init__(
        self,
        folder: str,
        flux: str = "contspec_*_final.fits",
        error: str = "contspec_*_err.fits",
        mask: str = "contspec_*_mask.fits",
        catalogue: str = "allStar*.fits",
        added: str | None = None,
        added_columns: tuple[str, ...] = ("TEFF", "LOGG", "FE_H"),
        stars: str | None = None,
    ) -> None:
        self.folder = Path(folder).expanduser()
        self.files = {"flux": flux, "error": error, "mask": mask, "catalogue": catalogue}
        if added is not None:
            self.files["added"] = added
        self.added_columns = tuple(added_columns)
        self.stars = None if stars is None else read_names(stars, "data.source.stars")

    def paths(self) -> dict[str, Path]:
        """Find the files.

        Raises:
            FileNotFoundError: A name matches no file.
            ValueError: A name matches several files.
        """
        return {role: self._path(role, name) for role, name in self.files.items()}

    def parameters(self) -> dict[str, Any]:
        """Return the identity (path, size, time) of every file, and the cuts."""
        return {
            **{role: fingerprint(path) for role, path in self.paths().items()},
            "added_columns": list(self.added_columns),
            "stars": None if self.stars is None else cache_key(self.stars),
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
        if "added" in paths:
            columns.update(self._added(paths, columns))
        images = {role: ImageRows(paths[role]) for role in ("flux", "error", "mask")}
        _check(images, len(columns["name"]), paths["catalogue"])
        kept, counts = self._select(columns, paths["catalogue"])
        grid = grid_of(images["flux"].num_pixels, str(paths["flux"]))
        attributes = {
            "grid": grid.num_pixels,
            "counts": counts,
            "defaults": defaults,
            "source": self.parameters(),
        }
        shared = {"wavelength": grid.wavelength}
        with RowStore.writer(path, SCHEMA, VERSION, attributes, shared, CHUNK_BYTES) as writer:
            for block in _blocks(images, columns, np.flatnonzero(kept)):
                check_normalised(block, str(paths["flux"]), "set data.source.flux to the fluxes")
                writer.append(block)

    def _select(self, columns: Columns, path: Path) -> tuple[NDArray[np.bool_], dict[str, int]]:
        """Apply the cuts to the table.

        Raises:
            ValueError: No row passes.
        """
        kept = np.ones(len(columns["name"]), bool)
        counts = {"rows": len(kept), "selected": len(kept)}
        if self.selection is not None:
            kept, counts = self.selection.select(columns)
        if self.stars is not None:
            others = ~np.isin(columns["name"], self.stars)
            kept &= ~others
            counts = {**counts, "other_stars": int(others.sum()), "selected": int(kept.sum())}
        rank_zero_info(f"{path}: {describe(counts)}")
        if not kept.any():
            raise ValueError(f"{path}: no row passes data.selection ({describe(counts)})")
        return kept, counts

    def _path(self, role: str, name: str) -> Path:
        """Find one file."""
        found = sorted(self.folder.glob(name)) if any(c in name for c in "*?[") else []
        if not found and (self.folder / name).is_file():
            found = [self.folder / name]
        if not found:
            raise FileNotFoundError(
                f"{self.folder / name}: no such file; set data.source.folder and data.source.{role}"
            )
        if len(found) > 1:
            raise ValueError(
                f"{self.folder / name} matches {len(found)} files ({found[0].name}, "
                f"{found[1].name}, ...); name one in data.source.{role}"
            )
        return found[0]

    def _added(self, paths: dict[str, Path], columns: Columns) -> Columns:
        """Read the further table.

        Raises:
            ValueError: It has other rows, or lacks a column.
        """
        table = TableRows(paths["added"])
        known = {name.upper(): name for name in table.names if table.is_scalar(name)}
        absent = [name for name in self.added_columns if name.upper() not in known]
        if absent:
            raise ValueError(
                f"{paths['added']}: no columns {absent}; choose data.source.added_columns from "
                f"{sorted(known)[:20]}"
            )
        size = len(columns["name"])
        if table.num_rows != size:
            raise _different(paths["added"], table.num_rows, paths["catalogue"], size)
        ids = {name.upper(): name for name in table.names}.get("APOGEE_ID")
        if ids is not None and not np.array_equal(table.read([ids])[ids], columns["name"]):
            raise ValueError(
                f"{paths['added']}: its APOGEE_ID are not those of {paths['catalogue']} row by row"
            )
        raw = table.read([known[name.upper()] for name in self.added_columns])
        return {
            f"astronn_{name.lower()}": measured(values, f"{paths['added']}: {name}")
            for name, values in raw.items()
        }


def _check(images: dict[str, ImageRows], num_rows: int, catalogue: Path) -> None:
    """Refuse files that do not belong together."""
    first = images["flux"]
    for image in images.values():
        if image.num_rows != num_rows:
            raise _different(image.path, image.num_rows, catalogue, num_rows)
        if image.num_pixels != first.num_pixels:
            raise ValueError(
                f"{image.path} has {image.num_pixels} pixels, but {first.path} has "
                f"{first.num_pixels}; take files of one release"
            )


def _different(path: Path, num_rows: int, other: Path, other_rows: int) -> ValueError:
    """Say that two files have different rows."""
    return ValueError(
        f"{path} has {num_rows} rows, but {other} has {other_rows}; take files of one release"
    )


def _blocks(
    images: dict[str, ImageRows], columns: Columns, rows: NDArray[np.int64]
) -> Iterator[Columns]:
    """Yield the rows that are wanted, block by block."""
    for part in np.array_split(rows, -(-len(rows) // BLOCK)):
        mask = images["mask"]
        yield {
            **{name: values[part] for name, values in columns.items()},
            "flux": images["flux"].read(part).astype(np.float32),
            "flux_error": images["error"].read(part).astype(np.float32),
            "pixel_mask": pixel_bits(mask.read(part), f"{mask.path} (data.source.mask)"),
        }
