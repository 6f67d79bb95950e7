"""Isothermal cores: the closed forms of the isothermal sphere and of NFW, and known values."""

import numpy as np
import pytest

from datamodules.sidm.simulate.halos import HUBBLE
from lightning_modules.physics.isothermal_jeans import (
    CM2_PER_G,
    GYR,
    G,
    isothermal_core,
    isothermal_sphere,
    nfw_density,
    nfw_mass,
    typical_core_radius,
)

MASS, CONCENTRATION, AGE, REDSHIFT = 5e14, 4.5, 7.0, 0.2


@pytest.fixture(scope="module")
def nfw() -> tuple[float, float]:
    """Density and scale radius of a cluster, Msun/kpc^3 and kpc."""
    critical = 3 * HUBBLE**2 * (0.3 * (1 + REDSHIFT) ** 3 + 0.7) / (8 * np.pi * G)
    scale = (MASS / (4 / 3 * np.pi * 200 * critical)) ** (1 / 3) / CONCENTRATION
    return float(MASS / (4 * np.pi * scale**3 * nfw_mass(CONCENTRATION))), float(scale)


def test_the_isothermal_sphere_begins_as_its_series() -> None:
    log_x, h, ratio = isothermal_sphere()
    x = np.exp(log_x)
    small = x < 0.3
    series = -(x**2) / 6 + x**4 / 120 - x**6 / 1890
    np.testing.assert_allclose(h[small], series[small], rtol=1e-5)
    assert ratio[0] == pytest.approx(1 / 3, rel=1e-6)
    assert (np.diff(ratio[x > 0.1]) > 0).all()


@pytest.mark.parametrize("cross_section", [0.01, 0.1, 0.3, 1.0, 2.0])
def test_mass_and_density_are_continuous_at_the_edge(
    nfw: tuple[float, float], cross_section: float
) -> None:
    density, scale = nfw
    core = isothermal_core(density, scale, AGE, cross_section)
    radius = np.geomspace(1e-5, 1.0, 20000) * core.outer_radius
    inside = core.profile(radius)
    mass = np.trapezoid(4 * np.pi * radius**3 * inside, np.log(radius))
    a = core.outer_radius / scale
    assert mass == pytest.approx(4 * np.pi * density * scale**3 * nfw_mass(a), rel=1e-3)
    assert inside[-1] == pytest.approx(density * nfw_density(a), rel=1e-4)


def test_a_particle_scatters_once_at_the_edge(nfw: tuple[float, float]) -> None:
    density, scale = nfw
    core = isothermal_core(density, scale, AGE, 0.3)
    at_edge = density * nfw_density(core.outer_radius / scale)
    speed = 4 / np.sqrt(np.pi) * core.dispersion
    assert at_edge * 0.3 * CM2_PER_G * speed * AGE * GYR == pytest.approx(1, rel=1e-4)
    pressure = np.sqrt(4 * np.pi * G * core.density) * core.radius
    assert core.dispersion == pytest.approx(pressure, rel=1e-6)


@pytest.mark.parametrize(
    ("cross_section", "edge", "radius", "density", "dispersion"),
    [
        (0.01, 1.1, 0.36, 1.0e9, 86),
        (0.1, 49, 14, 2.3e7, 489),
        (0.3, 133, 31, 8.2e6, 659),
        (1.0, 287, 52, 3.8e6, 748),
    ],
)
def test_a_massive_cluster_has_the_known_cores(
    nfw: tuple[float, float],
    cross_section: float,
    edge: float,
    radius: float,
    density: float,
    dispersion: float,
) -> None:
    core = isothermal_core(*nfw, AGE, cross_section)
    found = (core.outer_radius, core.radius, core.density, core.dispersion)
    np.testing.assert_allclose(found, (edge, radius, density, dispersion), rtol=0.04)


def test_a_small_cross_section_leaves_no_core(nfw: tuple[float, float]) -> None:
    edges = [isothermal_core(*nfw, AGE, sigma).outer_radius for sigma in (1e-3, 1e-2, 0.0)]
    assert edges[0] < 0.02 * edges[1]
    assert edges[0] < 0.05
    assert edges[2] == 0


def test_the_core_of_a_typical_cluster_grows_from_nothing() -> None:
    sigma = np.array([0.0, 0.01, 0.1, 1.0])
    found = typical_core_radius(sigma)
    assert found[0] == 0
    assert (np.diff(found) > 0).all()
    massive = [1.1, 49, 287]  # kpc, at 5e14 Msun
    np.testing.assert_allclose(found[1:] / found[-1], np.array(massive) / 287, atol=0.04)
