"""Simulated APOGEE spectra as a source."""

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datamodules.parallel import ParallelOptions, StoreLayout, write_in_blocks
from datamodules.source import check_rules
from datamodules.spectra.continuum import Continuum, renormalise
from datamodules.spectra.grid import grid_of
from datamodules.spectra.schema import CHUNK_BYTES, SCHEMA, VERSION
from datamodules.spectra.simulate.emulator import FILES, EmulatorSpectrum
from datamodules.spectra.simulate.line_table import Array
from datamodules.spectra.simulate.observation import BROKEN
from datamodules.spectra.simulate.spectra import Simulation, simulate_block
from datamodules.spectra.source import SpectraSource

TOGETHER = 64
"""Rows computed at once; always the same ones, so that results agree to the last bit."""

BROKEN_FRACTIONS = {**dict.fromkeys(BROKEN, 0.002), "missing_labels": 0.005, "flagged": 0.005}


@dataclass
class SyntheticSpectra(SpectraSource):
    """Spectra of red giants like APOGEE's, with the true factors, nuisances, masks and broken rows.

    Without a file the spectra come from a table of lines. With `emulator_path` they come from a
    quadratic model of real giants, and the labels from real stars.

    Its store has, beyond those of every source, the columns `true_teff`, `true_logg`, `true_fe_h`,
    `true_alpha_m`, `true_<x>_fe` (that of the alpha elements contains [alpha/M]), `true_vmacro`
    and `true_rv` and `true_sky_velocity` (km/s), `true_lsf` (over the nominal width),
    `true_dib_depth`, `true_dib_velocity` (km/s), `true_telluric`, `true_continuum_0` to `_8`;
    `true_flux`; and `broken`, a sum of 1 (all zero), 2 (NaN pixels), 4 (huge errors), 8 (no
    labels), 16 (STAR_BAD and bit 0 of STARFLAG).

    Args:
        num_spectra: Number of spectra.
        grid_pixels: 7514 (DR13 to DR17) or 7214 (DR11 and DR12).
        emulator_path: Folder with `trained_apokasc_gc_ind_feh_fix*.txt` and
            `training_apokasc_gc_ind_feh_fix.txt` of jobovy/apogee; null for the line table. On
            7514 pixels the flux of the 300 pixels that the emulator lacks is 1 before nuisances.
        snr_median: Median of the log-normal distribution of the signal-to-noise ratio.
        snr_range: Smallest and largest signal-to-noise ratio.
        repeat_fraction: Share of the stars observed twice, under one name.
        broken_fractions: Shares of the spectra with `zero_flux`, `nan_pixels`, `huge_errors`,
            `missing_labels`, `flagged`; those not named are as by default (0.2 % each of the
            first three, 0.5 % of the others).
        scatter: Scatter that the errors do not tell of, over the emulator's own (0.2 to 1.7 % a
            pixel); 0 is none.
        error_floor: No error is smaller.
        renormalise: Whether to divide by `Continuum` as well, for a model of spectra that were
            normalised so; `true_continuum_<i>` then is what the division takes away, mostly.
        block_size: Spectra computed and kept together, a multiple of 64; it changes nothing.
        simulation_workers: Processes; -1 is one a core, 1 computes here.
        backend: joblib backend: `loky`, or `dask` or `ray` where registered.
        timeout: Seconds after which a worker counts as hung.
    """

    simulated: ClassVar[bool] = True

    num_spectra: int = 20000
    grid_pixels: int = 7514
    emulator_path: str | None = None
    snr_median: float = 300.0
    snr_range: tuple[float, float] = (200.0, 1500.0)
    repeat_fraction: float = 0.0
    broken_fractions: dict[str, float] | None = None
    scatter: float = 0.0
    error_floor: float = 0.005
    renormalise: bool = False
    block_size: int = 512
    simulation_workers: int = 1
    backend: str = "loky"
    timeout: float = 600.0

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        self._grid = grid_of(self.grid_pixels, "data.source.grid_pixels")
        self.broken_fractions = {**BROKEN_FRACTIONS, **(self.broken_fractions or {})}
        self.continuum = Continuum(self._grid) if self.renormalise else None
        (low, high), broken = self.snr_range, self.broken_fractions
        rules = {
            "num_spectra must be positive": self.num_spectra > 0,
            "snr_range must be two increasing positive numbers": 0 < low < high,
            "snr_median must be positive": self.snr_median > 0,
            "repeat_fraction must be in [0, 1]": 0 <= self.repeat_fraction <= 1,
            f"broken_fractions must name only {', '.join(BROKEN)}": set(broken) == set(BROKEN),
            "broken_fractions must be in [0, 1]": all(0 <= f <= 1 for f in broken.values()),
            "scatter must not be negative": self.scatter >= 0,
            "error_floor must be positive": self.error_floor > 0,
            f"block_size must be a multiple of {TOGETHER}": self.block_size > 0
            and self.block_size % TOGETHER == 0,
            "simulation_workers must be -1 or positive": self.simulation_workers == -1
            or self.simulation_workers > 0,
        }
        check_rules("data.source", rules)

    def parameters(self) -> dict[str, Any]:
        """Return every setting that determines the spectra; the emulator by its files' content."""
        given = {} if self.continuum is None else {"continuum": self.continuum.parameters()}
        return {**self._settings, **given, "emulator": self._emulator_digest}

    @property
    def _settings(self) -> dict[str, Any]:
        """The settings of the simulation, but where the emulator is."""
        names = {option.name for option in fields(Simulation)} - {"emulator_path"}
        return {name: getattr(self, name) for name in sorted(names)}

    @cached_property
    def _emulator_digest(self) -> str | None:
        """Return the SHA-256 of the emulator's files, or None without an emulator."""
        if self.emulator_path is None:
            return None
        EmulatorSpectrum(self.emulator_path)  # says what is missing
        digest = hashlib.sha256()
        for name in FILES:
            digest.update((Path(self.emulator_path) / name).read_bytes())
        return digest.hexdigest()

    def simulation(self) -> Simulation:
        """Put the settings together."""
        return Simulation(**self._settings, emulator_path=self.emulator_path)

    def prepare(self, path: Path, seed: int) -> None:
        """Simulate in blocks beside `path`, then join them; a killed run goes on where it was.

        Args:
            path: Store to write.
            seed: Everything random is a function of it.
        """
        attributes, shared = self.describe(self._grid)
        attributes |= {"seed": seed, "defaults": [], "block_size": self.block_size}
        layout = StoreLayout(SCHEMA, VERSION, attributes, "counts", shared, CHUNK_BYTES, "spectra")
        options = ParallelOptions(self.simulation_workers, self.backend, self.timeout)
        compute = partial(_compute, self.simulation(), seed, self.continuum)
        write_in_blocks(path, compute, self.num_spectra, self.block_size, layout, options)


def _compute(
    simulation: Simulation,
    seed: int,
    continuum: Continuum | None,
    rows: Array,
    number: int,
    lost: int,
) -> tuple[dict[str, Array], dict[str, int]]:
    """Compute the rows of block `number`; how often it was `lost` before makes no difference."""
    parts = [
        simulate_block(simulation, rows[start : start + TOGETHER], seed)
        for start in range(0, len(rows), TOGETHER)
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if continuum is not None:
        renormalise(columns, continuum)
    broken = columns["broken"]
    named = {name: int(((broken & bit) != 0).sum()) for name, bit in BROKEN.items()}
    return columns, {"rows": len(broken), **named}
