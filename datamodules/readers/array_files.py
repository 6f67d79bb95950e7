"""Files of named arrays, HDF5 or npz, opened as a table; nothing in them is unpickled."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import h5py
import numpy as np

from datamodules.files import fingerprint
from datamodules.store import FORMAT, RowStore

SUFFIXES = (".h5", ".hdf5", ".npz")
_DAMAGE = (OSError, RuntimeError, KeyError, EOFError, BadZipFile, zlib.error, TokenError)

Arrays = Mapping[str, Any]
"""Name to what has a shape, a dtype and can be cut: an array or a data set."""


@contextmanager
def opened_arrays(
    path: Path, schema: str, version: int, shared: Sequence[str] = ()
) -> Iterator[Arrays]:
    """Open a file as a table of arrays; of a row store, check what it is.

    Args:
        path: The file.
        schema: The schema that a row store must have.
        version: The version of it.
        shared: Arrays that a row store has for all rows and that are wanted, too.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    fingerprint(path)
    try:
        if path.suffix.lower() == ".npz":
            yield _npz(path)
        else:
            with h5py.File(path) as file:
                if file.attrs.get("format") == FORMAT:
                    RowStore(path, schema, version)
                common = file.get("shared", {})
                sets = {**file, **{name: common[name] for name in shared if name in common}}
                yield {name: x for name, x in sets.items() if isinstance(x, h5py.Dataset)}
    except _DAMAGE as error:
        raise ValueError(f"{path}: damaged ({error}); make or download it again") from error


def stored_attributes(path: Path, schema: str, version: int) -> dict[str, Any]:
    """Return the attributes of a row store; none of any other file of arrays.

    Args:
        path: The file.
        schema: The schema that a row store must have.
        version: The version of it.
    """
    if path.suffix.lower() == ".npz":
        return {}
    with h5py.File(path) as file:
        is_store = file.attrs.get("format") == FORMAT
    return RowStore(path, schema, version).attributes if is_store else {}


def _npz(path: Path) -> dict[str, Any]:
    """Read an npz."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (TypeError, ValueError, SyntaxError, MemoryError) as error:
        raise ValueError(f"{path}: not an npz of numbers and text ({error})") from error
