"""Simulated microlensing events as a source of light curves."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datamodules.microlensing.simulate.cadence import TIME_ZERO, Cadence, RegularCadence
from datamodules.microlensing.simulate.events import simulate_block
from datamodules.microlensing.simulate.presets import EventSettings
from datamodules.microlensing.source import CHUNK_BYTES, SCHEMA, MicrolensingSource
from datamodules.parallel import ParallelOptions, StoreLayout, write_in_blocks
from datamodules.source import check_rules
from lightning_modules.physics.arrays import Array

CADENCE, LABELS, BLOCK = 0, 1, 2
"""First numbers of the spawn keys of the seeds: each has its own stream."""

SAME_SEED_ATTEMPTS = 2
"""A block lost this often is drawn with another seed, and the file says so."""


@dataclass
class SimulatedEvents(EventSettings, MicrolensingSource):
    """Microlensing events of one lens (PSPL) and of two, from one code path.

    Args:
        num_single: Number of events of one lens.
        num_binary: Number of events of two lenses.
        num_flat: Number of constant stars (label 2).
        num_variable: Number of periodic variable stars (label 3).
        cadence: When the survey looks; 1500 regular epochs if None.
        block_size: Events computed, and kept or lost, together; part of what fixes the data.
        simulation_workers: Processes; -1 is one a core, 1 computes here.
        backend: joblib backend: `loky`, or `dask` or `ray` where registered.
        timeout: Seconds after which a worker counts as hung.
    """

    simulated: ClassVar[bool] = True

    num_single: int = 10000
    num_binary: int = 10000
    num_flat: int = 0
    num_variable: int = 0
    cadence: Cadence | None = None
    block_size: int = 256
    simulation_workers: int = -1
    backend: str = "loky"
    timeout: float = 600.0

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense, beside what no settings of events may be."""
        super().__post_init__()
        self.survey = self.cadence or RegularCadence()
        rules = {
            f"num_single, num_binary, num_flat and num_variable {self.numbers} must not be "
            "negative, and one positive": min(self.numbers) >= 0 and sum(self.numbers) > 0,
            "block_size must be positive": self.block_size > 0,
            "simulation_workers must be -1 or positive": self.simulation_workers == -1
            or self.simulation_workers > 0,
        }
        check_rules("data.source", rules)

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """Numbers of events in the order of the labels."""
        return self.num_single, self.num_binary, self.num_flat, self.num_variable

    def parameters(self) -> dict[str, Any]:
        """Return every setting that determines the events."""
        ignored = ("simulation_workers", "backend", "timeout")
        settings = {name: value for name, value in asdict(self).items() if name not in ignored}
        survey, errors = self.survey.parameters(), asdict(self.errors)
        return {**settings, "ranges": self.limits, "cadence": survey, "photometry": errors}

    def times(self, seed: int) -> Array:
        """Draw the epochs of every field, in days, shape (F, T), NaN-padded."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(CADENCE,)))
        return self.survey.fields(rng, self.days)

    def labels(self, seed: int) -> Array:
        """Return the class of every event, in random order, shape (N,) int64."""
        labels = np.repeat(np.arange(len(self.numbers)), self.numbers)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(LABELS,)))
        return rng.permutation(labels)

    def prepare(self, path: Path, seed: int) -> None:
        """Simulate in blocks beside `path`, then join them; a killed run goes on where it was.

        Args:
            path: Store to write.
            seed: Everything random is a function of it.
        """
        times, labels = self.times(seed), self.labels(seed)
        attributes = {"source": self.parameters(), "seed": seed, "time_zero_jd": TIME_ZERO}
        layout = StoreLayout(
            SCHEMA, 1, attributes, "redrawn", {"time": times}, CHUNK_BYTES, "events"
        )
        options = ParallelOptions(self.simulation_workers, self.backend, self.timeout)
        compute = partial(self._compute, times, labels, seed)
        write_in_blocks(path, compute, len(labels), self.block_size, layout, options)

    def _compute(
        self, times: Array, labels: Array, seed: int, rows: Array, number: int, lost: int
    ) -> tuple[dict[str, Array], dict[str, int]]:
        """Compute block `number`; a block lost twice before is drawn with another seed."""
        again = () if lost < SAME_SEED_ATTEMPTS else (lost,)
        sequence = np.random.SeedSequence(seed, spawn_key=(BLOCK, number, *again))
        columns, counts = simulate_block(self, times, labels[rows], sequence)
        return {"name": rows, **columns}, counts
