"""A Galactic field: distances, velocities and photometry along one line of sight (numpy only).

Three components (thin disc, thick disc, halo) with the densities and velocity ellipsoids of
Bland-Hawthorn & Gerhard (2016); stars are seen from the Sun, so that proper motions carry the
reflex of its motion and shrink with distance as they do on the sky.
"""

import numpy as np

from lightning_modules.physics.arrays import Array

SUN_RADIUS, SUN_HEIGHT = 8.2, 0.02
SUN_VELOCITY = np.array([11.1, 248.0, 7.3])
"""Of the Sun in km/s towards (Galactic centre, rotation, north pole)."""

KMS_PER_MASYR_KPC = 4.740470463
LOCAL_SHARE = np.array([1.0, 0.04, 0.0015])
ROTATION = np.array([228.0, 185.0, 0.0])
DISPERSIONS = np.array([[35.0, 25.0, 20.0], [65.0, 50.0, 45.0], [145.0, 115.0, 105.0]])
"""Rows thin disc, thick disc, halo: km/s along (radius, rotation, height)."""

LUMINOSITY = np.array(
    [
        [-3.0, 0.0, 2.0, 4.0, 6.0, 8.0, 12.0, 15.0],
        [-5.2, -3.9, -3.2, -2.6, -2.4, -2.4, -1.9, -2.1],
    ]
)
"""Absolute magnitude M_G (first row) and log10 of stars per magnitude (second row)."""

MAIN_SEQUENCE = np.array(
    [
        [-1.0, 1.5, 3.0, 4.7, 6.0, 8.0, 10.0, 12.0, 15.0],
        [0.0, 0.2, 0.55, 0.82, 1.1, 1.8, 2.5, 3.2, 4.6],
    ]
)
GIANTS = np.array([[-3.0, -1.0, 0.5, 3.0], [1.9, 1.5, 1.25, 1.05]])
"""Absolute magnitude M_G (first row) and colour BP-RP (second row) of the nearby field."""

TO_GALACTIC = np.array(
    [
        [-0.0548755604162154, -0.8734370902348850, -0.4838350155487132],
        [0.4941094278755837, -0.4448296299600112, 0.7469822444972189],
        [-0.8676661490190047, -0.1980763734312015, 0.4559837761750669],
    ]
)
"""Rotation from ICRS to Galactic axes (ESA 1997, The Hipparcos Catalogue, vol. 1, eq. 1.5.11)."""


def draw_distances(
    rng: np.random.Generator, count: int, centre: Array, magnitudes: tuple[float, float]
) -> tuple[Array, Array, Array, Array]:
    """Draw stars of a field from density times luminosity function times volume.

    Args:
        rng: Source of randomness.
        count: Number of stars.
        centre: Direction (ra, dec) in degrees.
        magnitudes: Range of apparent G.

    Returns:
        Distance in kpc, component (0 thin disc, 1 thick disc, 2 halo), absolute magnitude and
        apparent G, each of shape (count,).
    """
    distance = np.geomspace(0.03, 60.0, 500)
    absolute = np.linspace(-3.0, 14.5, 176)
    apparent = absolute[None, :] + (distance_modulus(distance) + extinction(distance))[:, None]
    seen = (apparent >= magnitudes[0]) & (apparent <= magnitudes[1])
    luminosity = np.interp(absolute, LUMINOSITY[0], LUMINOSITY[1])
    weight = seen * 10.0 ** luminosity[None, :] * distance[:, None] ** 3  # d^2 times log spacing
    cube = density(distance, centre)[:, :, None] * weight[None]
    flat = np.cumsum(cube.ravel())
    if flat[-1] <= 0:
        raise ValueError(
            f"no field star can have G in {list(magnitudes)}; widen data.source.magnitudes"
        )
    cell = np.searchsorted(flat, rng.random(count) * flat[-1], side="right")
    component, row, column = np.unravel_index(cell, cube.shape)
    step = np.log(distance[1] / distance[0])
    true = distance[row] * np.exp(step * (rng.random(count) - 0.5))
    magnitude = absolute[column] + 0.1 * (rng.random(count) - 0.5)
    g = magnitude + distance_modulus(true) + extinction(true)
    return true, component, magnitude, np.clip(g, *magnitudes)


