"""Rows of a table given to maps: by name where both have names, else in the order of the files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.sidm.readers.map_columns import Columns

NAMED = 5
"""Maps that a sentence names at most."""


class MapTable:
    """What a table says of maps.

    A row with a name goes to the map of this name: the one that its file gives it, else that of
    its file, with or without the suffix. Only files of several maps without names, of which the
    table names none, take their rows in order, as do maps if the table has no names.

    Args:
        columns: Each (rows,); nothing if empty.
        suffixes: Of files, which names may have.
        origin: Where the maps are, for messages.

    Raises:
        ValueError: Two rows have one name.
    """

    def __init__(self, columns: Columns, suffixes: Sequence[str], origin: str) -> None:
        self.columns, self.suffixes, self.origin = columns, suffixes, origin
        self.num_rows = len(next(iter(columns.values()), ()))
        self._place: dict[str, int] = {}
        for row, name in enumerate(columns.get("name", ())):
            if name and self._place.setdefault(self._plain(name), row) != row:
                raise ValueError(f"{origin}: two rows of the table are named {str(name)!r}")
        self._by_name: bool | None = None
        self._names: list[str] = []

    def rows(self, file: Path, names: Sequence[str], named: bool) -> Columns:
        """Return the table's columns for the maps of a file, each (n,).

        Args:
            file: Their file, for messages.
            names: Their names, n of them.
            named: Whether these are names that a user gave, not numbers of ours.

        Raises:
            ValueError: Names do not match, or there are too few rows.
        """
        if not self.columns:
            return {}
        plain = [self._plain(name) for name in names]
        by_name = bool(self._place) and (named or any(name in self._place for name in plain))
        first, self._names = len(self._names), [*self._names, *names]
        if self._by_name not in (None, by_name):
            raise ValueError(
                f"{file}: the table names maps of some files and not of others; give an array "
                "'name' to each file of several maps"
            )
        self._by_name = by_name
        if not by_name:
            if self.num_rows < len(self._names):
                raise self._wrong_length(f"{file}: at least {len(self._names)} maps up to here")
            return {n: x[first : first + len(names)] for n, x in self.columns.items()}
        absent = [name for name, one in zip(names, plain, strict=True) if one not in self._place]
        if absent:
            raise ValueError(
                f"{file}: the table has no row named {absent[:NAMED]}, but "
                f"{self.columns['name'][:NAMED].tolist()}; name its rows as the maps, each once"
            )
        places = np.array([self._place[name] for name in plain])
        return {n: x[places] for n, x in self.columns.items() if n != "name"}

    def finish(self) -> list[str]:
        """Refuse a table of other rows than maps; say so where they were taken in order."""
        if not self.columns:
            return []
        if self._by_name:
            unused = sorted({*self._place} - {self._plain(name) for name in self._names})
            if unused:
                raise ValueError(
                    f"{self.origin}: rows of the table name no map: {unused[:NAMED]}; take them out"
                )
            return []
        if self.num_rows != len(self._names):
            raise self._wrong_length(f"{self.origin}: {len(self._names)} maps")
        return [
            "rows of the table are taken in the order of the files: first "
            f"{self._names[0]}, last {self._names[-1]}"
        ]

    def _plain(self, name: str) -> str:
        """Return a name without the suffix of a file."""
        ending = next((end for end in self.suffixes if name.lower().endswith(end)), "")
        return str(name).removesuffix(name[len(name) - len(ending) :])

    def _wrong_length(self, found: str) -> ValueError:
        """Say that the table does not fit the maps."""
        return ValueError(
            f"{found}, but {self.num_rows} rows in the table; give one row a map, in the order of "
            "the files"
        )
