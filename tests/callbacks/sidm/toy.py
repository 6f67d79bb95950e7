"""Populations whose latents are drawn about a known path."""

from collections.abc import Callable

import numpy as np

from callbacks.sidm.coordinate import Coordinate
from callbacks.sidm.populations import Array, Population

COORDINATE = Coordinate(1.0, "log")
KNOWN = {"cdm": 0.0, "sidm_0.1": 0.1, "sidm_0.3": 0.3, "sidm_1": 1.0}

PathFunction = Callable[[float], Array]


def straight(u: float) -> Array:
    """Return the latent mean of a path along the first axis."""
    return np.array([2.0 * u, 0.0, 0.0])


def curved(u: float) -> Array:
    """Return the latent mean of a smooth curve."""
    return np.array([2.0 * u, np.sin(2.0 * u), 0.0])


def draw(
    name: str,
    cross_section: float,
    num_maps: int,
    seed: int,
    path: PathFunction = straight,
    num_members: int = 1,
) -> Population:
    """Return a population with unit scatter about the path, each map of a halo of its own."""
    rng = np.random.default_rng([seed, int(cross_section * 1e6)])
    mean = path(float(COORDINATE.of(cross_section)))
    latent = rng.normal(mean, 1.0, (num_maps, num_members, len(mean)))
    return Population(name, latent, np.arange(num_maps), cross_section)


def known(num_maps: int = 400, path: PathFunction = straight, num_members: int = 1) -> list:
    """Return the known populations, rising."""
    drawn = KNOWN.items()
    return [draw(name, x, num_maps, 7, path, num_members) for name, x in drawn]


def twins(cross_sections: dict[str, float], num_maps: int, seed: int, first_halo: int = 0) -> list:
    """Return populations of the same halos, whose structure makes most of the scatter."""
    rng = np.random.default_rng(seed)
    structure = rng.normal(size=(num_maps, 1, 3))
    found = []
    for name, value in cross_sections.items():
        mean = straight(float(COORDINATE.of(value)))
        latent = mean + structure + 0.2 * rng.normal(size=structure.shape)
        found.append(Population(name, latent, first_halo + np.arange(num_maps), value))
    return found
