"""Rows of FITS images and tables, read by number: the rest of a file never enters memory.

The files of the survey exceed 50 GB. Images are not memory-mapped, and tables block by block only,
for mapped pages count as memory of the process.
"""

import gzip
import io
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 25
"""Mapped at a time from a table: 32 MiB."""

_DAMAGE = (OSError, TypeError, ValueError, KeyError, IndexError, EOFError, zlib.error)
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"PK": "zip", b"\xfd7": "xz"}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what astropy raises for a broken file into one sentence.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read as FITS.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; set data.source")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # what is cut short is refused below
            yield
    except _DAMAGE as error:
        if str(path) in str(error) and isinstance(error, ValueError):
            raise
        raise ValueError(
            f"{path}: not a whole FITS file ({' '.join(str(error).split())}); download it again"
        ) from error


@contextmanager
def opened(path: Path) -> Iterator[fits.HDUList]:
    """Open a small file, perhaps `.gz`, and check that it is whole.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read as FITS, or was cut short.
    """
    with reading(path):
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        with fits.open(io.BytesIO(content)) as file:
            check_whole(path, file, len(file) - 1, len(content))
            yield file


@contextmanager
def large_file(path: Path, memmap: bool) -> Iterator[fits.HDUList]:
    """Open a file of which only some rows will be read; refuse one without places for its rows."""
    with reading(path):
        with path.open("rb") as file:
            kind = _COMPRESSED.get(file.read(2))
        if kind is not None:
            raise ValueError(
                f"{path}: compressed by {kind}; decompress it, for rows are read singly"
            )
        with fits.open(path, memmap=memmap) as hdus:
            yield hdus


def check_whole(path: Path, file: fits.HDUList, number: int, size: int) -> None:
    """Refuse a file of `size` bytes in which an HDU lacks its end."""
    missing = file[number].fileinfo()["datLoc"] + file[number].size - size
    if missing > 0:
        raise ValueError(
            f"{path}: HDU {number} lacks its last {missing} bytes; download the file again"
        )


class ImageRows:
    """Rows of the first image of two axes in a FITS file.

    Args:
        path: The file, not compressed.

    Attributes:
        num_rows: Number of rows.
        num_pixels: Length of a row.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or has no such image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with large_file(path, memmap=False) as file:
            plain = (i for i, h in enumerate(file) if not isinstance(h, fits.CompImageHDU))
            number = next((i for i in plain if file[i].is_image and len(file[i].shape) == 2), None)
            if number is None:
                raise ValueError(
                    f"{path}: no image of two axes in it, not counting compressed ones (funpack); "
                    "is it a contspec file?"
                )
            check_whole(path, file, number, path.stat().st_size)
            self._number = number
            self.num_rows, self.num_pixels = file[number].shape

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read rows given in increasing order, each run of consecutive ones at once.

        Args:
            rows: Row numbers, shape (n,).

        Returns:
            Shape (n, pixels), in the machine's byte order.
        """
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
        with large_file(self.path, memmap=False) as file:
            section = file[self._number].section
            parts = [section[int(run[0]) : int(run[-1]) + 1] for run in runs]
            whole = np.concatenate([section[0:0], *parts])
        return whole.astype(whole.dtype.newbyteorder("="), copy=False)


class TableRows:
    """Rows of the binary table in the first extension of a FITS file.

    Args:
        path: The file, not compressed.

    Attributes:
        num_rows: Number of rows.
        names: Names of the columns.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or has no such table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with large_file(path, memmap=True) as file:
            table = file[1] if len(file) > 1 else None
            if not isinstance(table, fits.BinTableHDU):
                raise ValueError(f"{path}: no table in its HDU 1; is it a catalogue?")
            check_whole(path, file, 1, path.stat().st_size)
            self.num_rows = int(table.header["NAXIS2"])
            self._row = table.columns.dtype
            if self._row.itemsize != table.header["NAXIS1"]:
                raise ValueError(f"{path}: the columns of HDU 1 do not fill its rows")
            self.names = list(self._row.names or ())

    def read(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Read whole columns, block by block; text without the blanks at its end."""
        size = max(1, BLOCK_BYTES // self._row.itemsize)
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for first in range(0, self.num_rows, size):
            with large_file(self.path, memmap=True) as file:
                block = file[1].data[first : first + size]
                for name in names:
                    parts[name].append(_native(np.asarray(block[name])))
                del block  # the file stays mapped while anything refers to it
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Copy a column in the machine's byte order."""
    if values.dtype.kind == "S":
        return np.char.strip(np.char.decode(values, "ascii", "replace"))
    return values.astype(values.dtype.newbyteorder("="))
