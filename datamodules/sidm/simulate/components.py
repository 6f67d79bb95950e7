"""Dark matter, gas and stars of a cluster: surface densities on a map, before any noise."""

import numpy as np
from scipy.special import gamma

from datamodules.sidm.simulate.halos import Halo, View, sky_shape, subhaloes
from datamodules.sidm.simulate.projection import (
    DEPTH,
    LOOKUP_LOG,
    LOOKUP_RADII,
    RADII,
    Grid,
    Shape,
    hernquist_profile,
    line_of_sight,
    lookup_table,
)
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.isothermal_jeans import nfw_density

MERGERS = 0.15
"""Share of clusters that merge with a smaller copy of themselves."""

GAS_LAG = 0.85
"""Distance of a merging cluster's gas over that of its dark matter."""

RAYLEIGH_MEDIAN = 1.1774
"""Median distance from the origin of two standard normal numbers."""

GAS_OFFSET = 12.0
"""Standard deviation of the gas centre from the halo's, on each axis, kpc."""

CM_PER_KPC = 3.0857e21
PROTONS_PER_MSUN = 1.989e33 / 1.6726e-24 / 1.4
"""Protons in a solar mass of gas with helium."""

STAMPS = (5, 10, 20)
"""Half sides in pixels of the squares that subhaloes are drawn in, by their size."""


def dark_matter_profile(halo: Halo) -> Array:
    """Return the projected density of the dark matter at `RADII`, Msun/kpc^2, shape (n,)."""

    def outer(radius: Array) -> Array:
        return halo.density * nfw_density(radius / halo.scale_radius)

    edge = np.sqrt(np.maximum(halo.core.outer_radius**2 - RADII**2, 0.0))
    total = line_of_sight(outer, RADII, edge, DEPTH)
    inside = edge > 0
    total[inside] += line_of_sight(halo.core.profile, RADII[inside], 0.0, edge[inside])
    return total


def gas_tables(halo: Halo) -> Array:
    """Return lookup tables of gas mass (Msun/kpc^2) and X-ray emission (1e40 erg/s/kpc^2).

    A beta model (Cavaliere & Fusco-Femiano 1976); thermal bremsstrahlung emits
    3.0e-27 T^0.5 n_p^2 erg/s/cm^3 (Sarazin 1986, eq. 5.21), with kT = 5 keV at 5e14 Msun. The
    cross-section changes neither (Robertson et al. 2019).

    Returns:
        Shape (2, LOOKUP_SIZE).
    """
    normal, domain = halo.structure.normal, halo.domain
    core = halo.radius * domain.gas_core * np.exp(0.25 * normal["gas_core"])
    core *= 0.3 if halo.cool_core else 1.0
    slope = 1.5 * float(np.clip(0.65 + 0.05 * normal["beta"], 0.5, 0.8))
    mass = domain.gas_fraction * halo.mass * np.exp(0.1 * normal["gas_mass"])
    radius = np.geomspace(1.0, halo.radius, 100)
    shells = 4 * np.pi * radius**2 * (1 + (radius / core) ** 2) ** -slope
    density = mass / np.trapezoid(shells, radius)
    protons = density * PROTONS_PER_MSUN / CM_PER_KPC**3
    temperature = 5.8e7 * (halo.mass / 5e14) ** (2 / 3)
    emission = 3.0e-67 * np.sqrt(temperature) * protons**2 * CM_PER_KPC**3
    log_radius = np.log1p((LOOKUP_RADII / core) ** 2)
    return np.stack(
        [
            projected
            * core
            * gamma(power - 0.5)
            / gamma(power)
            * np.sqrt(np.pi)
            * np.exp((0.5 - power) * log_radius)
            for projected, power in ((density, slope), (emission, 2 * slope))
        ]
    )


def galaxy_table(halo: Halo) -> Array:
    """Return the lookup table of the brightest galaxy, Hernquist's, in Msun/kpc^2."""
    normal = halo.structure.normal
    mass = 1.2e12 * halo.domain.bcg_mass * (halo.mass / 3e14) ** 0.4
    mass *= np.exp(0.35 * normal["bcg_mass"])
    size = float(np.clip(25 * np.exp(0.3 * normal["bcg_size"]), 8, 80))
    log_ratio, log_density = hernquist_profile()
    return np.asarray(
        mass / size**2 * np.exp(np.interp(LOOKUP_LOG - np.log(size), log_ratio, log_density))
    )


