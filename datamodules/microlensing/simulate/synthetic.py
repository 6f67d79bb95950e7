"""Simulated microlensing events as a source of light curves."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.microlensing.simulate.cadence import TIME_ZERO, Cadence, RegularCadence
from datamodules.microlensing.simulate.events import Simulation, SingleLensPrior, simulate_block
from datamodules.microlensing.simulate.noise import PhotometricErrors
from datamodules.microlensing.simulate.presets import Preset, Priors, make_ranges
from datamodules.microlensing.source import CHUNK_BYTES, SCHEMA, VERSION, MicrolensingSource
from datamodules.parallel import ParallelOptions, StoreLayout, write_in_blocks
from datamodules.source import check_rules
from lightning_modules.physics.arrays import Array

CADENCE, LABELS, BLOCK = 0, 1, 2
"""First numbers of the spawn keys of the seeds: each has its own stream."""

SAME_SEED_ATTEMPTS = 2
"""A block lost this often is drawn with another seed, and the file says so."""


@dataclass
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
        photometry: Photometric errors.
        quiet_epochs: Epochs long before the event that set the reference flux; with 0 it is the
            mean of the first 30 epochs kept.
        single_lens_prior: `prior` draws single lenses from the same box; `matched` takes the
            best-fitting single lenses of binaries.
        delta_chi2: Whether each binary gets its Delta chi^2, without noise, against the best
            blended single lens with its parallax and source size (and one source).
        min_delta_chi2: Binaries below are drawn again; with `single_lens_prior: prior` the
            classes then differ by this selection too.
        finite_source: Whether sources have a size, in both classes.
        binary_source_share: Share of events, of both classes, whose source is two stars.
        flux_ratio: Range of the second star's flux over the first's.
        coordinates: (ra, dec) of the field in degrees, for parallax.
        block_size: Events computed, and kept or lost, together; part of what fixes the data.
        simulation_workers: Processes; -1 is one a core, 1 computes here.
        backend: joblib backend: `loky`, or `dask` or `ray` where registered.
        timeout: Seconds after which a worker counts as hung.
    """

    preset: Preset = "baseline"
    num_single: int = 10000
    num_binary: int = 10000
    num_flat: int = 0
    num_variable: int = 0
    ranges: dict[str, list[float]] | None = None
    log_mass_ratio: bool = False
    window: list[float] | None = None
    cadence: Cadence | None = None
    missing_fraction: float = 0.2
    photometry: PhotometricErrors | None = None
    quiet_epochs: int = 50
    single_lens_prior: SingleLensPrior = "prior"
    delta_chi2: bool = True
    min_delta_chi2: float = 0.0
    finite_source: bool = True
    binary_source_share: float = 0.0
    flux_ratio: tuple[float, float] = (0.01, 1.0)
    coordinates: tuple[float, float] = (268.0, -29.0)
    block_size: int = 256
    simulation_workers: int = -1
    backend: str = "loky"
    timeout: float = 600.0

    def __post_init__(self) -> None:
        """Put the window and the distribution of events together; refuse what makes no sense."""
        window, ranges = make_ranges(self.preset, self.window, self.ranges or {})
        self.window = list(window)
        log = ("mass_ratio",) if self.log_mass_ratio else ()
        low, high = self.flux_ratio
        self.priors = Priors(ranges, log, self.binary_source_share, (low, high))
        self._window = window
        self._cadence = self.cadence or RegularCadence()
        self._photometry = self.photometry or PhotometricErrors()
        self._check()

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """Numbers of events in the order of the labels."""
        return self.num_single, self.num_binary, self.num_flat, self.num_variable

    def _check(self) -> None:
        """Refuse settings that make no sense."""
        share, prior = self.binary_source_share, self.single_lens_prior
        rules = {
            f"num_single, num_binary, num_flat and num_variable {self.numbers} must not be "
            "negative, and one positive": min(self.numbers) >= 0 and sum(self.numbers) > 0,
            "missing_fraction must be in [0, 1)": 0 <= self.missing_fraction < 1,
            "quiet_epochs must not be negative": self.quiet_epochs >= 0,
            "min_delta_chi2 must not be negative": self.min_delta_chi2 >= 0,
            "single_lens_prior must be prior or matched": prior in ("prior", "matched"),
            "binary_source_share must be in [0, 1]": 0 <= share <= 1,
            "binary sources need single_lens_prior: prior (a matched single lens has one source, "
            "so the second would mark the class)": share == 0 or prior == "prior",
            "block_size must be positive": self.block_size > 0,
            "simulation_workers must be -1 or positive": self.simulation_workers == -1
            or self.simulation_workers > 0,
        }
        check_rules("data.source", rules)

    def parameters(self) -> dict[str, Any]:
        """Return every setting that determines the events."""
        ignored = ("simulation_workers", "backend", "timeout")
        settings = {name: value for name, value in asdict(self).items() if name not in ignored}
        return {
            **settings,
            "priors": asdict(self.priors),
            "cadence": self._cadence.parameters(),
            "photometry": asdict(self._photometry),
        }

    def simulation(self, seed: int) -> Simulation:
        """Put the settings together; the cadence is drawn from the seed."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(CADENCE,)))
        ra, dec = self.coordinates
        return Simulation(
            priors=self.priors,
            photometry=self._photometry,
            times=self._cadence.fields(rng, self._window),
            missing_fraction=self.missing_fraction,
            single_lens_prior=self.single_lens_prior,
            delta_chi2=self.delta_chi2,
            min_delta_chi2=self.min_delta_chi2,
            quiet_epochs=self.quiet_epochs,
            finite_source=self.finite_source,
            ra=ra,
            dec=dec,
        )

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
        simulation, labels = self.simulation(seed), self.labels(seed)
        attributes = {"source": self.parameters(), "seed": seed, "time_zero_jd": TIME_ZERO}
        shared = {"time": simulation.times}
        layout = StoreLayout(SCHEMA, VERSION, attributes, "redrawn", shared, CHUNK_BYTES, "events")
        options = ParallelOptions(self.simulation_workers, self.backend, self.timeout)
        compute = partial(_compute, simulation, labels, seed)
        write_in_blocks(path, compute, len(labels), self.block_size, layout, options)


def _compute(
    simulation: Simulation, labels: Array, seed: int, rows: Array, number: int, lost: int
) -> tuple[dict[str, Array], dict[str, int]]:
    """Compute block `number`; a block lost twice before is drawn with another seed."""
    again = () if lost < SAME_SEED_ATTEMPTS else (lost,)
    sequence = np.random.SeedSequence(seed, spawn_key=(BLOCK, number, *again))
    columns, counts = simulate_block(simulation, labels[rows], sequence)
    return {"name": rows, **columns}, counts
