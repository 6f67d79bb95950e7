"""Projection against closed forms, and images that keep the mass and the ellipse of a profile."""

import numpy as np
import pytest

from datamodules.sidm.simulate.projection import (
    DEPTH,
    LOOKUP_RADII,
    RADII,
    Grid,
    Shape,
    hernquist_profile,
    line_of_sight,
    lookup_table,
)
from lightning_modules.physics.arrays import Array

GRID = Grid(100, 20.0)
CENTRE = np.array([7.0, -4.0])


def nfw(x: Array) -> Array:
    """Return NFW's surface density over rho_s r_s beyond the scale radius (Bartelmann 1996)."""
    root = np.sqrt(x**2 - 1)
    return 2 / (x**2 - 1) * (1 - 2 / root * np.arctan(np.sqrt((x - 1) / (x + 1))))


def test_the_projection_of_nfw_is_its_closed_form() -> None:
    radius = np.geomspace(1.1, 30.0, 40)
    found = line_of_sight(lambda r: 1 / (r * (1 + r) ** 2), radius, 0.0, 1e6)
    np.testing.assert_allclose(found, nfw(radius), rtol=1e-4)


def test_parts_of_a_line_of_sight_add_up_and_a_slab_has_a_depth() -> None:
    whole = line_of_sight(lambda r: (1 + r**2) ** -1.5, RADII / 50, 0.0, 40.0)
    edge = np.sqrt(np.maximum(9 - (RADII / 50) ** 2, 0))
    inner = line_of_sight(lambda r: (1 + r**2) ** -1.5, RADII / 50, 0.0, edge)
    outer = line_of_sight(lambda r: (1 + r**2) ** -1.5, RADII / 50, edge, 40.0)
    np.testing.assert_allclose(inner + outer, whole, rtol=1e-6)
    square = 1 + (RADII / 50) ** 2
    np.testing.assert_allclose(whole, 80 / (square * np.sqrt(square + 1600)), rtol=1e-5)
    constant = line_of_sight(np.ones_like, RADII[:3], 0.0, DEPTH)
    np.testing.assert_allclose(constant, 2 * DEPTH, rtol=1e-3)


def test_the_brightest_galaxy_is_hernquists() -> None:
    log_ratio, log_density = hernquist_profile()
    s, density = np.exp(log_ratio), np.exp(log_density)
    inside = (s > 0.01) & (s < 0.9)
    t = s[inside]
    x = np.arccosh(1 / t) / np.sqrt(1 - t**2)
    closed = ((2 + t**2) * x - 3) / (2 * np.pi * (1 - t**2) ** 2)
    np.testing.assert_allclose(density[inside], closed, rtol=1e-4)
    mass = np.trapezoid(2 * np.pi * s**2 * density, log_ratio)
    assert mass == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.5])
def test_an_image_has_the_mass_of_its_profile_and_its_ellipse(angle: float) -> None:
    width = 90.0
    table = np.exp(-0.5 * (LOOKUP_RADII / width) ** 2)[None] + 1e-300
    image = GRID.image(table, Shape(CENTRE, 0.6, angle))[0]
    assert image.sum() * GRID.area == pytest.approx(2 * np.pi * width**2, rel=1e-3)
    x, y = np.meshgrid(GRID.coordinate, GRID.coordinate)
    total = image.sum()
    middle = np.array([(x * image).sum(), (y * image).sum()]) / total
    np.testing.assert_allclose(middle, CENTRE, atol=0.05)
    dx, dy = x - middle[0], y - middle[1]
    moments = [[(a * b * image).sum() / total for a in (dx, dy)] for b in (dx, dy)]
    values, vectors = np.linalg.eigh(moments)
    assert np.sqrt(values[0] / values[1]) == pytest.approx(0.6, rel=0.01)
    direction = np.array([np.cos(angle), np.sin(angle)])
    assert abs(vectors[:, 1] @ direction) == pytest.approx(1, abs=1e-3)


def test_a_steep_centre_is_resolved_wherever_it_is() -> None:
    size = 25.0
    log_ratio, log_density = hernquist_profile()
    values = np.exp(np.interp(np.log(RADII / size), log_ratio, log_density)) / size**2
    table = lookup_table(values)[None]
    inner = RADII < 120
    shells = (2 * np.pi * RADII**2 * values)[inner]
    true_share = np.trapezoid(shells, np.log(RADII[inner]))
    x, y = np.meshgrid(GRID.coordinate, GRID.coordinate)
    for place in ([3.0, 6.0], [500.0, -430.0], [940.0, 0.0]):
        image = GRID.image(table, Shape(np.array(place), 1.0, 0.0))[0]
        near = np.hypot(x - place[0], y - place[1]) < 120
        assert image[near].sum() * GRID.area == pytest.approx(true_share, rel=0.05), place


def test_a_core_is_rounder_than_its_outskirts() -> None:
    grid, table = Grid(101, 20.0), (1 / LOOKUP_RADII)[None]
    image = grid.image(table, Shape(np.zeros(2), 0.5, 0.0, round_radius=300.0))[0]
    for pixels, ratio in ((15, 0.5 + 0.3 * np.exp(-1)), (45, 0.5)):
        along, across = image[50, 50 + pixels], image[50 + pixels, 50]
        assert across / along == pytest.approx(ratio, rel=1e-3)
