"""Simulated maps of galaxy clusters as a source."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from datamodules.parallel import ParallelOptions, StoreLayout, write_in_blocks
from datamodules.sidm.simulate.domains import MAX_CROSS_SECTION, Simulation
from datamodules.sidm.simulate.halos import REDSHIFTS
from datamodules.sidm.simulate.maps import (
    OBSERVATION,
    PHYSICAL,
    POPULATION,
    MapKey,
    simulate_map,
    stream,
)
from datamodules.sidm.simulate.observation import MapObservation
from datamodules.sidm.simulate.projection import Grid
from datamodules.sidm.source import CHANNELS, CHUNK_BYTES, SCHEMA, SIDMSource
from datamodules.source import check_rules
from lightning_modules.physics.arrays import Array

SIMULATIONS = (
    Simulation("cdm", 0.0),
    Simulation("sidm_0.1", 0.1),
    Simulation("sidm_0.3", 0.3),
    Simulation("sidm_1", 1.0),
)
"""The cross-sections of BAHAMAS-SIDM."""

LARGEST_SIDE = 8000.0
"""Of a map, kpc; profiles are tabulated to its corners."""

SET_SIZE = 1_000_000
"""Numbers of haloes of one set; no set has more, nor are there more sets in the settings."""

POPULATIONS = {"calibration": SET_SIZE, "hidden": 2 * SET_SIZE}
"""First halo set of the simulations that are added."""

NOISE_SET = 3 * SET_SIZE
"""First halo set of maps of noise, which no cluster shares."""


@dataclass
class SimulatedClusterMaps(SIDMSource):
    """Maps of galaxy clusters whose dark matter scatters with a given cross-section.

    NFW haloes with isothermal Jeans cores, triaxial, rounder in the core, with a brightest galaxy
    that wobbles, gas of a beta model, subhaloes, mergers and the noise of particles. A map is a
    function of `data.seed`, halo set, halo, projection, redshift, cross-section and domain alone.

    Its store has, beyond that of every source, `concentration`, `core_radius` (r1, kpc),
    `bcg_offset` (on the sky, kpc), `cool_core` (0 or 1) and `age` (Gyr), all NaN for noise. Masses
    are those of the main cluster, without its subhaloes and what merges with it.

    Args:
        simulations: The simulations, each a mapping of settings (see `Simulation`); by default
            `cdm`, `sidm_0.1`, `sidm_0.3` and `sidm_1`, of the same clusters.
        num_halos: Clusters of a simulation that does not say its own number.
        num_projections: Lines of sight to each.
        num_redshifts: Snapshots of each, drawn from 0, 0.125, 0.25, 0.375 without repetition.
        num_calibration: Number of further fiducial simulations `calibration_000`, ..., of clusters
            and cross-sections of their own.
        num_hidden: The same of `hidden_000`, ...
        population_size: Clusters of each of these.
        population_range: Their cross-sections are log-uniform in this range, cm^2/g.
        channels: Of `total`, `xray` and `stars`, in this order; `total` by default.
        num_pixels: On a side of a map.
        pixel_scale: Side of a pixel, kpc.
        domain_gap: How far the domain `foreign` is from the fiducial one, 0 to 1.
        observation: Noise and field of view of an observation; none by default.
        block_size: Maps computed and kept together; it changes nothing.
        simulation_workers: Processes; -1 is one a core, 1 computes here.
        backend: joblib backend: `loky`, or `dask` or `ray` where registered.
        timeout: Seconds after which a worker counts as hung.
    """

    simulated: ClassVar[bool] = True

    simulations: list[Simulation] | None = None
    num_halos: int = 600
    num_projections: int = 1
    num_redshifts: int = 1
    num_calibration: int = 0
    num_hidden: int = 0
    population_size: int = 200
    population_range: tuple[float, float] = (0.02, 1.0)
    channels: list[Literal["total", "xray", "stars"]] | None = None
    num_pixels: int = 100
    pixel_scale: float = 20.0
    domain_gap: float = 1.0
    observation: MapObservation | None = None
    block_size: int = 128
    simulation_workers: int = -1
    backend: str = "loky"
    timeout: float = 600.0

    def __post_init__(self) -> None:
        """Take the simulations from mappings of their settings; refuse what makes no sense."""
        given = SIMULATIONS if self.simulations is None else self.simulations
        self.simulations = [_simulation(entry, k) for k, entry in enumerate(given, start=1)]
        self.channels = ["total"] if self.channels is None else list(self.channels)
        check_rules("data.source", self._rules())

    def _rules(self) -> dict[str, bool]:
        """Return what must hold of the settings."""
        runs = self.simulations or []
        names = [run.name for run in runs]
        made = [(run.cross_section, run.domain, run.halo_set) for run in runs]
        sets = [run.halo_set for run in runs]
        sizes = [run.num_halos or 0 for run in runs]
        (low, high), channels = self.population_range, self.channels or []
        counts = ("num_halos", "num_projections", "population_size", "num_pixels", "block_size")
        return {
            "there must be a simulation": bool(runs) or self.num_calibration + self.num_hidden > 0,
            "names that begin with calibration_ or hidden_ are those of the simulations that are "
            "added": not any(name.startswith(("calibration_", "hidden_")) for name in names),
            "simulations must differ in name": len(set(names)) == len(names),
            "simulations must differ in cross_section, domain or halo_set, or their maps are "
            "the same": len(set(made)) == len(made),
            f"halo_set and num_halos must be below {SET_SIZE}": max((*sets, *sizes, self.num_halos))
            < SET_SIZE,
            **{f"{name} must be positive": getattr(self, name) > 0 for name in counts},
            f"num_redshifts must be 1 to {len(REDSHIFTS)}": 1
            <= self.num_redshifts
            <= len(REDSHIFTS),
            "num_calibration and num_hidden must not be negative": min(
                self.num_calibration, self.num_hidden
            )
            >= 0,
            f"population_range must increase, above 0 and up to {MAX_CROSS_SECTION:g} cm^2/g": 0
            < low
            < high
            <= MAX_CROSS_SECTION,
            f"channels must be some of {', '.join(CHANNELS)}, in this order": bool(channels)
            and channels == [name for name in CHANNELS if name in channels],
            "pixel_scale must be positive": self.pixel_scale > 0,
            f"num_pixels times pixel_scale must be at most {LARGEST_SIDE:g} kpc": self.num_pixels
            * self.pixel_scale
            <= LARGEST_SIDE,
            "domain_gap must be in [0, 1]": 0 <= self.domain_gap <= 1,
            "simulation_workers must be -1 or positive": self.simulation_workers == -1
            or self.simulation_workers > 0,
        }

    def parameters(self) -> dict[str, Any]:
        """Return every setting that determines the maps."""
        ignored = ("simulation_workers", "backend", "timeout", "block_size")
        return {name: value for name, value in asdict(self).items() if name not in ignored}

    @cached_property
    def grid(self) -> Grid:
        """The pixels."""
        return Grid(self.num_pixels, self.pixel_scale)

    def all_simulations(self, seed: int) -> list[Simulation]:
        """Return the simulations of the settings and those that are added.

        Args:
            seed: `data.seed`, which fixes the cross-sections of the latter.
        """
        return [*(self.simulations or []), *self._populations(seed)]

    def _populations(self, seed: int) -> list[Simulation]:
        """Return the simulations that are added; the first ones of more are the same."""
        low, high = np.log(self.population_range)
        numbers = {"calibration": self.num_calibration, "hidden": self.num_hidden}
        added = []
        for kind, number in numbers.items():
            rng = stream(seed, POPULATION, POPULATIONS[kind])
            values = np.exp(rng.uniform(low, high, number))
            added += [
                Simulation(
                    f"{kind}_{k:03d}",
                    float(value),
                    num_halos=self.population_size,
                    halo_set=POPULATIONS[kind] + k,
                )
                for k, value in enumerate(values)
            ]
        return added

    def prepare(self, path: Path, seed: int) -> None:
        """Simulate in blocks beside `path`, then join them; a killed run goes on where it was.

        Args:
            path: Store to write.
            seed: Everything random is a function of it.
        """
        simulations = self.all_simulations(seed)
        sizes = np.array([run.num_halos or self.num_halos for run in simulations])
        last = np.cumsum(sizes * self.num_redshifts * self.num_projections)
        attributes = {
            "source": self.parameters(),
            "seed": seed,
            "channels": self.channels,
            "pixel_scale": self.pixel_scale,
            "block_size": self.block_size,
        }
        layout = StoreLayout(SCHEMA, 1, attributes, "counts", {}, CHUNK_BYTES, "maps")
        options = ParallelOptions(self.simulation_workers, self.backend, self.timeout)
        compute = partial(self._compute, simulations, last, seed)
        write_in_blocks(path, compute, int(last[-1]), self.block_size, layout, options)

    def _compute(
        self,
        simulations: list[Simulation],
        last: Array,
        seed: int,
        rows: Array,
        number: int,
        lost: int,
    ) -> tuple[dict[str, Array], dict[str, int]]:
        """Compute the maps of some rows; block and losses make no difference.

        Args:
            simulations: See `all_simulations`.
            last: Row after the last one of each, shape (A,).
            seed: `data.seed`.
            rows: Their numbers, shape (n,).
            number: Of the block.
            lost: How often the block was lost before.
        """
        run = np.searchsorted(last, rows, side="right")
        within = rows - np.concatenate([[0], last])[run]
        within, projection = np.divmod(within, self.num_projections)
        halo, snapshot = np.divmod(within, self.num_redshifts)
        keys = [
            MapKey(simulations[a], *map(int, which))
            for a, *which in zip(run, halo, snapshot, projection, strict=True)
        ]
        maps, good, numbers = self._observed(keys, seed)
        sets = np.array([_halo_set(simulations[a]) for a in run])
        sigma = [simulations[a].cross_section for a in run]
        return {
            "name": rows,
            "halo": sets * SET_SIZE + halo,
            "simulation": np.array([simulations[a].name for a in run]),
            "cross_section": np.array(sigma, dtype=np.float32),
            "projection": projection,
            "map": maps,
            "good": good,
            **numbers,
        }, {"maps": len(rows)}

    def _observed(self, keys: list[MapKey], seed: int) -> tuple[Array, Array, dict[str, Array]]:
        """Return maps (n, C, H, W), good pixels (n, H, W) and the numbers beside them, (n,)."""
        side, channels = self.num_pixels, self.channels or []
        maps = np.empty((len(keys), len(channels), side, side), np.float32)
        good = np.ones((side, side), dtype=bool)
        if self.observation is not None:
            good = self.observation.good(self.grid)
        numbers = []
        for row, which in enumerate(keys):
            pixels, values = simulate_map(which, seed, self.grid, self.domain_gap)
            if self.observation is not None and which.simulation.domain != "noise":
                self.observation.observe(which.stream(seed, OBSERVATION), pixels, self.grid)
            maps[row] = np.where(good, [pixels[name] for name in channels], np.nan)
            numbers.append([values[name] for name in PHYSICAL])
        columns = np.array(numbers, dtype=np.float32).T
        seen = np.repeat(good[None], len(maps), axis=0)
        return maps, seen, dict(zip(PHYSICAL, columns, strict=True))


def _halo_set(simulation: Simulation) -> int:
    """Return the set that the haloes' ids are of; noise shares none with clusters."""
    offset = NOISE_SET if simulation.domain == "noise" else 0
    return offset + simulation.halo_set


def _simulation(entry: Simulation | Mapping[str, Any], number: int) -> Simulation:
    """Take a simulation as it is, or from a mapping of its settings."""
    if isinstance(entry, Simulation):
        return entry
    try:
        return Simulation(**entry)
    except TypeError as error:
        raise ValueError(
            f"data.source.simulations: simulation {number} is {entry!r}; its keys are "
            f"{list(Simulation.__dataclass_fields__)}"
        ) from error
