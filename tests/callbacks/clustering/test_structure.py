from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from callbacks.clustering.structure import (
    Cluster,
    Footprint,
    density_profile,
    kinematic_profile,
    polar,
    true_dispersion,
)


def plummer(n: int, **settings: Any) -> tuple[Cluster, np.ndarray]:
    """A Plummer cluster with a = 0.1 deg, and places drawn from it."""
    rng = np.random.default_rng(3)
    shape = {"nu": 2.0, "ellipticity": 0.4, "position_angle": 30.0, **settings}
    centre, mean = np.array([0.2, -0.1]), np.zeros(2)
    cluster = Cluster(np.ones(n), centre, 0.1, mean, 0.3, **shape)
    radius = 0.1 * (rng.uniform(0, 1, n) ** -1 - 1) ** 0.5
    angles = rng.uniform(0, 2 * np.pi, n)
    place = np.concatenate([cluster.ellipse(r[None], a[None])[0] for r, a in zip(
        radius, angles, strict=True)])  # fmt: skip
    return cluster, place


def test_ellipses_are_drawn_where_their_radius_says() -> None:
    cluster, _ = plummer(1)
    radius, angles = np.array([0.1, 0.3]), np.linspace(0, 6, 50)
    points = cluster.ellipse(radius, angles)
    np.testing.assert_allclose(cluster.radii(points[0]), 0.1)
    np.testing.assert_allclose(cluster.radii(points[1]), 0.3)
    tip = points[0, 0] - cluster.centre  # 30 degrees from north to east
    assert np.degrees(np.arctan2(tip[0], tip[1])) == pytest.approx(30.0)
    assert np.hypot(*tip) == pytest.approx(0.1 / 0.6**0.5)
    turned = cluster.ellipse(radius[:1], np.array([np.pi / 2]))[0, 0] - cluster.centre
    assert np.hypot(*turned) == pytest.approx(0.6 * np.hypot(*tip))


def test_fitted_profile_is_normalised_and_holds_half_within_its_scale() -> None:
    cluster, _ = plummer(1)
    edges = np.linspace(0, 0.1, 2001)
    middle = 0.5 * (edges[1:] + edges[:-1])
    mass = cluster.density(middle) * np.pi * np.diff(edges**2)
    assert mass.sum() == pytest.approx(0.5, rel=1e-4)


def test_rings_cut_by_the_edge_of_the_sky_have_less_area() -> None:
    square = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1], [0, 0]])
    sky = Footprint.of_stars(square)
    circle = Cluster(np.ones(1), np.array([1.0, 0.0]), 0.1, np.zeros(2), 0.3)
    edges = np.array([0.0, 0.3, 0.5])
    np.testing.assert_allclose(sky.area(circle, edges), 0.5 * np.pi * np.diff(edges**2), rtol=0.03)
    inside = Cluster(np.ones(1), np.zeros(2), 0.1, np.zeros(2), 0.3)
    np.testing.assert_allclose(sky.area(inside, edges), np.pi * np.diff(edges**2))
    assert sky.area(inside, np.linspace(0, 2, 9)).sum() == pytest.approx(4.0, rel=0.02)


def test_dispersion_follows_what_the_model_says_of_places() -> None:
    def scatter(position: np.ndarray) -> np.ndarray:
        distance = np.hypot(*(position - [0.2, -0.1]).T)
        return np.einsum("n,ij->nij", distance, np.array([[9, 9, 9], [9, 1, 2], [9, 2, 7.0]]))

    cluster, place = plummer(5, ellipticity=0.0, scatter=scatter)
    entries = np.outer(np.hypot(*(place - cluster.centre).T), [1, 2, 7])
    np.testing.assert_allclose(cluster.motion_scatter(place), entries)
    np.testing.assert_allclose(cluster.dispersion_at(np.array([0.25, 1.0])), [1.0, 2.0])
    constant = replace(cluster, scatter=None)
    np.testing.assert_allclose(constant.motion_scatter(place)[0], [0.09, 0.0, 0.09])


def test_density_profile_recovers_the_plummer_law() -> None:
    cluster, place = plummer(4000)
    near = cluster.radii(place) < 0.6
    sky = Footprint.of_stars(np.array([[-2.0, -2], [2, -2], [2, 2], [-2, 2]]))
    cluster = replace(cluster, probability=np.ones(near.sum()))
    found = density_profile(cluster, place[near], sky)
    pull = (found["members"] - 4000 * cluster.density(found["radius"])) / found["error"]
    assert np.abs(pull).mean() < 1.5
    assert len(pull) == 12
    np.testing.assert_array_equal(found["stars"], found["members"])


def test_errors_are_taken_out_of_the_dispersion() -> None:
    rng = np.random.default_rng(0)
    variance = rng.uniform(0.01, 0.5, size=(3000, 2))
    velocity = rng.normal(size=(3000, 2)) * np.sqrt(0.2**2 + variance)
    low, middle, high = true_dispersion(velocity, variance, np.ones(3000))
    assert low < 0.2 < high
    assert middle == pytest.approx(0.2, abs=0.02)
    none = rng.normal(size=(300, 2)) * np.sqrt(variance[:300])
    assert true_dispersion(none, variance[:300], np.ones(300))[0] < 0.05


def test_polar_motions_point_outwards_and_from_north_to_east() -> None:
    offset = np.array([[0.0, 1.0], [1.0, 0.0]])  # north and east of the centre
    motion = np.array([[1.0, 0.0], [1.0, 0.0]])  # both to the east
    covariance = np.array([[4.0, 0.5, 9.0], [4.0, 0.5, 9.0]])
    velocity, variance = polar(offset, motion, covariance)
    np.testing.assert_allclose(velocity, [[0, 1], [1, 0]], atol=1e-12)
    np.testing.assert_allclose(variance, [[9, 4], [4, 9]])


def test_kinematics_of_a_rotating_cluster() -> None:
    cluster, place = plummer(1000, ellipticity=0.0)
    rng = np.random.default_rng(0)
    offset = place - cluster.centre
    east, north = (offset / np.hypot(*offset.T)[:, None]).T
    turning = 0.5 * np.stack([north, -east], 1)
    covariance = np.tile([0.04, 0.01, 0.09], (1000, 1))
    noise = rng.multivariate_normal([0, 0], [[0.04, 0.01], [0.01, 0.09]], size=1000)
    found = kinematic_profile(cluster, place, turning + noise, covariance)
    assert len(found["radius"]) == 8
    assert (np.diff(found["radius"]) > 0).all()
    assert np.abs((found["tangential"] - 0.5) / found["tangential_error"]).mean() < 1.5
    assert np.abs(found["radial"] / found["radial_error"]).mean() < 1.5
    unknown = np.full((1000, 2), np.nan)
    assert len(kinematic_profile(cluster, place, unknown, covariance)["radius"]) == 0


def test_members_describe_a_cluster_that_was_not_fitted() -> None:
    cluster, place = plummer(2000, ellipticity=0.0)
    motion = np.random.default_rng(1).normal([1.0, -2.0], 0.3, size=(2000, 2))
    found = Cluster.of_members(np.ones(2000), place, motion)
    assert found is not None
    np.testing.assert_allclose(found.centre, cluster.centre, atol=0.01)
    assert found.radius == pytest.approx(0.1, rel=0.1)
    assert found.dispersion == pytest.approx(0.3, rel=0.1)
    assert found.nu is None
    assert Cluster.of_members(np.zeros(2000), place, motion) is None
