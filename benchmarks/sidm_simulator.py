"""Speed of the simulator of cluster maps against the plain strategy, in one run.

The plain strategy integrates the line of sight on a fixed grid for each cluster, resolves every
pixel by 3 x 3 points, and adds subhaloes to the whole map one at a time; cores, draws and noise of
particles are the same calls. See `measure.py` for the lines. Run alone:
`python benchmarks/sidm_simulator.py`.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from measure import alternate, quiet, record, report, timed

from datamodules import SimulatedClusterMaps, Simulation
from datamodules.sidm.simulate import components
from datamodules.sidm.simulate.domains import FIDUCIAL, Domain
from datamodules.sidm.simulate.halos import (
    Halo,
    View,
    draw_structure,
    draw_view,
    make_halo,
    sky_shape,
    subhaloes,
)
from datamodules.sidm.simulate.maps import add_particle_noise
from datamodules.sidm.simulate.projection import DEPTH, LOOKUP_RADII, Grid
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.isothermal_jeans import nfw_density

MAPS = 256
PLAIN_MAPS = 16
REPETITIONS = 5
CROSS_SECTION = 0.3
GRID = Grid(100, 20.0)
FINE = (np.arange(300) - 149.5) * GRID.pixel_scale / 3
RADII = np.geomspace(2.0, 3000.0, 400)
DEPTHS = np.concatenate([[0.0], np.geomspace(1.0, DEPTH, 400)])


def plain_image(radii: Array, profile: Array, centre: Array, ratio: Array, angle: float) -> Array:
    """Return the image of a profile, each pixel the mean of 3 x 3 points, shape (100, 100).

    Args:
        radii: Where the profile is given, kpc, shape (n,).
        profile: Surface density there, shape (n,).
        centre: x and y in kpc, shape (2,).
        ratio: Axis ratio at each radius of `FINE`'s points, shape (300, 300) or ().
        angle: Of the long axis.
    """
    x, y = np.meshgrid(FINE - centre[0], FINE - centre[1])
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius = np.sqrt(ratio * u**2 + v**2 / ratio)
    values = np.exp(np.interp(np.log(radius), np.log(radii), np.log(profile)))
    return values.reshape(100, 3, 100, 3).mean(axis=(1, 3))


def plain_maps(halo: Halo, view: View) -> dict[str, Array]:
    """Return noiseless maps of a cluster that does not merge, by the plain strategy.

    Args:
        halo: The cluster.
        view: The line of sight.
    """
    radius = np.hypot(RADII[:, None], DEPTHS)
    outside = halo.density * nfw_density(radius / halo.scale_radius)
    inside = radius < halo.core.outer_radius
    density = np.where(inside, halo.core.profile(radius), outside)
    dark_profile = 2 * np.trapezoid(density, DEPTHS, axis=1)
    centre = 0.35 * GRID.pixel_scale * view.centre
    ratio, angle = sky_shape(halo, view)
    square = (FINE - centre[0]) ** 2 + ((FINE - centre[1]) ** 2)[:, None]
    rounder = 0.6 * (1 - ratio) * np.exp(-square / (1.5 * halo.core.outer_radius) ** 2)
    gas_centre = centre + components.GAS_OFFSET * (view.sky @ halo.structure.gas)
    star_centre = centre + components.galaxy_offset(halo, view)
    gas, xray = (
        plain_image(LOOKUP_RADII, table, gas_centre, np.array(0.5 * (1 + ratio)), angle)
        for table in components.gas_tables(halo)
    )
    stars = components.galaxy_table(halo)
    maps = {
        "dark": plain_image(RADII, dark_profile, centre, ratio + rounder, angle),
        "gas": gas,
        "xray": xray,
        "stars": plain_image(
            LOOKUP_RADII, stars, star_centre, np.array(min(ratio + 0.1, 1)), angle
        ),
    }
    clumps = plain_subhaloes(halo, view, centre)
    maps["dark"] += clumps
    maps["stars"] += halo.domain.satellite_stars * clumps
    return maps


def plain_subhaloes(halo: Halo, view: View, centre: Array) -> Array:
    """Return the subhaloes' mass, each a spot on the whole map, Msun/kpc^2, shape (100, 100).

    Args:
        halo: The cluster.
        view: The line of sight.
        centre: Of the cluster on the map, kpc, shape (2,).
    """
    x, y = np.meshgrid(GRID.coordinate, GRID.coordinate)
    image = np.zeros(x.shape)
    for mass, position in zip(*subhaloes(halo), strict=True):
        place = view.sky @ position + centre
        size = 12 * (mass / 1e11) ** 0.4 * (1 + 0.6 * halo.cross_section)
        spot = (1 + ((x - place[0]) ** 2 + (y - place[1]) ** 2) / size**2) ** -1.5
        image += mass / (2 * np.pi * size**2) * spot
    return image


def clusters(turn: int, domain: Domain = FIDUCIAL) -> list[tuple[Halo, View]]:
    """Draw clusters that do not merge.

    Args:
        turn: Fixes the clusters.
        domain: Of their simulation.
    """
    drawn = []
    rng = np.random.default_rng(turn)
    while len(drawn) < PLAIN_MAPS:
        structure, view = draw_structure(rng), draw_view(rng)
        if structure.uniform["merger"] >= components.MERGERS:
            drawn.append((make_halo(structure, 0.25, CROSS_SECTION, domain), view))
    return drawn


def plain_seconds(turn: int) -> float:
    """Return CPU seconds of PLAIN_MAPS maps by the plain strategy, in memory."""
    rng = np.random.default_rng(turn)

    def work() -> None:
        for halo, view in clusters(turn):
            add_particle_noise(rng, plain_maps(halo, view), FIDUCIAL, GRID)

    return timed(work)()


def our_seconds(turn: int, folder: Path, channels: list[str]) -> float:
    """Return CPU seconds of MAPS maps, from settings to the finished store.

    Args:
        turn: Fixes the clusters.
        folder: Where the store goes.
        channels: Of the maps.
    """
    runs = [Simulation("sidm", CROSS_SECTION)]
    source = SimulatedClusterMaps(
        runs, MAPS, channels=channels, simulation_workers=1, block_size=MAPS
    )
    return timed(lambda: source.prepare(folder / f"{turn}.h5", turn))()


def disagreement() -> dict[str, float]:
    """Return the median relative difference of our noiseless pixels from the plain ones.

    Without subhaloes, whose spots are ended in ours and not in the plain strategy.
    """
    found: dict[str, list[float]] = {"dark": [], "gas": [], "stars": [], "xray": []}
    for halo, view in clusters(0, replace(FIDUCIAL, subhaloes=0.0)):
        ours, plain = components.surface_densities(halo, view, GRID), plain_maps(halo, view)
        for name, values in found.items():
            values.append(float(np.median(np.abs(ours[name] / plain[name] - 1))))
    return {name: float(np.median(values)) for name, values in found.items()}


def main() -> None:
    """Print time and agreement."""
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        one, three, plain = alternate(
            lambda turn: 1e3 * our_seconds(turn, Path(folder), ["total"]) / MAPS,
            lambda turn: 1e3 * our_seconds(turn, Path(folder), ["total", "xray", "stars"]) / MAPS,
            lambda turn: 1e3 * plain_seconds(turn) / PLAIN_MAPS,
            repetitions=REPETITIONS,
        )
    against = "every pixel resolved, subhaloes one at a time, no store"
    report("sidm/simulator channels=total", "CPU ms a map", one, plain, against)
    report("sidm/simulator channels=total,xray,stars", "CPU ms a map", three, plain, against)
    record("sidm/simulator median relative difference from the plain strategy", **disagreement())


if __name__ == "__main__":
    main()
