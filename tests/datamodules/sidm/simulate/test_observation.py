"""Noise and field of view of an observation, against their formulas."""

from typing import Any

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM

from datamodules import MapObservation
from datamodules.sidm.simulate.projection import Grid
from lightning_modules.physics.arrays import Array

GRID = Grid(100, 20.0)


def observed(
    observation: MapObservation, total: float = 1e9, xray: float = 1.0
) -> dict[str, Array]:
    """Observe constant maps."""
    maps = {"total": np.full((100, 100), total), "xray": np.full((100, 100), xray)}
    observation.observe(np.random.default_rng(0), maps, GRID)
    return maps


def test_the_noise_of_a_lensing_map_is_that_of_the_shapes_in_a_pixel() -> None:
    observation = MapObservation(lens_redshift=0.3, source_redshift=1.2, source_density=50)
    cosmology = FlatLambdaCDM(H0=70, Om0=0.3)
    near, far = (cosmology.angular_diameter_distance(z).to_value("kpc") for z in (0.3, 1.2))
    between = far - near * 1.3 / 2.2
    critical = 1.663e15 * far / (near * between)  # c^2/(4 pi G) = 1.663e15 Msun/kpc
    assert 2e9 < critical < 4e9
    galaxies = 50 * np.degrees(20 / near) ** 2 * 3600
    expected = critical * 0.3 / np.sqrt(2) / np.sqrt(galaxies)
    noise = observed(observation)["total"] - 1e9
    assert noise.std() == pytest.approx(expected, rel=0.02)
    assert abs(noise.mean()) < 4 * expected / 100
    denser = MapObservation(source_density=400).density_noise(GRID)
    assert MapObservation(source_density=100).density_noise(GRID) == pytest.approx(2 * denser)


def test_a_smoothed_lensing_map_has_less_noise() -> None:
    raw, smooth = (
        observed(MapObservation(source_density=30, smoothing=width))["total"].std()
        for width in (0.0, 40.0)
    )
    assert smooth / raw == pytest.approx(1 / np.sqrt(4 * np.pi * 4), rel=0.15)


def test_photons_are_counted() -> None:
    observation = MapObservation(lens_redshift=0.2, exposure=10)
    distance = FlatLambdaCDM(H0=70, Om0=0.3).luminosity_distance(0.2).to_value("cm")
    photons = 1e40 * 400 * 400 * 1e4 / (4 * np.pi * distance**2) / (1.5 * 1.602e-9)
    assert observation.photon_counts(GRID) == pytest.approx(photons, rel=1e-3)
    maps = observed(observation, xray=3.0)
    assert maps["xray"].mean() == pytest.approx(3.0, rel=4 / np.sqrt(3e4 * photons))
    assert maps["xray"].std() == pytest.approx(np.sqrt(3 / photons), rel=0.04)
    assert (maps["total"] == 1e9).all()


def test_pixels_outside_the_field_of_view_are_not_good() -> None:
    circle = MapObservation(field_radius=500).good(GRID)
    assert circle.sum() * GRID.area == pytest.approx(np.pi * 500**2, rel=0.01)
    arrow = [[-600, -400], [600, -400], [0, 0], [600, 400], [-600, 400]]  # not convex
    polygon = MapObservation(footprint=arrow).good(GRID)
    assert polygon.sum() * GRID.area == pytest.approx(1200 * 800 - 800 * 600 / 2, rel=0.02)
    x, y = np.meshgrid(GRID.coordinate, GRID.coordinate)
    assert not polygon[(x > 100) & (np.abs(y) < 50)].any()
    both = MapObservation(field_radius=500, footprint=arrow).good(GRID)
    np.testing.assert_array_equal(both, circle & polygon)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lens_redshift": 0.0}, "0 < lens_redshift < source_redshift"),
        ({"lens_redshift": 1.0}, "0 < lens_redshift < source_redshift"),
        ({"source_density": 0.0}, "source_density must be positive"),
        ({"exposure": -1.0}, "exposure must be positive"),
        ({"field_radius": 0.0}, "field_radius must be positive"),
        ({"ellipticity_dispersion": 0.0}, "ellipticity_dispersion must be positive"),
        ({"smoothing": -1.0}, "smoothing must not be negative"),
        ({"footprint": [[0, 0], [1, 1]]}, "footprint must have three corners"),
        ({"footprint": [[0, 0, 0]] * 3}, "footprint must have three corners"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MapObservation(**settings)
