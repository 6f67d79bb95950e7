"""Appends rows to the HDF5 file of a row store."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


def _as_dataset(values: NDArray[Any]) -> NDArray[Any]:
    """Turn a column into what HDF5 holds: strings to variable-length UTF-8."""
    values = np.asarray(values)
    if values.dtype.kind in "US":
        return values.astype(h5py.string_dtype("utf-8"))
    if values.dtype.kind == "O":
        raise ValueError(f"a column of Python objects (first: {values[:1]!r}) cannot be stored")
    return values


def text_checksum(values: NDArray[Any], before: int = 0) -> int:
    """Return the CRC-32 of strings, each ended by a zero byte.

    Args:
        values: Strings, shape (num_rows,).
        before: The checksum of the strings before these.
    """
    return zlib.crc32("".join(f"{text}\0" for text in values).encode(), before)


class RowWriter:
    """Appends rows to an HDF5 file (see `RowStore.writer`)."""

    def __init__(
        self, file: h5py.File, path: Path, attributes: dict[str, Any], chunk_bytes: int
    ) -> None:
        self.attributes = attributes
        self.num_rows = 0
        self.text_checksums: dict[str, int] = {}
        self._file = file
        self._path = path
        self._chunk_bytes = chunk_bytes

    def append(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Append rows: name to array, all with the same first axis, the same names every time.

        Raises:
            ValueError: If there are no rows, the columns' lengths differ or their names changed.
        """
        lengths = {name: len(values) for name, values in columns.items()}
        if not lengths or min(lengths.values()) == 0:
            raise ValueError(f"{self._path}: nothing to store (columns and lengths: {lengths})")
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{self._path}: columns differ in length: {lengths}")
        if self.num_rows and set(columns) != set(self._file):
            raise ValueError(f"{self._path}: columns {sorted(columns)}, not {sorted(self._file)}")
        count = next(iter(lengths.values()))
        for name, values in columns.items():
            data = _as_dataset(values)
            if self.num_rows == 0:
                self._create(name, data)
            dataset = self._file[name]
            dataset.resize(self.num_rows + count, axis=0)
            dataset[self.num_rows :] = data
            if data.dtype == object:  # HDF5 has no checksum for text of variable length
                before = self.text_checksums.get(name, 0)
                text = np.asarray(values).astype(str)
                self.text_checksums[name] = text_checksum(text, before)
        self.num_rows += count

    def _create(self, name: str, data: NDArray[Any]) -> None:
        """Make an empty dataset like the first rows."""
        row_bytes = max(1, data.nbytes // len(data))
        rows = int(np.clip(self._chunk_bytes // row_bytes, 1, max(len(data), 1024)))
        self._file.create_dataset(
            name,
            shape=(0, *data.shape[1:]),
            maxshape=(None, *data.shape[1:]),
            dtype=data.dtype,
            chunks=(rows, *data.shape[1:]),
            fletcher32=data.dtype != object,
        )
