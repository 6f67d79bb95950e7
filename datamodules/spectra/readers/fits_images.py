"""Rows of FITS images and tables, read by number: the rest of a file never enters memory.

The files of the survey exceed 50 GB. They are not memory-mapped, for mapped pages count as memory
of the process: rows that are wanted are read at their place, and nothing else is.
"""

import gzip
import io
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 25
"""Read at a time from a table: 32 MiB."""

_BITPIX = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
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
            last = file[len(file) - 1]
            missing = last.fileinfo()["datLoc"] + last.size - len(content)
            if missing > 0:
                raise _cut_short(path, f"HDU {len(file) - 1}", missing)
            yield file


def _cut_short(path: Path, what: str, missing: int) -> ValueError:
    """Say that the end of a file is missing."""
    return ValueError(f"{path}: {what} lacks its last {missing} bytes; download the file again")


def _refuse_compressed(path: Path) -> None:
    """Refuse files in which rows have no place of their own."""
    with path.open("rb") as file:
        kind = _COMPRESSED.get(file.read(2))
    if kind is not None:
        raise ValueError(f"{path}: compressed by {kind}; decompress it, for rows are read singly")


class _Rows:
    """Rows of equal size that follow each other in a file.

    Attributes:
        path: The file.
        num_rows: How many there are.
    """

    def __init__(
        self, path: Path, offset: int, num_rows: int, row: np.dtype[Any], what: str
    ) -> None:
        self.path = path
        self.num_rows = num_rows
        self._offset = offset
        self._row = row
        missing = offset + num_rows * row.itemsize - path.stat().st_size
        if missing > 0:
            raise _cut_short(path, what, missing)

    def _read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read rows in increasing order, each run of consecutive ones at once."""
        result = np.empty(len(rows), self._row)
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        with self.path.open("rb") as file:
            for first, end in pairwise([*starts, len(rows)]):
                file.seek(self._offset + int(rows[first]) * self._row.itemsize)
                read = file.readinto(result[first:end].view(np.uint8).data)
                if read != (end - first) * self._row.itemsize:
                    raise ValueError(f"{self.path}: ends before row {rows[end - 1]}")
        return result


class ImageRows(_Rows):
    """Rows of the first image of two axes in a FITS file.

    Args:
        path: The file, not compressed.

    Attributes:
        num_pixels: Length of a row.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or has no such image.
    """

    def __init__(self, path: Path) -> None:
        with reading(path), fits.open(path, memmap=True, mode="readonly") as file:
            _refuse_compressed(path)
            plain = (i for i, h in enumerate(file) if not isinstance(h, fits.CompImageHDU))
            number = next((i for i in plain if _axes(file[i]) == 2), None)
            if number is None:
                raise ValueError(
                    f"{path}: no image of two axes in it, not counting compressed ones (funpack); "
                    "is it a contspec file?"
                )
            hdu = file[number]
            header, offset = hdu.header, hdu.fileinfo()["datLoc"]
            self.num_pixels = int(header["NAXIS1"])
            self._scale = header.get("BSCALE", 1), header.get("BZERO", 0)
            value = np.dtype(_BITPIX[header["BITPIX"]])
            num_rows = int(header["NAXIS2"])
        row = np.dtype((value, (self.num_pixels,)))
        self._value = value
        super().__init__(path, offset, num_rows, np.dtype([("row", row)]), f"the image {number}")

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read rows given in increasing order, (n, pixels), in the machine's byte order."""
        values = self._read(rows)["row"]
        native = values.astype(self._value.newbyteorder("="), copy=False)
        return _scaled(native, *self._scale)


class TableRows(_Rows):
    """Rows of a binary table in a FITS file.

    Args:
        path: The file, not compressed.
        extension: Number of the table.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or has no such table.
    """

    def __init__(self, path: Path, extension: int = 1) -> None:
        with reading(path), fits.open(path, memmap=True, mode="readonly") as file:
            _refuse_compressed(path)
            table = file[extension] if len(file) > extension else None
            if not isinstance(table, fits.BinTableHDU):
                raise ValueError(f"{path}: no table in its HDU {extension}; is it a catalogue?")
            offset, num_rows = table.fileinfo()["datLoc"], int(table.header["NAXIS2"])
            row = table.columns.dtype.newbyteorder(">")
            self._scales = {c.name: (c.bscale or 1, c.bzero or 0) for c in table.columns}
            if row.itemsize != table.header["NAXIS1"]:
                raise ValueError(f"{path}: the columns of HDU {extension} do not fill its rows")
        super().__init__(path, offset, num_rows, row, f"the table in HDU {extension}")

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self._row.names or ())

    def is_scalar(self, name: str) -> bool:
        """Tell whether a column has one number a row."""
        kind = self._row[name]
        return kind.shape in ((), (1,)) and kind.base.kind in "iuf"

    def read(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Read whole columns, block by block; text without the blanks at its end."""
        size = max(1, BLOCK_BYTES // self._row.itemsize)
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for first in range(0, self.num_rows, size):
            block = self._read(np.arange(first, min(first + size, self.num_rows)))
            for name in names:
                parts[name].append(self._native(name, block[name]))
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def _native(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Copy a column in the machine's byte order, scaled."""
        if values.dtype.kind == "S":
            return np.char.strip(np.char.decode(values, "ascii", "replace"))
        native = values.astype(values.dtype.newbyteorder("="))
        return _scaled(native, *self._scales[name])


def _axes(hdu: Any) -> int:
    """Count the axes of an image; 0 for a table."""
    return int(hdu.header["NAXIS"]) if hdu.is_image else 0


def _scaled(values: NDArray[Any], scale: float, zero: float) -> NDArray[Any]:
    """Give the physical values; integers stay integers where they can (FITS has no unsigned)."""
    if (scale, zero) == (1, 0):
        return values
    if values.dtype.kind in "iu" and scale == 1 and float(zero).is_integer():
        if zero == 2**63:
            return values.view(np.uint64) ^ np.uint64(2**63)
        return values.astype(np.int64) + int(zero)
    return values * scale + zero