def galaxy_offset(halo: Halo, view: View) -> Array:
    """Return where the brightest galaxy is from the halo's centre on the sky, kpc, shape (2,).

    Its median distance is 3.8 kpc in cold dark matter and grows with the core: "wobble"
    (after Harvey et al. 2019; the numbers are a choice).
    """
    root = np.sqrt(halo.cross_section / 0.3)
    scale = (3.8 + 6.0 * root / (1 + 0.35 * root)) / RAYLEIGH_MEDIAN
    return np.asarray(scale * (view.sky @ halo.structure.bcg))


def surface_densities(halo: Halo, view: View, grid: Grid) -> dict[str, Array]:
    """Return noiseless maps of a cluster.

    Args:
        halo: The cluster.
        view: The line of sight.
        grid: The pixels.

    Returns:
        `dark`, `gas`, `stars` in Msun/kpc^2 and `xray` in 1e40 erg/s/kpc^2, each of shape (n, n).
    """
    centre = 0.35 * grid.pixel_scale * view.centre
    tables = (
        lookup_table(dark_matter_profile(halo))[None],
        gas_tables(halo),
        galaxy_table(halo)[None],
    )
    maps = _smooth(halo, view, grid, centre, centre, tables)
    uniform = halo.structure.uniform
    if uniform["merger"] < MERGERS:
        distance = 200 + 600 * uniform["merger_distance"]
        away = distance * (view.sky @ halo.structure.merger)
        fraction = 0.08 + 0.22 * uniform["merger_mass"]
        other = _smooth(halo, view, grid, centre + away, centre + GAS_LAG * away, tables)
        maps = {name: values + fraction * other[name] for name, values in maps.items()}
    clumps = substructure(halo, view, grid, centre)
    maps["dark"] += clumps
    maps["stars"] += halo.domain.satellite_stars * clumps
    return maps


def _smooth(
    halo: Halo, view: View, grid: Grid, centre: Array, gas_centre: Array, tables: tuple[Array, ...]
) -> dict[str, Array]:
    """Return the maps of a cluster without subhaloes, at a place."""
    ratio, angle = sky_shape(halo, view)
    gas_centre = gas_centre + GAS_OFFSET * (view.sky @ halo.structure.gas)
    star_centre = centre + galaxy_offset(halo, view)
    dark_tables, gas, stars = tables
    dark = Shape(centre, ratio, angle, 1.5 * halo.core.outer_radius)
    dark_map = grid.image(dark_tables, dark)[0]
    gas_map, xray = grid.image(gas, Shape(gas_centre, 0.5 * (1 + ratio), angle))
    star_map = grid.image(stars, Shape(star_centre, min(ratio + 0.1, 1.0), angle))[0]
    return {"dark": dark_map, "gas": gas_map, "stars": star_map, "xray": xray}


def substructure(halo: Halo, view: View, grid: Grid, centre: Array) -> Array:
    """Return the mass of subhaloes, cored spots whose sum is their mass, in Msun/kpc^2.

    Args:
        halo: The cluster.
        view: The line of sight.
        grid: The pixels.
        centre: Of the cluster on the map, kpc, shape (2,).
    """
    mass, position = subhaloes(halo)
    place = view.sky @ position.T + centre[:, None]
    size = 12 * (mass / 1e11) ** 0.4 * (1 + 0.6 * min(halo.cross_section, 1.0))
    reach = np.searchsorted(STAMPS[:-1], 8 * size / grid.pixel_scale)
    image = np.zeros((grid.num_pixels, grid.num_pixels))
    for number, half in enumerate(STAMPS):
        chosen = reach == number
        image += _stamps(grid, mass[chosen], size[chosen], place[:, chosen], half)
    return image


def _stamps(grid: Grid, mass: Array, size: Array, place: Array, half: int) -> Array:
    """Return spots (1 + d^2/size^2)^-1.5 in squares of 2 half + 1 pixels, shape (n, n)."""
    pixel = place / grid.pixel_scale + 0.5 * (grid.num_pixels - 1)
    nearest = np.rint(pixel).astype(np.intp)
    seen = ((nearest >= -half) & (nearest < grid.num_pixels + half)).all(axis=0)
    offsets = np.arange(-half, half + 1)
    at = nearest[:, seen, None] + offsets
    dx, dy = ((at - pixel[:, seen, None]) * (grid.pixel_scale / size[seen, None])) ** 2
    distance = 1 + dy[:, :, None] + dx[:, None, :]
    spots = 1 / (distance * np.sqrt(distance))
    spots *= (mass[seen] / (spots.sum(axis=(1, 2)) * grid.area))[:, None, None]
    margin = 2 * half
    side = grid.num_pixels + 2 * margin
    columns, rows = at + margin
    where = rows[:, :, None] * side + columns[:, None, :]
    image = np.bincount(where.ravel(), spots.ravel(), side**2).reshape(side, side)
    return image[margin:-margin, margin:-margin]
