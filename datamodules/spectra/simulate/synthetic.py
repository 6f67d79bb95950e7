"""Simulated APOGEE spectra as a source."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.parallel import Contents, Execution, write_in_blocks
from datamodules.spectra.continuum import Continuum, describe_continuum, renormalise
from datamodules.spectra.grid import GRIDS, grid_of
from datamodules.spectra.schema import CHUNK_BYTES, SCHEMA, VERSION
from datamodules.spectra.simulate.emulator import FILES, EmulatorSpectrum
from datamodules.spectra.simulate.line_table import Array
from datamodules.spectra.simulate.observation import BROKEN
from datamodules.spectra.simulate.spectra import LineSpectrum, Simulation, simulate_block
from datamodules.spectra.source import SpectraSource
from datamodules.store import RowStore

TOGETHER = 64
"""Rows computed at once; always the same ones, so that results agree to the last bit."""

BROKEN_FRACTIONS = {
    "zero_flux": 0.002,
    "nan_pixels": 0.002,
    "huge_errors": 0.002,
    "missing_labels": 0.005,
    "flagged": 0.005,
}


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
        workers: Processes; -1 is one a core, 1 computes here.
        backend: joblib backend: `loky`, or `dask` or `ray` where registered.
        timeout: Seconds after which a worker counts as hung.
    """

    def __init__(
        self,
        num_spectra: int = 20000,
        grid_pixels: int = 7514,
        emulator_path: str | None = None,
        snr_median: float = 300.0,
        snr_range: tuple[float, float] = (200.0, 1500.0),
        repeat_fraction: float = 0.0,
        broken_fractions: dict[str, float] | None = None,
        scatter: float = 0.0,
        error_floor: float = 0.005,
        renormalise: bool = False,
        block_size: int = 512,
        workers: int = 1,
        backend: str = "loky",
        timeout: float = 600.0,
    ) -> None:
        grid_of(grid_pixels, "data.source.grid_pixels")
        self.emulator_path = emulator_path
        self.settings: dict[str, Any] = {
            "num_spectra": num_spectra,
            "num_pixels": grid_pixels,
            "snr_median": snr_median,
            "snr_range": (snr_range[0], snr_range[1]),
            "repeat_fraction": repeat_fraction,
            "broken_fractions": {**BROKEN_FRACTIONS, **(broken_fractions or {})},
            "scatter": scatter,
            "error_floor": error_floor,
        }
        self.continuum = Continuum(GRIDS[grid_pixels]) if renormalise else None
        self.block_size = block_size
        self.execution = Execution(workers, backend, timeout)
        self._check()

    def _check(self) -> None:
        """Refuse settings that make no sense."""
        given, (low, high) = self.settings, self.settings["snr_range"]
        broken = given["broken_fractions"]
        workers = self.execution.workers
        rules = {
            "num_spectra must be positive": given["num_spectra"] > 0,
            "snr_range must be two increasing positive numbers": 0 < low < high,
            "snr_median must be positive": given["snr_median"] > 0,
            "repeat_fraction must be in [0, 1]": 0 <= given["repeat_fraction"] <= 1,
            f"broken_fractions must name only {', '.join(BROKEN)}": set(broken) == set(BROKEN),
            "broken_fractions must be in [0, 1]": all(0 <= f <= 1 for f in broken.values()),
            "scatter must not be negative": given["scatter"] >= 0,
            "error_floor must be positive": given["error_floor"] > 0,
            f"block_size must be a multiple of {TOGETHER}": self.block_size > 0
            and self.block_size % TOGETHER == 0,
            "workers must be -1 or positive": workers == -1 or workers > 0,
        }
        wrong = [text for text, holds in rules.items() if not holds]
        if wrong:
            raise ValueError(f"data.source: {'; '.join(wrong)}")

    def parameters(self) -> dict[str, Any]:
        """Give every setting that determines the spectra; the emulator by its files' content."""
        settings = {**self.settings, "snr_range": list(self.settings["snr_range"])}
        given = {} if self.continuum is None else {"continuum": self.continuum.parameters()}
        return {**settings, **given, "emulator": self._emulator_digest}

    @cached_property
    def _emulator_digest(self) -> str | None:
        """Give the SHA-256 of the emulator's files, or None without an emulator."""
        if self.emulator_path is None:
            return None
        EmulatorSpectrum(self.emulator_path)  # says what is missing
        digest = hashlib.sha256()
        for name in FILES:
            digest.update((Path(self.emulator_path) / name).read_bytes())
        return digest.hexdigest()

    def simulation(self) -> Simulation:
        """Put the settings together."""
        path = self.emulator_path
        base = LineSpectrum() if path is None else EmulatorSpectrum(path)
        return Simulation(base=base, **self.settings)

    def prepare(self, path: Path, seed: int) -> None:
        """Simulate in blocks beside `path`, then join them; a killed run goes on where it was.

        Args:
            path: Store to write.
            seed: Everything random is a function of it.
        """
        task = SpectraTask(self.simulation(), self.block_size, seed, self.continuum)
        num_pixels = self.settings["num_pixels"]
        attributes, shared = describe_continuum(self.continuum)
        attributes |= {
            "source": self.parameters(),
            "seed": seed,
            "grid": num_pixels,
            "defaults": [],
            "block_size": self.block_size,
        }
        shared["wavelength"] = GRIDS[num_pixels].wavelength
        contents = Contents(SCHEMA, VERSION, attributes, "counts", shared, CHUNK_BYTES, "spectra")
        write_in_blocks(path, task, task.num_blocks, self.block_size, contents, self.execution)


@dataclass
class SpectraTask:
    """Computes one block of spectra and writes its file.

    Attributes:
        simulation: The settings.
        block_size: Rows in a block.
        seed: `data.seed`.
        continuum: What the spectra are divided by, if anything.
    """

    simulation: Simulation
    block_size: int
    seed: int
    continuum: Continuum | None = None

    @property
    def num_blocks(self) -> int:
        """Number of blocks, the last perhaps short."""
        return -(-self.simulation.num_spectra // self.block_size)

    def __call__(self, number: int, lost: int, path: Path) -> int:
        """Compute block `number`; how often it was `lost` before makes no difference."""
        first = number * self.block_size
        rows = np.arange(first, min(first + self.block_size, self.simulation.num_spectra))
        parts = [
            simulate_block(self.simulation, rows[start : start + TOGETHER], self.seed)
            for start in range(0, len(rows), TOGETHER)
        ]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if self.continuum is not None:
            renormalise(columns, self.continuum)
        RowStore.write(path, columns, SCHEMA, VERSION, _counts(columns["broken"]))
        return len(rows)


def _counts(broken: Array) -> dict[str, int]:
    """Count the rows of a block, and those broken in each way."""
    named = {name: int(((broken & bit) != 0).sum()) for name, bit in BROKEN.items()}
    return {"rows": len(broken), **named}