def distance_modulus(distance: Array) -> Array:
    """Return m - M of a distance in kpc."""
    return 5.0 * np.log10(distance) + 10.0


def extinction(distance: Array) -> Array:
    """Return A_G in magnitudes of a distance in kpc: dust close to the plane, 0.4 at the most."""
    return 0.4 * (1.0 - np.exp(-distance / 1.0))


def density(distance: Array, centre: Array) -> Array:
    """Return the star density of the three components along a direction, relative to the Sun's.

    Returns:
        Shape (3, len(distance)).
    """
    position = galactocentric(distance, np.tile(centre, (len(distance), 1)))
    radius = np.hypot(position[:, 0], position[:, 1])
    height = np.abs(position[:, 2])
    sphere = np.maximum(np.sqrt(radius**2 + (height / 0.7) ** 2), 0.5)
    shapes = [
        np.exp(-(radius - SUN_RADIUS) / 2.6 - height / 0.3),
        np.exp(-(radius - SUN_RADIUS) / 2.0 - height / 0.9),
        (sphere / SUN_RADIUS) ** -2.7,
    ]
    return LOCAL_SHARE[:, None] * np.stack(shapes)


def galactocentric(distance: Array, directions: Array) -> Array:
    """Return positions in kpc along (from centre to Sun, rotation, north pole), shape (n, 3)."""
    x, y, z = (distance[:, None] * _axes(directions)[2] @ TO_GALACTIC.T).T
    return np.stack([SUN_RADIUS - x, y, z + SUN_HEIGHT], axis=1)


def draw_proper_motions(
    rng: np.random.Generator, distance: Array, component: Array, directions: Array
) -> tuple[Array, Array]:
    """Draw proper motions from the velocity ellipsoids, relative to the Sun.

    Args:
        rng: Source of randomness.
        distance: kpc, shape (n,).
        component: Row of the tables above, shape (n,).
        directions: (ra, dec) in degrees, shape (n, 2).

    Returns:
        mu_alpha* and mu_delta in mas/yr.
    """
    position = galactocentric(distance, directions)
    radius = np.maximum(np.hypot(position[:, 0], position[:, 1]), 1e-3)
    cosine, sine = position[:, 0] / radius, position[:, 1] / radius
    out, along, up = (DISPERSIONS[component] * rng.standard_normal((len(distance), 3))).T
    along = along + ROTATION[component]
    velocity = np.stack([-out * cosine + along * sine, out * sine + along * cosine, up], axis=1)
    equatorial = (velocity - SUN_VELOCITY) @ TO_GALACTIC
    east, north, _ = _axes(directions)
    scale = KMS_PER_MASYR_KPC * distance
    return np.sum(equatorial * east, axis=1) / scale, np.sum(equatorial * north, axis=1) / scale


def draw_colours(rng: np.random.Generator, absolute: Array, distance: Array) -> Array:
    """Draw BP-RP of field stars: main sequence and giants of many metallicities, reddened."""
    giant = rng.random(len(absolute)) < np.clip((4.0 - absolute) / 3.0, 0.0, 0.9)
    sequence = np.interp(absolute, *MAIN_SEQUENCE)
    colour = np.where(giant, np.interp(absolute, *GIANTS), sequence)
    return colour + 0.12 * rng.standard_normal(len(absolute)) + 0.5 * extinction(distance)


def _axes(directions: Array) -> tuple[Array, Array, Array]:
    """Return unit vectors to the east, to the north and along the line of sight, each (n, 3)."""
    ra, dec = np.radians(directions).T
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=1)
    sight = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    return east, np.cross(sight, east), sight
