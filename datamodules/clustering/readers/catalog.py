"""Catalogue files as a source of stars, with labels from one file or one cluster a file."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.clustering.gaia_columns import UNITS, StarTable
from datamodules.clustering.readers.tables import Format, read_raw
from datamodules.clustering.readers.validation import Reading, find_column, standardise
from datamodules.clustering.source import ClusteringSource
from lightning_modules.physics.arrays import Array


class CatalogFile(ClusteringSource):
    """Star catalogues in FITS, ECSV, CSV, VOTable, parquet or whitespace columns, gzipped or not.

    Gaia's column names are the default and their case does not matter. Required are `source_id`,
    `ra`, `dec`, `parallax`, `pmra`, `pmdec` and the errors of the last three. Position errors,
    correlations, photometry and quality columns are optional; each default taken is reported.
    Units that a file states are converted.

    Labels: a column of integers is the label itself (0 field, 1..K clusters, -1 unknown). A column
    of reals is a membership probability: of several files, file k gives cluster k, so give one
    file for each cluster. A star that is in several files is one row, with the label of its highest
    probability; how many were members of more than one is reported.

    Args:
        path: File, or list of files.
        column_map: Canonical name to the name in the file, for example `{parallax: plx}`.
        units: Canonical name to unit, for files that state none or a wrong one.
        format: Format of the files; `auto` goes by the suffix.
        label_column: Column of labels or of membership probabilities.
        label_threshold: Probability above which a star is a member.
        extra_columns: Further numeric columns to keep, for quality cuts.
        missing: `drop` leaves out rows that lack a required value (and counts them); `error`
            refuses them.
    """

    def __init__(
        self,
        path: str | list[str],
        column_map: dict[str, str] | None = None,
        units: dict[str, str] | None = None,
        format: Format = "auto",
        label_column: str | None = None,
        label_threshold: float = 0.5,
        extra_columns: list[str] | None = None,
        missing: Literal["error", "drop"] = "error",
    ) -> None:
        self.paths = [Path(p).expanduser().resolve() for p in _listed(path)]
        if not self.paths:
            raise ValueError("data.source.path is empty; name at least one catalogue file")
        if len(set(self.paths)) < len(self.paths):
            raise ValueError(f"data.source.path names a file twice: {_listed(path)}")
        if not 0.0 <= label_threshold < 1.0:
            raise ValueError(f"data.source.label_threshold={label_threshold} must be in [0, 1)")
        reserved = sorted(set(extra_columns or []) & {*UNITS, "source_id", "label", "membership"})
        if reserved:
            raise ValueError(f"data.source.extra_columns: {reserved} are kept anyway; remove them")
        self.format: Format = format
        self.label_threshold = label_threshold
        self.reading = Reading(
            column_map or {}, units or {}, missing, tuple(extra_columns or ()), label_column
        )

    def parameters(self) -> dict[str, Any]:
        """Return the settings and the identity (path, size, time) of every file."""
        files = []
        for path in self.paths:
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file; set data.source.path")
            status = path.stat()
            files.append({"path": str(path), "size": status.st_size, "mtime": status.st_mtime_ns})
        return {
            "files": files,
            "format": self.format,
            "column_map": dict(self.reading.column_map),
            "units": dict(self.reading.units),
            "label_column": self.reading.label_column,
            "label_threshold": self.label_threshold,
            "extra_columns": list(self.reading.extra_columns),
            "missing": self.reading.missing,
        }

    def table(self, seed: int = 0) -> StarTable:
        """Read, check and join the files; `seed` has no effect.

        Raises:
            FileNotFoundError: A file does not exist.
            ValueError: A file is broken; the message names the file and the column.
        """
        tables = [self._read(path, number) for number, path in enumerate(self.paths, start=1)]
        return tables[0] if len(tables) == 1 else _join(tables)

    def _read(self, path: Path, number: int) -> StarTable:
        """Read one file and find its labels: label, and probability of being in that cluster."""
        raw = read_raw(path, self.format)
        table = standardise(raw, str(path), self.reading)
        given = table.columns.pop("label_raw", np.full(len(table), np.nan)).astype(np.float64)
        name = self.reading.label_column
        if name is None:
            label, membership = np.full(len(table), -1), given
        else:
            column = find_column(raw, name)
            integer = column is not None and column.dtype.kind in "iub"
            label, membership = (
                _whole_labels(given, f"{path}: column '{name}'")
                if integer
                else self._likely_labels(given, f"{path}: column '{name}'", number)
            )
        table.columns["label"] = label.astype(np.int64)
        table.columns["membership"] = membership.astype(np.float32)
        return table

    def _likely_labels(self, given: Array, where: str, number: int) -> tuple[Array, Array]:
        """Turn membership probabilities into labels: the file's number, 0, or -1 if unknown."""
        if np.any((given < 0) | (given > 1)):
            raise ValueError(
                f"{where} holds neither integer labels nor probabilities in 0..1; "
                "set data.source.label_column to one that does"
            )
        label = np.where(given > self.label_threshold, number, 0)
        return np.where(np.isnan(given), -1, label), given


def _listed(path: str | list[str]) -> list[str]:
    """Return a list of files, whatever was given."""
    return [path] if isinstance(path, str) else list(path)


def _whole_labels(given: Array, where: str) -> tuple[Array, Array]:
    """Check integer labels; the membership of a labelled star is 1, of a field star 0."""
    label = np.where(np.isnan(given), -1, given)
    if label.min() < -1:
        raise ValueError(
            f"{where} has the label {label.min():g}; "
            "labels are 0 (field), 1..K (clusters) and -1 (unknown)"
        )
    if label.max() >= max(len(label), 2):
        raise ValueError(
            f"{where} has the label {label.max():g} for {len(label)} stars; "
            "number the clusters 1..K (0 is the field, -1 unknown)"
        )
    return label, np.where(label < 0, np.nan, label > 0)


def _join(tables: list[StarTable]) -> StarTable:
    """Join tables: one row a star, the label of the highest membership, the first measurement."""
    names = {name for table in tables for name in table.columns}
    columns = {
        name: np.concatenate(
            [t.columns.get(name, np.full(len(t), np.nan, np.float32)) for t in tables]
        )
        for name in sorted(names)
    }
    label, chance = columns["label"], np.nan_to_num(columns["membership"], nan=-1.0)
    best = np.lexsort((-chance, columns["source_id"]))  # stable: the earlier file wins a tie
    ids = columns["source_id"][best]
    top = best[np.r_[True, ids[1:] != ids[:-1]]]
    first = np.unique(columns["source_id"], return_index=True)[1]
    columns["label"], columns["membership"] = label.copy(), columns["membership"].copy()
    for name in ("label", "membership"):
        columns[name][first] = columns[name][top]
    pairs = np.unique(np.stack([columns["source_id"], label])[:, label > 0], axis=1)
    conflicts = int(np.sum(np.unique(pairs[0], return_counts=True)[1] > 1))
    attributes = {
        "origin": [origin for table in tables for origin in table.attributes["origin"]],
        "defaults": sorted({line for table in tables for line in table.attributes["defaults"]}),
        "dropped": {k: v for table in tables for k, v in table.attributes["dropped"].items()},
        "repeated_stars": len(label) - len(first),
        "label_conflicts": conflicts,
    }
    return StarTable({name: v[np.sort(first)] for name, v in columns.items()}, attributes)
