"""The maps of many files, cleaned, with all that is known of them, block by block."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.sidm.readers.map_arrays import FileMaps
from datamodules.sidm.readers.map_columns import Columns, completed, without_halo
from datamodules.sidm.readers.map_table import NAMED, MapTable


class Conversion:
    """One pass over all files of maps: checks, usable maps, columns with defaults.

    Args:
        opened: What opens a file.
        table: What a table says of all maps.

    Attributes:
        problems: Sentences on what was left out.
        defaults: Sentences on what was assumed.
    """

    def __init__(
        self, opened: Callable[[Path], AbstractContextManager[FileMaps]], table: MapTable
    ) -> None:
        self.opened = opened
        self.table = table
        self.shape: tuple[int, ...] = ()
        self.extra: set[str] = set()
        self.names: set[str] = set()
        self.problems: list[str] = []
        self.defaults: set[str] = set()

    def blocks(self, file: Path, title: str) -> Iterator[Columns]:
        """Yield the usable maps of a file, with all their columns.

        Args:
            file: The file.
            title: What its maps are named by.
        """
        kept, start, lost = 0, 0, []
        with self.opened(file) as maps:
            columns = self._columns(file, title, maps)
            self.defaults |= {*maps.notes}
            for pixels in maps.blocks:
                self._check_shape(file, pixels)
                rows = slice(start, start + len(pixels))
                part = {name: values[rows] for name, values in columns.items()}
                start += len(pixels)
                values, good = _cleaned(pixels, maps.good_pixels(rows), file)
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
        """Refuse a table of other rows than maps."""
        self.defaults |= {*self.table.finish()}

    def _columns(self, file: Path, title: str, maps: FileMaps) -> Columns:
        """Return all columns of a file's maps: its own, then the table's, then defaults."""
        first, default = len(self.names), [f"{title}_{k}" for k in range(maps.count)]
        default = [title] if maps.count == 1 else default
        own = maps.columns.get("name", np.array(default))
        own = np.where(own == "", default, own)
        named = "name" in maps.columns or maps.count == 1
        given = {**maps.columns, "name": own, **self.table.rows(file, own.tolist(), named)}
        given["name"] = np.where(given["name"] == "", own, given["name"])
        if "halo" not in given or without_halo(given["halo"]).any():
            self.defaults.add(
                "maps without a halo id, or with a negative one, count as halos of their own: "
                "several maps of one halo may then fall on both sides of the split"
            )
        columns = completed(given, default, first)
        self._check_names(file, columns["name"].tolist())
        if self.extra and set(columns) != self.extra:
            differ = sorted(set(columns) ^ self.extra)
            raise ValueError(f"{file}: columns {differ} are not in all files; make them alike")
        self.extra = set(columns)
        return columns

    def _check_names(self, file: Path, names: list[str]) -> None:
        """Refuse two maps of one name."""
        for name in names:
            if name in self.names:
                raise ValueError(f"{file}: two maps are named {name!r}; give each its own name")
            self.names.add(name)

    def _check_shape(self, file: Path, pixels: NDArray[Any]) -> None:
        """Refuse maps of another shape than those before."""
        self.shape = self.shape or pixels.shape[1:]
        if pixels.shape[1:] != self.shape:
            raise ValueError(
                f"{file}: maps have the shape {pixels.shape[1:]} (channels, rows, columns), those "
                f"before {self.shape}; bring all to one size"
            )


def _cleaned(
    pixels: NDArray[Any], good: NDArray[np.bool_], file: Path
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return maps in float32, NaN where not good or a channel is not finite; the good pixels.

    Args:
        pixels: Shape (n, C, H, W).
        good: Of the file, shape (n, H, W) or what broadcasts to it.
        file: For messages.

    Raises:
        ValueError: They are no real numbers, or too large.
    """
    if pixels.dtype.kind not in "iufb":
        raise ValueError(f"{file}: maps hold {pixels.dtype}, not real numbers; mend the file")
    good = good & np.isfinite(pixels).all(axis=1)
    largest = np.abs(np.where(good[:, None], pixels, 0)).max(initial=0)
    if largest > np.finfo(np.float32).max:
        raise ValueError(
            f"{file}: values up to {largest:.3g} are more than float32 holds; choose larger units "
            "(xray is in 1e40 erg/s/kpc^2)"
        )
    return np.where(good[:, None], pixels, np.nan).astype(np.float32), good
