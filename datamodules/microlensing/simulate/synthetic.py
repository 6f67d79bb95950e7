"""Simulated microlensing events as a source of light curves."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.microlensing.simulate.cadence import TIME_ZERO, Cadence, RegularCadence
from datamodules.microlensing.simulate.events import Negatives, Simulation, simulate_block
from datamodules.microlensing.simulate.noise import PhotometricErrors
from datamodules.microlensing.simulate.presets import Array, Preset, Priors, make_ranges
from datamodules.microlensing.source import CHUNK_BYTES, SCHEMA, VERSION, MicrolensingSource
from datamodules.parallel import Contents, Execution, write_in_blocks
from datamodules.store import RowStore

CADENCE, LABELS, BLOCK = 0, 1, 2
"""First numbers of the spawn keys of the seeds: each has its own stream."""

NUMBERS = ("num_single", "num_binary", "num_flat", "num_variable")
"""Numbers of events, in the order of the labels."""

SETTINGS = (
    "missing_fraction",
    "negatives",
    "delta_chi2",
    "min_delta_chi2",
    "quiet_epochs",
    "finite_source",
    "ra",
    "dec",
)
"""Fields of `Simulation` that are settings as they are."""

SAME_SEED_ATTEMPTS = 2
"""A block lost this often is drawn with another seed, and the file says so."""


class SimulatedEvents(MicrolensingSource):
    """Microlensing events of one lens (PSPL) and of two, from one code path.

    Args:
        preset: Box of parameters: `baseline`, `distinct`, `planetary`, `stellar`, `critical`.
        num_single: Number of events of one lens.
        num_binary: Number of events of two lenses.
        num_flat: Number of constant stars (label 2).
        num_variable: Number of periodic variable stars (label 3).
        ranges: Ranges that replace the preset's, for example `{mass_ratio: [1.0e-4, 1.0]}`. Names:
            separation, mass_ratio, impact_parameter, source_radius, angle, einstein_time,
            peak_time, baseline_magnitude, blend, parallax.
        log_mass_ratio: Whether the mass ratio is uniform in the logarithm.
        window: First and last day; the preset's if None.
        cadence: When the survey looks; 1500 regular epochs if None.
        missing_fraction: Share of the epochs that are lost at random.
        errors: Photometric errors.
        quiet_epochs: Epochs long before the event that set the reference flux; with 0 it is the
            mean of the first 30 epochs kept.
        negatives: `prior` draws single lenses from the same box; `matched` takes the best-fitting
            single lenses of binaries.
        delta_chi2: Whether each binary gets its Delta chi^2, without noise, against the best
            blended single lens with its parallax and source size (and one source).
        min_delta_chi2: Binaries below are drawn again; with `prior` negatives the classes then
            differ by this selection too.
        finite_source: Whether sources have a size, in both classes.
        binary_source_share: Share of events, of both classes, whose source is two stars.
        flux_ratio: Range of the second star's flux over the first's.
        coordinates: (ra, dec) of the field in degrees, for parallax.
        block_size: Events computed, and kept or lost, together; part of what fixes the data.
        workers: Processes; -1 is one a core, 1 computes here.
        backend: joblib backend: `loky`, or `dask` or `ray` where registered.
        timeout: Seconds after which a worker counts as hung.
    """

    def __init__(
        self,
        preset: Preset = "baseline",
        num_single: int = 10000,
        num_binary: int = 10000,
        num_flat: int = 0,
        num_variable: int = 0,
        ranges: dict[str, list[float]] | None = None,
        log_mass_ratio: bool = False,
        window: list[float] | None = None,
        cadence: Cadence | None = None,
        missing_fraction: float = 0.2,
        errors: PhotometricErrors | None = None,
        quiet_epochs: int = 50,
        negatives: Negatives = "prior",
        delta_chi2: bool = True,
        min_delta_chi2: float = 0.0,
        finite_source: bool = True,
        binary_source_share: float = 0.0,
        flux_ratio: tuple[float, float] = (0.01, 1.0),
        coordinates: tuple[float, float] = (268.0, -29.0),
        block_size: int = 256,
        workers: int = -1,
        backend: str = "loky",
        timeout: float = 600.0,
    ) -> None:
        self.preset = preset
        numbers = (num_single, num_binary, num_flat, num_variable)
        self.numbers = dict(zip(NUMBERS, numbers, strict=True))
        self.window, box = make_ranges(preset, window, ranges or {})
        log = ("mass_ratio",) if log_mass_ratio else ()
        self.priors = Priors(box, log, binary_source_share, (flux_ratio[0], flux_ratio[1]))
        self.cadence = cadence or RegularCadence()
        self.errors = errors or PhotometricErrors()
        choices = (missing_fraction, negatives, delta_chi2, min_delta_chi2, quiet_epochs)
        settings = (*choices, finite_source, *coordinates)
        self.settings: dict[str, Any] = dict(zip(SETTINGS, settings, strict=True))
        self.block_size = block_size
        self.execution = Execution(workers, backend, timeout)
        self._check()

    def _check(self) -> None:
        """Refuse settings that make no sense."""
        given, share = self.settings, self.priors.binary_source_share
        rules = {
            f"{self.numbers} must not be negative, and one positive": (
                min(self.numbers.values()) >= 0 and sum(self.numbers.values()) > 0
            ),
            "missing_fraction must be in [0, 1)": 0 <= given["missing_fraction"] < 1,
            "quiet_epochs must not be negative": given["quiet_epochs"] >= 0,
            "min_delta_chi2 must not be negative": given["min_delta_chi2"] >= 0,
            "negatives must be prior or matched": given["negatives"] in ("prior", "matched"),
            "binary_source_share must be in [0, 1]": 0 <= share <= 1,
            "binary sources need negatives: prior (a matched single lens has one source, so the "
            "second would mark the class)": share == 0 or given["negatives"] == "prior",
            "block_size must be positive": self.block_size > 0,
            "workers must be -1 or positive": self.execution.workers == -1
            or self.execution.workers > 0,
        }
        broken = [text for text, holds in rules.items() if not holds]
        if broken:
            raise ValueError(f"data.source: {'; '.join(broken)}")

    def parameters(self) -> dict[str, Any]:
        """Give every setting that determines the events."""
        return {
            "preset": self.preset,
            **self.numbers,
            "window": list(self.window),
            "priors": {**asdict(self.priors), "ranges": _lists(self.priors.ranges)},
            "cadence": self.cadence.parameters(),
            "errors": asdict(self.errors),
            **self.settings,
            "block_size": self.block_size,
        }

    def simulation(self, seed: int) -> Simulation:
        """Put the settings together; the cadence is drawn from the seed."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(CADENCE,)))
        times = self.cadence.fields(rng, self.window)
        return Simulation(self.priors, self.errors, times, **self.settings)

    def labels(self, seed: int) -> Array:
        """Give the class of every event, in random order."""
        labels = np.repeat(np.arange(len(self.numbers)), list(self.numbers.values()))
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(LABELS,)))
        return rng.permutation(labels)

    def prepare(self, path: Path, seed: int) -> None:
        """Simulate in blocks beside `path`, then join them; a killed run goes on where it was.

        Args:
            path: Store to write.
            seed: Everything random is a function of it.
        """
        task = BlockTask(self.simulation(seed), self.labels(seed), self.block_size, seed)
        attributes = {"source": self.parameters(), "seed": seed, "time_zero_jd": TIME_ZERO}
        shared = {"time": task.simulation.times}
        contents = Contents(
            SCHEMA, VERSION, attributes, "redrawn", shared, CHUNK_BYTES, unit="events"
        )
        write_in_blocks(path, task, task.num_blocks, self.block_size, contents, self.execution)


@dataclass
class BlockTask:
    """Computes one block of events and writes its file.

    Attributes:
        simulation: The settings.
        labels: Of all events, shape (N,).
        block_size: Events in a block.
        seed: `data.seed`.
    """

    simulation: Simulation
    labels: Array
    block_size: int
    seed: int

    @property
    def num_blocks(self) -> int:
        """Number of blocks, the last perhaps short."""
        return -(-len(self.labels) // self.block_size)

    def __call__(self, number: int, lost: int, path: Path) -> int:
        """Compute block `number`; a block lost twice before is drawn with another seed."""
        rows = np.arange(len(self.labels))[number * self.block_size :][: self.block_size]
        again = () if lost < SAME_SEED_ATTEMPTS else (lost,)
        seed = np.random.SeedSequence(self.seed, spawn_key=(BLOCK, number, *again))
        columns, counts = simulate_block(self.simulation, self.labels[rows], seed)
        RowStore.write(path, {"name": rows, **columns}, SCHEMA, VERSION, counts)
        return len(rows)


def _lists(ranges: Any) -> dict[str, list[float]]:
    """Write ranges as lists, as JSON gives them back."""
    return {name: list(values) for name, values in ranges.items()}
