"""The maps of many files, cleaned, with all that is known of them, block by block."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.sidm.readers.map_arrays import FileMaps
from datamodules.sidm.readers.map_columns import MISSING, Columns, completed

NAMED = 5
"""Maps that a sentence names at most."""


class Conversion:
    """One pass over all files of maps: checks, usable maps, columns with defaults.

    Args:
        opened: What opens a file.
        table: What a table says of all maps, each (rows,); nothing if empty.
        origin: Where the files are, for messages.

    Attributes:
        problems: Sentences on what was left out.
        defaults: Sentences on what was assumed.
    """

    def __init__(
        self,
        opened: Callable[[Path], AbstractContextManager[FileMaps]],
        table: Columns,
        origin: str,
    ) -> None:
        self.opened = opened
        self.table = table
        self.origin = origin
        self.rows = len(next(iter(self.table.values()))) if self.table else None
        self.shape: tuple[int, ...] = ()
        self.extra: set[str] = set()
        self.names: list[str] = []
        self.problems: list[str] = []
        self.defaults: set[str] = set()

    def blocks(self, file: Path) -> Iterator[Columns]:
        """Yield the usable maps of a file, with all their columns."""
        kept, start, lost = 0, 0, []
        with self.opened(file) as maps:
            columns = self._columns(file, maps)
            for pixels in maps.blocks:
                self._check_shape(file, pixels)
                part = {n: v[start : start + len(pixels)] for n, v in columns.items()}
                start += len(pixels)
                values, good = _cleaned(pixels, file)
                usable = (values > 0).any(axis=(1, 2, 3))
                lost += part["name"][~usable].tolist()
                kept += int(usable.sum())
                if usable.any():
                    whole = {**part, "map": values, "good": good}
                    yield {name: column[usable] for name, column in whole.items()}
        if lost:
            some = ", ".join(lost[:NAMED]) + (", ..." if len(lost) > NAMED else "")
            self.problems.append(
                f"{file}: {len(lost)} of {maps.count} maps without a good positive pixel are left "
                f"out ({some})"
            )
        if not kept:
            raise ValueError(f"{file}: no map has a good positive pixel; remove the file")

    def finish(self) -> None:
        """Refuse a table of other rows than maps, or in another order of names."""
        if self.rows is None:
            return
        if self.rows != len(self.names):
            raise ValueError(self._wrong_length(self.origin, f"{len(self.names)} maps"))
        given = self.table.get("name")
        if given is not None and sorted(given) == sorted(self.names):
            moved = next((k for k, name in enumerate(self.names) if given[k] != name), None)
            if moved is None:
                return
            raise ValueError(
                f"{self.origin}: map {moved + 1} is {self.names[moved]!r}, but row "
                f"{moved + 1} of the table names {str(given[moved])!r}; sort the table as the files"
            )

    def _columns(self, file: Path, maps: FileMaps) -> Columns:
        """Return all columns of a file's maps: its own, then the table's, then defaults."""
        first = len(self.names)
        names = [f"{file.stem}_{k}" for k in range(maps.count)]
        names = [file.stem] if maps.count == 1 else names
        self.names += names
        if self.rows is not None and self.rows < len(self.names):
            raise ValueError(
                self._wrong_length(file, f"at least {len(self.names)} maps up to here")
            )
        rows = slice(first, first + maps.count)
        given = {**maps.columns, **{name: values[rows] for name, values in self.table.items()}}
        if "halo" not in given or (given["halo"] == MISSING).any():
            self.defaults.add(
                "maps without a halo id count as halos of their own: several maps of one halo may "
                "then fall on both sides of the split"
            )
        columns = completed(given, names, first)
        if self.extra and set(columns) != self.extra:
            differ = sorted(set(columns) ^ self.extra)
            raise ValueError(f"{file}: columns {differ} are not in all files; make them alike")
        self.extra = set(columns)
        return columns

    def _check_shape(self, file: Path, pixels: NDArray[Any]) -> None:
        """Refuse maps of another shape than those before."""
        self.shape = self.shape or pixels.shape[1:]
        if pixels.shape[1:] != self.shape:
            raise ValueError(
                f"{file}: maps have the shape {pixels.shape[1:]} (channels, rows, columns), those "
                f"before {self.shape}; bring all to one size"
            )

    def _wrong_length(self, where: str | Path, found: str) -> str:
        """Say that the table does not fit the maps."""
        return (
            f"{where}: {found}, but {self.rows} rows in the table; give one row a map, in the "
            "order of the files"
        )


def _cleaned(pixels: NDArray[Any], file: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return maps in float32, NaN where a channel is not finite, and the good pixels.

    Raises:
        ValueError: They are no real numbers, or too large.
    """
    if pixels.dtype.kind not in "iufb":
        raise ValueError(f"{file}: maps hold {pixels.dtype}, not real numbers; mend the file")
    good = np.isfinite(pixels).all(axis=1)
    largest = np.abs(np.where(good[:, None], pixels, 0)).max(initial=0)
    if largest > np.finfo(np.float32).max:
        raise ValueError(
            f"{file}: values up to {largest:.3g} are more than float32 holds; choose larger units "
            "(xray is in 1e40 erg/s/kpc^2)"
        )
    return np.where(good[:, None], pixels, np.nan).astype(np.float32), good
