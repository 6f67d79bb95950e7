"""Catalogue files as a source of stars, with labels from one file or one cluster a file."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.clustering.gaia_columns import UNITS, Missing, StarTable
from datamodules.clustering.readers.validation import Reading, find_column, standardise
from datamodules.clustering.source import ClusteringSource
from datamodules.files import fingerprint
from datamodules.readers.tables import Format, read_raw
from datamodules.source import check_rules
from lightning_modules.physics.arrays import Array


@dataclass
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
            refuses them; `keep` keeps stars of unknown parallax or proper motion (Gaia's
            two-parameter solutions), with NaN, and leaves out others like `drop`. The same holds
            for rows whose correlations cannot be right.
    """

    path: str | list[str]
    column_map: dict[str, str] | None = None
    units: dict[str, str] | None = None
    format: Format = "auto"
    label_column: str | None = None
    label_threshold: float = 0.5
    extra_columns: list[str] | None = None
    missing: Missing = "error"

    def __post_init__(self) -> None:
        """Find the files; refuse what makes no sense."""
        listed = [self.path] if isinstance(self.path, str) else list(self.path)
        self.paths = [Path(path).expanduser().resolve() for path in listed]
        extra, threshold = tuple(self.extra_columns or ()), self.label_threshold
        reserved = sorted(set(extra) & {*UNITS, "source_id", "label", "membership"})
        rules = {
            "path is empty; name at least one catalogue file": bool(listed),
            f"path names a file twice: {listed}": len(set(self.paths)) == len(listed),
            f"label_threshold={threshold} must be in [0, 1)": 0 <= threshold < 1,
            f"extra_columns: {reserved} are kept anyway; remove them": not reserved,
        }
        check_rules("data.source", rules)
        self.reading = Reading(
            self.column_map or {}, self.units or {}, self.missing, extra, self.label_column
        )

    def parameters(self) -> dict[str, Any]:
        """Return the settings, with the place, size and time of every file."""
        return {**asdict(self), "path": [fingerprint(path) for path in self.paths]}

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


def _whole_labels(given: Array, where: str) -> tuple[Array, Array]:
    """Check integer labels; the membership of a labelled star is 1, of a field star 0."""
    label = np.where(np.isnan(given), -1, given)
    low, high = label.min(), label.max()
    if low < -1 or high >= max(len(label), 2):
        raise ValueError(
            f"{where} has the label {low if low < -1 else high:g} for {len(label)} stars; "
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
    pairs = np.unique(np.stack([columns["source_id"], label])[:, label > 0], axis=1)
    conflicts = int(np.sum(np.unique(pairs[0], return_counts=True)[1] > 1))
    for name in ("label", "membership"):
        columns[name][first] = columns[name][top]
    attributes = {
        "origin": [origin for table in tables for origin in table.attributes["origin"]],
        "defaults": sorted({line for table in tables for line in table.attributes["defaults"]}),
        "dropped": {k: v for table in tables for k, v in table.attributes["dropped"].items()},
        "repeated_stars": len(label) - len(first),
        "label_conflicts": conflicts,
    }
    return StarTable({name: v[np.sort(first)] for name, v in columns.items()}, attributes)
