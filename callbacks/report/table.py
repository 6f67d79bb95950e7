"""The report that every method writes: `report.json`, `report.csv` and a table on the screen."""

import csv
import json
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, SupportsFloat, runtime_checkable

import numpy as np
from astropy.table import Table as Quantities
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from callbacks.report.quantities import to_rich
from callbacks.run.stop_record import recorded_reason
from datamodules.files import atomic_path

SCHEMA = "astrolit.report/2"


@dataclass(frozen=True)
class Row:
    """One number of a report.

    Args:
        subject: `model`, `model_<variant>` or `baseline/<name>`.
        metric: What was measured.
        slice: `<name>=<value>`, several joined by `/`, or empty.
        value: The number; NaN if it is not defined for this subject.
        std: Its standard deviation over bootstrap resamples of the objects, if computed.
        n: Objects that it was computed from.
    """

    subject: str
    metric: str
    slice: str
    value: float
    std: float | None = None
    n: int | None = None

    @property
    def key(self) -> str:
        """The key of the value in `report.json`; its standard deviation is at `<key>_std`."""
        return "/".join(part for part in (self.subject, self.metric, self.slice) if part)


class Report:
    """Numbers of a model beside its baselines, with what is needed to trust them.

    Args:
        method: The method's word, such as `clustering`.
        split: The splits that the report covers; see `covers`.
        num_objects: Objects in them.
        facts: What made it; see `run_facts`.
    """

    def __init__(self, method: str, split: str = "", num_objects: int = 0, **facts: Any) -> None:
        known = {"schema": SCHEMA, "method": method, "split": split, "num_objects": num_objects}
        self.header: dict[str, Any] = {**known, **facts}
        self.notes: list[str] = []
        self.rows: list[Row] = []
        self.tables: dict[str, Quantities] = {}
        self._keys: set[str] = set()

    def add(
        self,
        subject: str,
        metric: str,
        value: SupportsFloat,
        slice: str = "",
        std: SupportsFloat | None = None,
        n: int | None = None,
    ) -> None:
        """Add one number; see `Row`.

        Raises:
            ValueError: If the report has this number already.
        """
        row = Row(subject, metric, slice, float(value), None if std is None else float(std), n)
        if row.key in self._keys:
            raise ValueError(f"the report has {row.key} already")
        self._keys.add(row.key)
        self.rows.append(row)

    def covers(self, split: str, num_objects: int) -> None:
        """Say which splits the report is about, and how many objects.

        Args:
            split: Names of splits, joined by commas.
            num_objects: In all of them.
        """
        self.header |= {"split": split, "num_objects": num_objects}

    def rows_of(self, metric: str | None = None, subject: str | None = None) -> list[Row]:
        """Return the rows of a metric, of a subject, or of both, in the order added."""
        return [
            row
            for row in self.rows
            if metric in (None, row.metric) and subject in (None, row.subject)
        ]

    def note(self, line: str) -> None:
        """Add one line that the reader must know; printed under the table and saved."""
        self.notes.append(line)

    def attach(self, name: str, table: Quantities) -> None:
        """Add a table of its own, printed and written to `<name>.ecsv`.

        Args:
            name: Of the file.
            table: One row an object; see `callbacks.report.quantities.cells`.
        """
        self.tables[name] = table

    def as_dict(self) -> dict[str, Any]:
        """Return the content of `report.json`: plain values, what is not finite as None."""
        content = {**self.header, "notes": self.notes}
        for row in self.rows:
            content[row.key] = row.value
            if row.std is not None:
                content[f"{row.key}_std"] = row.std
        return {name: to_plain(value) for name, value in content.items()}

    def write(self, folder: Path) -> None:
        """Write `report.json`, `report.csv` and the tables into a folder, each atomically."""
        text = json.dumps(self.as_dict(), indent=2, allow_nan=False, ensure_ascii=False)
        with atomic_path(folder / "report.json") as path:
            path.write_text(text + "\n", encoding="utf-8")
        with atomic_path(folder / "report.csv") as path, path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(field.name for field in fields(Row))
            writer.writerows(map(astuple, self.rows))
        for name, table in self.tables.items():
            with atomic_path(folder / f"{name}.ecsv") as path:
                table.write(path, format="ascii.ecsv")

    def print(self, slices: Iterable[str], console: Console | None = None) -> None:
        """Print a table for each of the slices that the report has, its own tables, the notes."""
        # A log file has no width of its own; wide enough for a model and its baselines.
        width = max(110, 30 + 16 * len({row.subject for row in self.rows}))
        console = console or (Console() if sys.stdout.isatty() else Console(width=width))
        for name in slices:
            if any(row.slice == name for row in self.rows):
                console.print(self._table(name))
        for name, table in self.tables.items():
            console.print(to_rich(name, table))
        reason = self.header.get("stop_reason")
        for line in [*self.notes, *([f"training stopped: {reason}"] if reason else [])]:
            console.print(f"• {line}", style="dim", highlight=False, markup=False)

    def _table(self, slice: str) -> Table:
        """Return the table of one slice: metrics down, subjects across."""
        rows = {(row.metric, row.subject): row for row in self.rows if row.slice == slice}
        metrics = list(dict.fromkeys(metric for metric, _ in rows))
        subjects = list(dict.fromkeys(subject for _, subject in rows))
        table = Table(title=f"{self.header['method']} · {slice or 'all objects'}")
        table.add_column("metric", no_wrap=True)
        for subject in subjects:
            name = subject.replace("/", "/\n").replace("model_", "model\n")
            table.add_column(name, justify="right", no_wrap=True)
        for metric in metrics:
            cells = (rows.get((metric, subject)) for subject in subjects)
            table.add_row(metric, *(format_row(row) for row in cells))
        return table


def format_row(row: Row | None) -> str:
    """Return `value ± std` for a table; a dash for what does not exist or is not defined."""
    if row is None or not math.isfinite(row.value):
        return "-"
    digits = 0 if row.value == round(row.value) and row.std is None else 3
    if row.std is None or not math.isfinite(row.std):
        return f"{row.value:.{digits}f}"
    return f"{row.value:.{digits}f} ± {row.std:.{digits}f}"


@runtime_checkable
class Provenance(Protocol):
    """A datamodule that can say where its data come from."""

    def provenance(self) -> dict[str, Any]:
        """Return plain values that say what the data are."""


def run_facts(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Return seed, checkpoint, stop reason, run record and data provenance of a run."""
    data = getattr(trainer, "datamodule", None)
    seed = os.environ.get("PL_GLOBAL_SEED")
    path = trainer.ckpt_path
    record = getattr(module, "run_record", {}) | (recorded_reason(path) if path else {})
    return {
        "seed": int(seed) if seed is not None else None,
        "checkpoint": str(path) if path else None,
        "stop_reason": record.get("stop_reason"),
        "run_record": record,
        "provenance": data.provenance() if isinstance(data, Provenance) else {},
    }


def to_plain(value: Any) -> Any:
    """Return nested values as JSON holds them: numpy to Python, not finite to None, else `str`."""
    if isinstance(value, dict):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return to_plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
