"""Files of real light curves as a source: folders of events, telescopes merged."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datamodules.files import cache_key, fingerprint
from datamodules.microlensing.readers.light_curves import TIME_ZERO, Unit, read_light_curve
from datamodules.microlensing.readers.merging import Event, Reference, merge
from datamodules.microlensing.source import CHUNK_BYTES, SCHEMA, MicrolensingSource
from datamodules.store import RowStore
from lightning_modules.physics.arrays import Array

Paths = str | list[str] | dict[str, str | list[str]]
IGNORED = ("readme", ".md", ".json", ".yaml", ".yml", ".pdf", ".png", "truth.csv")


@dataclass
class LightCurveFiles(MicrolensingSource):
    """Light curves in text files: IPAC tables, CSV, ECSV, whitespace columns, gzipped or not.

    `path` is a file (one event, of its name), a folder, or a list of those. Of a folder each
    subfolder is an event, all its files telescopes of it, and each file beside them an event. A
    mapping names events itself, all files of a name being telescopes:
    `{OB05390: real/OB05390/*.dat}`.

    Args:
        path: Where the files are.
        unit: `mag`, `flux` or `difference_flux`, where the header does not say or has several; a
            survey's own class knows it.
        columns: Names of bare columns in order: time, mag, flux, difference_flux, error, or `-`.
        time_zero: Julian date of the files' time 0; JD, HJD and JD - 2450000 are recognised.
        reference_flux: Flux of the reference image, which a difference flux needs.
        reference: `quiet`: divide by the clipped mean of the main telescope's curve; `first`: by
            the mean of its first 30 epochs, as a live alert would.
        rescale_errors: Whether errors are scaled up to the scatter.
        labels: Event to label (0 one lens, 1 two), where known.
    """

    path: Paths
    unit: Unit | None = None
    columns: list[str] | None = None
    time_zero: float | None = None
    reference_flux: float | None = None
    reference: Reference = "quiet"
    rescale_errors: bool = True
    labels: dict[str, int] | None = None
    survey_unit: ClassVar[Unit | None] = None

    def __post_init__(self) -> None:
        """Take the survey's unit and refuse an unknown reference."""
        if self.reference not in ("quiet", "first"):
            raise ValueError(f"data.source.reference={self.reference!r}: choose quiet or first")
        self.unit = self.unit or self.survey_unit
        self.labels = self.labels or {}

    def files(self) -> dict[str, list[Path]]:
        """List the files of every event.

        Raises:
            FileNotFoundError: A path or pattern matches no file.
            ValueError: Two events have one name, or `labels` names an event that is not there.
        """
        if isinstance(self.path, Mapping):
            events = {name: _matching(given) for name, given in self.path.items()}
        else:
            events = {}
            for given in [self.path] if isinstance(self.path, str) else self.path:
                for name, files in _events_at(Path(given).expanduser()).items():
                    if name in events:
                        raise ValueError(
                            f"{files[0]}: a second event named {name!r}; name events by a mapping "
                            "in data.source.path"
                        )
                    events[name] = files
        unknown = sorted(set(self.labels or {}) - set(events))
        if unknown:
            raise ValueError(f"data.source.labels: {unknown} are none of {sorted(events)}")
        return events

    def parameters(self) -> dict[str, Any]:
        """Return the settings and the identity (path, size, time) of every file."""
        events = self.files()
        lines = (f"{name} {fingerprint(file)}" for name, files in events.items() for file in files)
        num_files = sum(map(len, events.values()))
        return {**asdict(self), "num_files": num_files, "files": cache_key(lines)}

    def events(self) -> list[Event]:
        """Read, check and merge all files.

        Raises:
            FileNotFoundError: A file does not exist.
            ValueError: A file is broken; the message names it.
        """
        settings = (self.unit, self.columns, self.time_zero, self.reference_flux)
        events = []
        for name, files in self.files().items():
            curves = [read_light_curve(file, *settings) for file in files]
            events.append(merge(name, curves, self.reference, self.rescale_errors))
        return events

    def prepare(self, path: Path, seed: int) -> None:
        """Write the events to a row store, padded to the longest; `seed` has no effect."""
        events = self.events()
        longest = max(len(event.time) for event in events)
        problems = [text for event in events for text in event.problems]
        attributes = {"source": self.parameters(), "time_zero_jd": TIME_ZERO, "problems": problems}
        time = _padded([event.time for event in events], longest)
        columns = {
            "name": np.array([event.name for event in events]),
            "flux": _padded([event.flux for event in events], longest).astype(np.float32),
            "flux_error": _padded([event.error for event in events], longest).astype(np.float32),
            "good": np.isfinite(time),
            "label": np.array([(self.labels or {}).get(event.name, -1) for event in events]),
            "delta_chi2": np.full(len(events), np.nan, np.float32),
            "field": np.arange(len(events), dtype=np.int32),
        }
        for name in ("reference_flux", "reference_flux_error"):
            columns[name] = np.array([getattr(event, name) for event in events], np.float32)
        with RowStore.writer(path, SCHEMA, 1, attributes, {"time": time}, CHUNK_BYTES) as writer:
            writer.append(columns)


class OGLELightCurves(LightCurveFiles):
    """OGLE's `phot.dat`: HJD, magnitude, error, and seeing and sky that are not used."""

    survey_unit = "mag"


class MOALightCurves(LightCurveFiles):
    """MOA's difference photometry: time, difference flux, error; needs `reference_flux`."""

    survey_unit = "difference_flux"


class KMTNetLightCurves(LightCurveFiles):
    """KMTNet's pysis files, by their magnitudes: one file a site and field, one folder an event."""

    survey_unit = "mag"


def _events_at(path: Path) -> dict[str, list[Path]]:
    """List the events of a file or folder."""
    if path.is_file():
        return {path.name: [path]}
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder; set data.source.path")
    events = {file.name: [file] for file in _light_curves(path)}
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        files = _light_curves(folder)
        if files:
            events[folder.name] = files
    if not events:
        raise FileNotFoundError(f"{path}: no light curves in this folder; set data.source.path")
    return events


def _light_curves(folder: Path) -> list[Path]:
    """List a folder's files, without those whose names say that they hold something else."""
    files = (entry for entry in folder.iterdir() if entry.is_file())
    ignored = (file for file in files if not file.name.startswith("."))
    return sorted(f for f in ignored if not any(word in f.name.lower() for word in IGNORED))


def _matching(given: str | list[str]) -> list[Path]:
    """List the files of one event from paths and patterns."""
    found: list[Path] = []
    for text in [given] if isinstance(given, str) else given:
        path = Path(text).expanduser()
        files = [path] if path.is_file() else sorted(path.parent.glob(path.name))
        if not files:
            raise FileNotFoundError(f"{text}: matches no file; set data.source.path")
        found += files
    return found


def _padded(rows: Sequence[Array], length: int) -> Array:
    """Stack rows of unequal length, NaN beyond their ends."""
    return np.stack([np.pad(r, (0, length - len(r)), constant_values=np.nan) for r in rows])
