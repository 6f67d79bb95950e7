"""Folders of single stars as sources: ASPCAPStarFiles and ApStarFiles."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datamodules.files import cache_key, fingerprint
from datamodules.spectra.continuum import DEGREE, Continuum, check_normalised, load_continuum_mask
from datamodules.spectra.grid import grid_of
from datamodules.spectra.readers.star_readers import Row, read_ap_star, read_aspcap_star
from datamodules.spectra.readers.survey_table import survey_columns
from datamodules.spectra.source import Columns, SpectraSource

BLOCK = 256
"""Files read before they are written."""

_TYPES = {"flux": np.float32, "flux_error": np.float32, "pixel_mask": np.int32}


@dataclass
class StarFiles(SpectraSource):
    """One file a star.

    Args:
        path: A file, a folder (searched with its subfolders), or a list of those.
        grid: Number of pixels: 7514, or 7214 as in DR12.
        catalogue: An allStar file, which gives labels, abundances and flags by the stars' ids; of
            repeated ids the row of the highest S/N.
    """

    prefixes: ClassVar[tuple[str, ...]]

    path: str | list[str]
    grid: int = 7514
    catalogue: str | None = None

    def __post_init__(self) -> None:
        """Refuse a grid that APOGEE does not have."""
        paths = [self.path] if isinstance(self.path, str) else self.path
        self._paths = [Path(path).expanduser() for path in paths]
        self._grid = grid_of(self.grid, "data.source.grid")
        self._table = None if self.catalogue is None else Path(self.catalogue).expanduser()

    @abstractmethod
    def read(self, path: Path) -> tuple[Row, list[str]]:
        """Read one file: a row of the store, and sentences on what was assumed."""

    def files(self) -> list[Path]:
        """List the files, each once.

        Raises:
            FileNotFoundError: A path does not exist, or a folder has no such files.
        """
        found: list[Path] = []
        for path in self._paths:
            inside = sorted(path.rglob("*.fits*"))
            inside = [file for file in inside if file.name.startswith(self.prefixes)]
            if not inside and not path.is_file():
                starts = " or ".join(self.prefixes)
                what = f"no file {starts}*.fits in this" if path.is_dir() else "no such file or"
                raise FileNotFoundError(f"{path}: {what} folder; set data.source.path")
            found += inside or [path]
        if not found:
            raise FileNotFoundError("data.source.path names no file")
        return list({path.resolve(): path for path in found}.values())

    def parameters(self) -> dict[str, Any]:
        """Return the settings and the identity (path, size, time) of every file."""
        files = self.files()
        return {
            "path": [str(path) for path in self._paths],
            "num_files": len(files),
            "files": cache_key(map(fingerprint, files)),
            "grid": self.grid,
            "catalogue": None if self._table is None else fingerprint(self._table),
            "continuum": None if self.continuum is None else self.continuum.parameters(),
        }

    def prepare(self, path: Path, seed: int) -> None:
        """Write the stars to a row store; `seed` has no effect.

        Raises:
            FileNotFoundError: A file does not exist.
            ValueError: A file is damaged; the message names it.
        """
        files, defaults = self.files(), set[str]()
        counts = {"rows": len(files), "selected": len(files)}
        blocks = self._blocks(files, defaults)
        if self._table is not None:
            blocks = self._joined(blocks, self._table, defaults)
        self.write(path, self._grid, blocks, counts, defaults)

    def _blocks(self, files: list[Path], defaults: set[str]) -> Iterator[Columns]:
        """Yield the rows of a store, and add to the sentences on what was assumed."""
        for first in range(0, len(files), BLOCK):
            rows = []
            for file in files[first : first + BLOCK]:
                row, sentences = self.read(file)
                check_normalised(row, str(file), f"is it a file for {type(self).__name__}?")
                rows.append(row)
                defaults.update(sentences)
            yield {
                name: np.array([row[name] for row in rows], _TYPES.get(name)) for name in rows[0]
            }

    def _joined(
        self, blocks: Iterator[Columns], catalogue: Path, defaults: set[str]
    ) -> Iterator[Columns]:
        """Replace labels and flags by the catalogue's; unknown for stars that it does not have."""
        table, sentences = survey_columns(catalogue)
        order = np.argsort(np.nan_to_num(table.pop("snr"), nan=-1.0), kind="stable")
        row_of = dict(zip(table.pop("name")[order].tolist(), order.tolist(), strict=True))
        missing = 0
        for columns in blocks:
            rows = np.array([row_of.get(name, -1) for name in columns["name"].tolist()])
            missing += int(np.sum(rows < 0))
            for name, values in table.items():
                nothing = values.dtype.type(0 if values.dtype.kind in "iu" else np.nan)
                columns[name] = np.where(rows >= 0, values[rows], nothing)
            yield columns
        defaults.update(sentences)
        if missing:
            defaults.add(f"{catalogue}: {missing} stars are not in it: no labels")


@dataclass
class ASPCAPStarFiles(StarFiles):
    """aspcapStar files: spectra that ASPCAP has normalised, with its results.

    They have no mask: pixels are good where the flux is not 0 and the error below 1e5. Labels are
    FPARAM, ASPCAP's results before calibration; `fe_h` is its overall [M/H].

    Args:
        renormalise: Whether to divide by `Continuum` as well, for a model of spectra that were
            normalised so: ASPCAP's continuum differs by 2 to 8 %.
    """

    prefixes: ClassVar[tuple[str, ...]] = ("aspcapStar",)

    renormalise: bool = False

    def __post_init__(self) -> None:
        """Refuse a grid that APOGEE does not have."""
        super().__post_init__()
        self.continuum = Continuum(self._grid) if self.renormalise else None

    def read(self, path: Path) -> tuple[Row, list[str]]:
        """Read one file."""
        return read_aspcap_star(path, self._grid, self.continuum)


@dataclass
class ApStarFiles(StarFiles):
    """apStar files: combined spectra with masks, which are normalised here.

    See `Continuum`. They have no labels; without `catalogue`, set `data.selection: null` or only
    predict.

    Args:
        continuum_degree: Degree of the polynomial through the continuum of each detector.
        continuum_mask: A `.npy` of booleans, the pixels to fit to; our own if None.
    """

    prefixes: ClassVar[tuple[str, ...]] = ("apStar", "asStar")

    continuum_degree: int = DEGREE
    continuum_mask: str | None = None

    def __post_init__(self) -> None:
        """Refuse a grid that APOGEE does not have, and a continuum that cannot be fitted."""
        super().__post_init__()
        own = self.continuum_mask
        mask = None if own is None else load_continuum_mask(Path(own).expanduser(), self._grid)
        self.continuum = Continuum(self._grid, mask, self.continuum_degree)

    def read(self, path: Path) -> tuple[Row, list[str]]:
        """Read and normalise one file."""
        assert self.continuum is not None
        unknown = ["apStar files: labels are unknown and aspcapflag is taken as 0"]
        return read_ap_star(path, self.continuum), unknown if self.catalogue is None else []
