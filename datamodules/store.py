"""The HDF5 row store: written once, atomically; read by whole blocks; refuses what is broken.

First axis the object. Strings are UTF-8, attributes are JSON, every chunk carries a Fletcher-32
checksum. Nothing read from a store is ever unpickled.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from datamodules.files import atomic_path
from datamodules.store_writer import RowWriter, text_checksum

CHUNK_BYTES = 1 << 20
FORMAT = "astrolit.rows"
SHARED = "shared"
# What h5py and json raise where bytes of a file's structure are wrong.
DAMAGE = (OSError, LookupError, RuntimeError, UnicodeError)


class RowStore:
    """A table of objects in one HDF5 file.

    Opened lazily in each process (h5py handles must not cross a fork).

    Args:
        path: The file.
        schema: The schema that the file must have, if any.
        version: The version of it that the file must have, if any.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, not a row store, or of another schema or version.
    """

    def __init__(
        self, path: str | Path, schema: str | None = None, version: int | None = None
    ) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such row store; run `astrolit prepare` first")
        self._file: h5py.File | None = None
        self._pid = -1
        self._checked: set[str] = set()
        """Text columns whose bytes were found right."""
        with self._damage():
            header = self._header()
            self.schema: str = header["schema"]
            self.version: int = header["version"]
            self.attributes: dict[str, Any] = header["attributes"]
            self.num_rows: int = header["num_rows"]
            self.names: list[str] = sorted(set(self._open().keys()) - {SHARED})
            self._check(schema, version)

    @classmethod
    def write(
        cls,
        path: str | Path,
        columns: Mapping[str, NDArray[Any]],
        schema: str,
        version: int = 1,
        attributes: Mapping[str, Any] | None = None,
    ) -> "RowStore":
        """Write columns to a new file, atomically, and open it.

        Args:
            path: The file; replaced if it exists.
            columns: Name to array, all with the same first axis.
            schema: Name of the layout, such as `astrolit.clustering`.
            version: Version of the layout.
            attributes: Plain values that say how the file was made (stored as JSON).

        Raises:
            ValueError: If there are no rows or the columns' lengths differ.
        """
        with cls.writer(path, schema, version, attributes) as writer:
            writer.append(columns)
        return cls(path, schema)

    @classmethod
    @contextmanager
    def writer(
        cls,
        path: str | Path,
        schema: str,
        version: int = 1,
        attributes: Mapping[str, Any] | None = None,
        shared: Mapping[str, NDArray[Any]] | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> Iterator[RowWriter]:
        """Write a file part by part, in flat memory; it appears, complete, when the block ends.

        Args:
            path: The file; replaced if it exists.
            schema: Name of the layout.
            version: Version of the layout.
            attributes: Plain values that say how the file was made (stored as JSON).
            shared: Arrays that belong to all rows, such as a common grid.
            chunk_bytes: Size of a chunk; small ones suit tables that are read in random order.

        Yields:
            The writer; its `attributes` may be changed until the block ends.
        """
        # "latest" gives every part of the file's structure a checksum.
        opened = partial(h5py.File, mode="w", libver="latest")
        with atomic_path(Path(path)) as temporary, opened(temporary) as file:
            writer = RowWriter(file, Path(path), dict(attributes or {}), chunk_bytes)
            yield writer
            if writer.num_rows == 0:
                raise ValueError(f"{path}: nothing to store: there are no rows")
            for name, values in (shared or {}).items():
                file.create_dataset(f"{SHARED}/{name}", data=values, chunks=True, fletcher32=True)
            for name, checksum in writer.text_checksums.items():
                file[name].attrs["crc32"] = checksum
            header = {"schema": schema, "version": version, "num_rows": writer.num_rows}
            file.attrs["format"] = FORMAT
            file.attrs["header"] = json.dumps({**header, "attributes": writer.attributes})

    def read(
        self, names: Sequence[str] | None = None, rows: slice | NDArray[np.int64] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Read columns, whole or by rows.

        Rows in any order and with repeats are read by contiguous blocks (fancy indexing of
        chunked HDF5 sets is some 40 times slower).

        Args:
            names: Columns; all by default.
            rows: Slice or int64 row numbers, shape (n,); all by default.

        Returns:
            Name to array with first axis the rows asked for.

        Raises:
            ValueError: If a column is missing or its bytes fail the checksum.
        """
        wanted = self.names if names is None else list(names)
        missing = sorted(set(wanted) - set(self.names))
        if missing:
            raise ValueError(f"{self.path}: no column {missing}; it has {self.names}")
        with self._damage():
            return {name: self._column(name, rows) for name in wanted}

    @property
    def scalars(self) -> list[str]:
        """Names of the columns with one value a row."""
        return [name for name in self.names if self._open()[name].ndim == 1]

    def read_shared(self, name: str) -> NDArray[Any]:
        """Read an array that belongs to all rows."""
        group = self._open().get(SHARED, {})
        if name not in group:
            raise ValueError(f"{self.path}: no shared array {name!r}; it has {sorted(group)}")
        with self._damage():
            return np.asarray(group[name][...])

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Turn HDF5's errors of reading into one that says what to do."""
        try:
            yield
        except DAMAGE as error:
            raise ValueError(
                f"{self.path}: damaged ({error}); delete it and run `astrolit prepare` again"
            ) from error

    def _column(self, name: str, rows: slice | NDArray[np.int64] | None) -> NDArray[Any]:
        """Read one column."""
        dataset = self._open()[name]
        if h5py.check_string_dtype(dataset.dtype) is not None:
            if name in self._checked and isinstance(rows, np.ndarray) and len(rows):
                low, high = int(rows.min()), int(rows.max()) + 1
                return np.asarray(dataset.asstr()[low:high]).astype(str)[rows - low]
            values = np.asarray(dataset.asstr()[:]).astype(str)
            checksum = dataset.attrs.get("crc32")
            if checksum is not None and checksum != text_checksum(values):
                raise OSError(f"wrong checksum of the text column {name}")
            self._checked.add(name)
            return values if rows is None else values[rows]
        if rows is None or isinstance(rows, slice):
            return np.asarray(dataset[rows if rows is not None else slice(None)])
        return self._gather(dataset, np.asarray(rows, dtype=np.int64))

    @staticmethod
    def _gather(dataset: h5py.Dataset, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read arbitrary rows, chunk by chunk in file order."""
        result = np.empty((len(rows), *dataset.shape[1:]), dataset.dtype)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(dataset)):
            raise ValueError(
                f"row numbers {rows.min()}..{rows.max()} outside 0..{len(dataset) - 1}"
            )
        order = np.argsort(rows, kind="stable")
        blocks = rows[order] // dataset.chunks[0]
        edges = np.flatnonzero(np.diff(blocks)) + 1
        for part in np.split(order, edges) if len(rows) else []:
            low, high = int(rows[part[0]]), int(rows[part[-1]]) + 1
            block = np.empty((high - low, *dataset.shape[1:]), dataset.dtype)
            dataset.read_direct(block, np.s_[low:high])
            result[part] = block[rows[part] - low]
        return result

    def _header(self) -> dict[str, Any]:
        """Read and check the header."""
        attributes = self._open().attrs
        if attributes.get("format") != FORMAT:
            raise ValueError(f"{self.path}: an HDF5 file, but not an astrolit row store")
        try:
            header: dict[str, Any] = json.loads(attributes["header"])
        except json.JSONDecodeError as error:
            raise OSError(f"its header is not JSON: {error}") from error
        return header

    def _check(self, schema: str | None, version: int | None) -> None:
        """Refuse another schema or version, and columns of the wrong length."""
        if schema is not None and schema != self.schema:
            raise ValueError(f"{self.path}: schema {self.schema!r}, but {schema!r} is needed")
        if version is not None and version != self.version:
            raise ValueError(
                f"{self.path}: version {self.version} of {self.schema}, but {version} is needed; "
                "delete it and run `astrolit prepare` again"
            )
        for name in self.names:
            if len(self._open()[name]) != self.num_rows:
                raise ValueError(
                    f"{self.path}: column {name} has {len(self._open()[name])} rows of "
                    f"{self.num_rows}; delete the file and run `astrolit prepare` again"
                )

    def _open(self) -> h5py.File:
        """Open the file once in each process."""
        if self._file is None or self._pid != os.getpid():
            try:
                self._file = h5py.File(self.path, "r")
            except OSError as error:
                raise ValueError(
                    f"{self.path}: not a readable HDF5 file, perhaps truncated ({error}); "
                    "delete it and run `astrolit prepare` again"
                ) from error
            self._pid = os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open handle behind when a worker process is started."""
        return {**self.__dict__, "_file": None, "_pid": -1}
