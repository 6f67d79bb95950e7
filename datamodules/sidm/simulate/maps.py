"""One map of one cluster: its matter, the noise of its particles, and the columns beside it."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from datamodules.sidm.simulate.components import galaxy_offset, surface_densities
from datamodules.sidm.simulate.domains import DOMAINS, Domain, Simulation, domain_of
from datamodules.sidm.simulate.halos import Halo, draw_structure, draw_view, make_halo
from datamodules.sidm.simulate.projection import Grid
from lightning_modules.physics.arrays import Array

STRUCTURE, VIEW, NOISE, OBSERVATION, POPULATION = range(5)
"""First numbers of the spawn keys of the seeds: each has its own stream."""

STAR_SMOOTHING = 0.6
"""Smoothing of the stars over that of dark matter and gas."""

MAX_COUNT = 1e9
"""Most particles in a pixel; more have no noise to speak of."""

PHYSICAL = (
    "redshift",
    "log_mass",
    "concentration",
    "core_radius",
    "bcg_offset",
    "cool_core",
    "age",
)


@dataclass(frozen=True)
class MapKey:
    """Which map: everything in it is a function of these and of the seed.

    Attributes:
        simulation: Gives cross-section, domain and set of haloes.
        halo: Number of the halo in its set.
        snapshot: Number of the redshift among those of the halo.
        projection: Number of the line of sight.
    """

    simulation: Simulation
    halo: int
    snapshot: int
    projection: int

    def stream(self, seed: int, purpose: int) -> np.random.Generator:
        """Return random numbers of this map alone.

        Args:
            seed: `data.seed`.
            purpose: What they are for, a first number of the spawn keys.
        """
        run = self.simulation
        sigma = int(np.float64(run.cross_section or 0.0).view(np.uint64))
        kind = (sigma, list(DOMAINS).index(run.domain))
        return stream(seed, purpose, run.halo_set, self.halo, self.projection, self.snapshot, *kind)


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random numbers that belong to a key.

    Args:
        seed: `data.seed`.
        key: The first number is what they are for.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def simulate_map(
    which: MapKey, seed: int, grid: Grid, domain_gap: float
) -> tuple[dict[str, Array], dict[str, float]]:
    """Simulate one map.

    Args:
        which: Simulation, halo and line of sight.
        seed: `data.seed`.
        grid: The pixels.
        domain_gap: See `domain_of`.

    Returns:
        `total`, `xray` and `stars`, each of shape (n, n), and the numbers named in `PHYSICAL`.
    """
    simulation = which.simulation
    noise = which.stream(seed, NOISE)
    if simulation.domain == "noise":
        size = (grid.num_pixels, grid.num_pixels)
        pixels = {channel: noise.random(size) for channel in ("total", "xray", "stars")}
        return pixels, dict.fromkeys(PHYSICAL, np.nan)
    domain = domain_of(simulation.domain, domain_gap)
    place = (simulation.halo_set, which.halo)
    structure = draw_structure(stream(seed, STRUCTURE, *place))
    view = draw_view(stream(seed, VIEW, *place, which.projection))
    redshift = float(structure.redshifts[which.snapshot]) + domain.redshift_offset
    halo = make_halo(structure, redshift, simulation.cross_section or 0.0, domain)
    maps = add_particle_noise(noise, surface_densities(halo, view, grid), domain, grid)
    return maps, _numbers(halo, float(np.hypot(*galaxy_offset(halo, view))))


def _numbers(halo: Halo, offset: float) -> dict[str, float]:
    """Return the numbers named in `PHYSICAL`."""
    values = (
        halo.redshift,
        float(np.log10(halo.mass)),
        halo.concentration,
        halo.core.outer_radius,
        offset,
        float(halo.cool_core),
        halo.age,
    )
    return dict(zip(PHYSICAL, values, strict=True))


def add_particle_noise(
    rng: np.random.Generator, maps: dict[str, Array], domain: Domain, grid: Grid
) -> dict[str, Array]:
    """Replace smooth matter by particles, and smooth them as a map-maker would.

    X-rays come from the particles of the gas, and so have their noise.

    Args:
        rng: Source of randomness.
        maps: See `surface_densities`.
        domain: Masses of particles and size of the kernel.
        grid: The pixels.

    Returns:
        `total` and `stars` in Msun/kpc^2, `xray` in 1e40 erg/s/kpc^2, each of shape (n, n).
    """
    dark, gas, stars = (
        _particles(rng, maps[name], mass / grid.area)
        for name, mass in (
            ("dark", domain.particle_mass),
            ("gas", domain.baryon_mass),
            ("stars", domain.baryon_mass),
        )
    )
    kernel = domain.smoothing / grid.pixel_scale
    stars = gaussian_filter(stars, STAR_SMOOTHING * kernel)
    ratio = np.divide(gas, maps["gas"], out=np.zeros_like(gas), where=maps["gas"] > 0)
    return {
        "total": gaussian_filter(dark + gas, kernel) + stars,
        "xray": gaussian_filter(maps["xray"] * ratio, kernel),
        "stars": stars,
    }


def _particles(rng: np.random.Generator, density: Array, quantum: float) -> Array:
    """Return a surface density made of particles of one mass over the pixel's area."""
    return rng.poisson(np.minimum(density / quantum, MAX_COUNT)) * quantum
