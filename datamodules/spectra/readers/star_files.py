"""Folders of single stars as sources: ASPCAPStarFiles and ApStarFiles."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from datamodules.files import cache_key, fingerprint
from datamodules.spectra.continuum import (
    DEGREE,
    Continuum,
    check_normalised,
    describe_continuum,
    load_continuum_mask,
)
from datamodules.spectra.grid import Grid, grid_of
from datamodules.spectra.readers.star_readers import (
    COMBINED,
    Row,
    Weighting,
    read_ap_star,
    read_aspcap_star,
)
from datamodules.spectra.readers.survey_table import Columns, survey_columns
from datamodules.spectra.schema import CHUNK_BYTES, SCHEMA, SPECTRAL, VERSION
from datamodules.spectra.source import SpectraSource
from datamodules.store import RowStore

BLOCK = 256
"""Files read before they are written."""


class StarFiles(SpectraSource):
    """One file a star.

    Args:
        path: A file, a folder (searched with its subfolders), or a list of those.
        grid: Number of pixels: 7514, or 7214 as in DR12.
        catalogue: An allStar file, which gives labels, abundances and flags by the stars' ids; of
            repeated ids the row of the highest S/N.
    """

    prefixes: ClassVar[tuple[str, ...]]
    continuum: Continuum | None = None

    def __init__(
        self, path: str | list[str], grid: int = 7514, catalogue: str | None = None
    ) -> None:
        self.paths = [Path(p).expanduser() for p in ([path] if isinstance(path, str) else path)]
        self.grid: Grid = grid_of(grid, "data.source.grid")
        self.catalogue = None if catalogue is None else Path(catalogue).expanduser()

    @abstractmethod
    def read(self, path: Path) -> tuple[Row, list[str]]:
        """Read one file: a row of the store, and sentences on what was assumed."""

    def _checked(self, path: Path) -> tuple[Row, list[str]]:
        """Read one file, and see that its spectrum is normalised."""
        row, sentences = self.read(path)
        check_normalised(row, str(path), f"is it a file for {type(self).__name__}?")
        return row, sentences

    def files(self) -> list[Path]:
        """List the files, each once.

        Raises:
            FileNotFoundError: A path does not exist, or a folder has no such files.
        """
        found: list[Path] = []
        for path in self.paths:
            if path.is_dir():
                inside = sorted(
                    f for f in path.rglob("*.fits*") if f.name.startswith(self.prefixes)
                )
                if not inside:
                    raise FileNotFoundError(
                        f"{path}: no file {' or '.join(self.prefixes)}*.fits in this folder; set "
                        "data.source.path"
                    )
                found += inside
            elif path.is_file():
                found.append(path)
            else:
                raise FileNotFoundError(f"{path}: no such file or folder; set data.source.path")
        if not found:
            raise FileNotFoundError("data.source.path names no file")
        return list({path.resolve(): path for path in found}.values())

    def parameters(self) -> dict[str, Any]:
        """Return the settings and the identity (path, size, time) of every file."""
        files = self.files()
        return {
            "path": [str(path) for path in self.paths],
            "num_files": len(files),
            "files": cache_key(map(fingerprint, files)),
            "grid": self.grid.num_pixels,
            "catalogue": None if self.catalogue is None else fingerprint(self.catalogue),
            "continuum": None if self.continuum is None else self.continuum.parameters(),
        }

    def prepare(self, path: Path, seed: int) -> None:
        """Write the stars to a row store; `seed` has no effect.

        Raises:
            FileNotFoundError: A file does not exist.
            ValueError: A file is damaged; the message names it.
        """
        files = self.files()
        table = None if self.catalogue is None else _Catalogue(self.catalogue)
        attributes, shared = describe_continuum(self.continuum)
        attributes = {**attributes, "grid": self.grid.num_pixels, "source": self.parameters()}
        shared = {**shared, "wavelength": self.grid.wavelength}
        defaults: set[str] = set()
        with RowStore.writer(path, SCHEMA, VERSION, attributes, shared, CHUNK_BYTES) as writer:
            for first in range(0, len(files), BLOCK):
                read = [self._checked(file) for file in files[first : first + BLOCK]]
                defaults.update(sentence for _, sentences in read for sentence in sentences)
                columns = _columns([row for row, _ in read])
                writer.append(columns if table is None else table.join(columns))
            if table is not None:
                defaults.update(table.sentences())
            counts = {"rows": len(files), "selected": len(files)}
            writer.attributes.update(defaults=sorted(defaults), counts=counts)


class ASPCAPStarFiles(StarFiles):
    """aspcapStar files: spectra that ASPCAP has normalised, with its results.

    They have no mask: pixels are good where the flux is not 0 and the error below 1e5. Labels are
    FPARAM, ASPCAP's results before calibration; `fe_h` is its overall [M/H].

    Args:
        path: A file, a folder (searched with its subfolders), or a list of those.
        grid: Number of pixels: 7514, or 7214 as in DR12.
        catalogue: An allStar file, which gives labels, abundances and flags by the stars' ids.
        renormalise: Whether to divide by `Continuum` as well, for a model of spectra that were
            normalised so: ASPCAP's continuum differs by 2 to 8 %.
    """

    prefixes: ClassVar[tuple[str, ...]] = ("aspcapStar",)

    def __init__(
        self,
        path: str | list[str],
        grid: int = 7514,
        catalogue: str | None = None,
        renormalise: bool = False,
    ) -> None:
        super().__init__(path, grid, catalogue)
        if renormalise:
            self.continuum = Continuum(self.grid)

    def read(self, path: Path) -> tuple[Row, list[str]]:
        """Read one file."""
        return read_aspcap_star(path, self.grid, self.continuum)


class ApStarFiles(StarFiles):
    """apStar files: combined spectra with masks, which are normalised here.

    See `Continuum`. They have no labels; without `catalogue`, set `data.selection: null` or only
    predict.

    Args:
        path: A file, a folder (searched with its subfolders), or a list of those.
        grid: Number of pixels: 7514, or 7214 as in DR12.
        catalogue: An allStar file, which gives labels, abundances and flags by the stars' ids.
        weighting: Which combination of the visits: weighted by `pixel` (as in DR16 and DR17), or
            `global` (DR14).
        continuum_degree: Degree of the polynomial through the continuum of each detector.
        continuum_mask: A `.npy` of booleans, the pixels to fit to; our own if None.
    """

    prefixes: ClassVar[tuple[str, ...]] = ("apStar", "asStar")

    def __init__(
        self,
        path: str | list[str],
        grid: int = 7514,
        catalogue: str | None = None,
        weighting: Weighting = "pixel",
        continuum_degree: int = DEGREE,
        continuum_mask: str | None = None,
    ) -> None:
        super().__init__(path, grid, catalogue)
        if weighting not in COMBINED:
            raise ValueError(f"data.source.weighting={weighting!r}: choose pixel or global")
        mask = None
        if continuum_mask is not None:
            mask = load_continuum_mask(Path(continuum_mask).expanduser(), self.grid)
        self.weighting: Weighting = weighting
        self.continuum = Continuum(self.grid, mask, continuum_degree)

    def read(self, path: Path) -> tuple[Row, list[str]]:
        """Read and normalise one file."""
        assert self.continuum is not None
        unknown = ["apStar files: labels are unknown and aspcapflag is taken as 0"]
        row = read_ap_star(path, self.continuum, self.weighting)
        return row, unknown if self.catalogue is None else []

    def parameters(self) -> dict[str, Any]:
        """Return the settings and the identity of every file."""
        return {**super().parameters(), "weighting": self.weighting}


class _Catalogue:
    """Labels of stars by their ids.

    Args:
        path: An allStar file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns, self.defaults = survey_columns(path)
        self.missing = 0
        snr = np.nan_to_num(self.columns["snr"], nan=-1.0)
        order = np.argsort(snr, kind="stable")
        self._rows = dict(zip(self.columns["name"][order].tolist(), order.tolist(), strict=True))

    def join(self, columns: Columns) -> Columns:
        """Replace labels and flags by the catalogue's; unknown for stars that it does not have."""
        rows = np.array([self._rows.get(name, -1) for name in columns["name"].tolist()])
        self.missing += int(np.sum(rows < 0))
        joined = dict(columns)
        for name, values in self.columns.items():
            if name not in (*SPECTRAL, "name", "snr"):
                nothing = values.dtype.type(0 if values.dtype.kind in "iu" else np.nan)
                joined[name] = np.where(rows >= 0, values[rows], nothing)
        return joined

    def sentences(self) -> list[str]:
        """Say what was assumed."""
        if not self.missing:
            return self.defaults
        return [*self.defaults, f"{self.path}: {self.missing} stars are not in it: no labels"]


def _columns(rows: Sequence[Row]) -> dict[str, NDArray[Any]]:
    """Stack rows."""
    types = {"flux": np.float32, "flux_error": np.float32, "pixel_mask": np.int32}
    return {name: np.array([row[name] for row in rows], types.get(name)) for name in rows[0]}
