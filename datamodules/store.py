"""The HDF5 row store: written once, atomically; read by whole blocks; refuses what is broken.

First axis the object. Strings are UTF-8, attributes are JSON, every chunk carries a Fletcher-32
checksum. Nothing read from a store is ever unpickled.
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 1 << 20
FORMAT = "astrolit.rows"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` and rename it to `path` only if all went well.

    The temporary file keeps the suffixes of `path` (writers look at them), is fsynced before the
    rename and removed on any error, so that `path` either does not change or is complete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _as_dataset(values: NDArray[Any]) -> NDArray[Any]:
    """Turn a column into what HDF5 holds: strings to variable-length UTF-8."""
    values = np.asarray(values)
    if values.dtype.kind in "US":
        return values.astype(h5py.string_dtype("utf-8"))
    if values.dtype.kind == "O":
        raise ValueError(f"a column of Python objects (first: {values[:1]!r}) cannot be stored")
    return values


class RowStore:
    """A table of objects in one HDF5 file.

    Opened lazily in each process (h5py handles must not cross a fork).

    Args:
        path: The file.
        schema: The schema that the file must have, if any.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, not a row store, or of another schema.
    """

    def __init__(self, path: str | Path, schema: str | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such row store; run `astrolit prepare` first")
        self._file: h5py.File | None = None
        self._pid = -1
        header = self._header()
        self.schema: str = header["schema"]
        self.version: int = header["version"]
        self.attributes: dict[str, Any] = header["attributes"]
        self.num_rows: int = header["num_rows"]
        self.names: list[str] = sorted(self._open().keys())
        self._check(schema)

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
        lengths = {name: len(values) for name, values in columns.items()}
        if not lengths or min(lengths.values()) == 0:
            raise ValueError(f"{path}: nothing to store (columns and lengths: {lengths})")
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{path}: columns differ in length: {lengths}")
        header = {
            "schema": schema,
            "version": version,
            "num_rows": next(iter(lengths.values())),
            "attributes": dict(attributes or {}),
        }
        with atomic_path(Path(path)) as temporary, h5py.File(temporary, "w") as file:
            for name, values in columns.items():
                data = _as_dataset(values)
                row_bytes = max(1, data.nbytes // len(data))
                rows = int(np.clip(CHUNK_BYTES // row_bytes, 1, len(data)))
                file.create_dataset(
                    name, data=data, chunks=(rows, *data.shape[1:]), fletcher32=data.dtype != object
                )
            file.attrs["format"] = FORMAT
            file.attrs["header"] = json.dumps(header)
        return cls(path, schema)

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
        try:
            return {name: self._column(name, rows) for name in wanted}
        except OSError as error:
            raise ValueError(
                f"{self.path}: damaged ({error}); delete it and run `astrolit prepare` again"
            ) from error

    def _column(self, name: str, rows: slice | NDArray[np.int64] | None) -> NDArray[Any]:
        """Read one column."""
        dataset = self._open()[name]
        if h5py.check_string_dtype(dataset.dtype) is not None:
            dataset = dataset.asstr()
            values = np.asarray(dataset[:]).astype(str)
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
        header: dict[str, Any] = json.loads(attributes["header"])
        return header

    def _check(self, schema: str | None) -> None:
        """Refuse another schema and columns of the wrong length."""
        if schema is not None and schema != self.schema:
            raise ValueError(f"{self.path}: schema {self.schema!r}, but {schema!r} is needed")
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
