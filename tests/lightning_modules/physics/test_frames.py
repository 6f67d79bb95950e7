"""The tangent frame: closed forms, astropy, poles, the wrap of right ascension, covariances."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from lightning_modules.physics import covariance as covariances
from lightning_modules.physics import frames
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.covariance import AXES

CENTRES = [(0.0, 0.0), (359.9, 30.0), (0.05, -77.0), (130.0, 89.9), (200.0, -89.95), (50.0, 90.0)]


def around(
    centre: tuple[float, float], count: int = 200, radius: float = 1.0
) -> tuple[Array, Array]:
    """Draw positions near a centre by astropy, independent of our projection."""
    rng = np.random.default_rng(1)
    middle = SkyCoord(*centre, unit="deg")
    place = middle.directional_offset_by(
        rng.uniform(0, 360, count) * u.deg, radius * np.sqrt(rng.random(count)) * u.deg
    )
    return place.ra.deg, place.dec.deg


@pytest.mark.parametrize("centre", CENTRES)
def test_gnomonic_projection_agrees_with_astropy(centre: tuple[float, float]) -> None:
    ra, dec = around(centre)
    x, y = frames.tangent_plane(ra, dec, np.array(centre))
    offset = SkyCoord(ra, dec, unit="deg").transform_to(
        SkyCoord(*centre, unit="deg").skyoffset_frame()
    )
    lon, lat = offset.lon.rad, offset.lat.rad
    np.testing.assert_allclose(x, np.degrees(np.tan(lon)), atol=1e-10)
    np.testing.assert_allclose(y, np.degrees(np.tan(lat) / np.cos(lon)), atol=1e-10)


@pytest.mark.parametrize("centre", CENTRES)
def test_projection_inverts(centre: tuple[float, float]) -> None:
    ra, dec = around(centre)
    x, y = frames.tangent_plane(ra, dec, np.array(centre))
    back_ra, back_dec = frames.inverse_tangent_plane(x, y, np.array(centre))
    assert ((back_ra >= 0) & (back_ra < 360)).all()
    separation = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(back_ra, back_dec, unit="deg"))
    assert separation.deg.max() < 1e-9


def test_distance_from_the_centre_is_the_tangent_of_the_angle() -> None:
    x, y = frames.tangent_plane(np.array([20.0, 10.0]), np.array([0.0, 30.0]), np.array([10, 0]))
    np.testing.assert_allclose(x, [np.degrees(np.tan(np.radians(10))), 0.0], atol=1e-12)
    np.testing.assert_allclose(y, [0.0, np.degrees(np.tan(np.radians(30)))], atol=1e-12)


def test_a_turn_in_right_ascension_changes_nothing() -> None:
    ra, dec = around((0.0, 20.0))
    centre = np.array([0.0, 20.0])
    expected = frames.tangent_plane(ra, dec, centre)
    for shift in (-360.0, 360.0):
        np.testing.assert_allclose(
            frames.tangent_plane(ra + shift, dec, centre), expected, atol=1e-10
        )
    turned = frames.tangent_plane(ra + 77.0, dec, centre + np.array([77.0, 0.0]))
    np.testing.assert_allclose(turned, expected, atol=1e-10)


def test_stars_of_the_other_hemisphere_are_refused() -> None:
    with pytest.raises(ValueError, match="1 stars lie 90 degrees or more"):
        frames.tangent_plane(np.array([10.0, 190.0]), np.array([0.0, 0.0]), np.array([10, 0]))


@pytest.mark.parametrize("centre", CENTRES[:5])
def test_jacobian_is_the_derivative_of_the_direction_cosines(centre: tuple[float, float]) -> None:
    ra, dec = around(centre)
    middle, step = np.array(centre), 1e-5
    jacobian = frames.frame_jacobian(ra, dec, middle)

    def cosines(a: Array, d: Array) -> Array:
        x, y = frames.tangent_plane(a, d, middle)
        depth = 1 / np.sqrt(1 + np.radians(x) ** 2 + np.radians(y) ** 2)
        return np.stack([x * depth, y * depth], axis=1)

    by_ra = (cosines(ra + step, dec) - cosines(ra - step, dec)) / (2 * step)
    by_dec = (cosines(ra, dec + step) - cosines(ra, dec - step)) / (2 * step)
    np.testing.assert_allclose(
        jacobian[:, :, 0], by_ra / np.cos(np.radians(dec))[:, None], atol=2e-7
    )
    np.testing.assert_allclose(jacobian[:, :, 1], by_dec, atol=2e-7)


@pytest.mark.parametrize("centre", CENTRES)
def test_motions_agree_with_astropys_rotation(centre: tuple[float, float]) -> None:
    ra, dec = around(centre)
    rng = np.random.default_rng(0)
    pmra, pmdec = rng.normal(0, 10, (2, len(ra)))
    jacobian = frames.frame_jacobian(ra, dec, np.array(centre))
    ours = frames.rotate_proper_motions(pmra, pmdec, jacobian)
    sky = SkyCoord(
        ra * u.deg, dec * u.deg, pm_ra_cosdec=pmra * u.mas / u.yr, pm_dec=pmdec * u.mas / u.yr
    )
    turned = sky.transform_to(SkyCoord(*centre, unit="deg").skyoffset_frame())
    # astropy's frame turns with the star; it differs from fixed axes by at most theta^2
    size, bound = np.hypot(pmra, pmdec), np.radians(1.0) ** 2
    assert (np.abs(ours[0] - turned.pm_lon_coslat.value) <= bound * size + 1e-9).all()
    assert (np.abs(ours[1] - turned.pm_lat.value) <= bound * size + 1e-9).all()


def test_stars_that_move_together_in_space_get_one_motion() -> None:
    centre = (250.0, 85.0)
    ra, dec = around(centre, radius=2.0)
    velocity = np.array([1.0, 3.0, 0.5])
    alpha, delta = np.radians(ra), np.radians(dec)
    zero = np.zeros_like(alpha)
    east = np.stack([-np.sin(alpha), np.cos(alpha), zero])
    north = np.stack(
        [-np.sin(delta) * np.cos(alpha), -np.sin(delta) * np.sin(alpha), np.cos(delta)]
    )
    sight = np.cross(east, north, axis=0)
    tangential = velocity[:, None] - sight * (velocity @ sight)
    pmra, pmdec = (tangential * east).sum(0), (tangential * north).sum(0)
    jacobian = frames.frame_jacobian(ra, dec, np.array(centre))
    x, y = frames.rotate_proper_motions(pmra, pmdec, jacobian)
    assert np.ptp(pmra) > 1.0
    # what remains is the perspective effect of the line-of-sight velocity, of first order
    radial = abs(velocity @ sight.mean(axis=1)) * np.radians(2.0) * 2
    assert np.ptp(x) < radial * 1.05 + 1e-3
    assert np.ptp(y) < radial * 1.05 + 1e-3


def random_covariance(count: int) -> tuple[Array, dict[str, Array]]:
    """Make covariances and the Gaia columns that say the same."""
    rng = np.random.default_rng(5)
    root = rng.normal(size=(count, 5, 5))
    covariance = root @ np.swapaxes(root, 1, 2) + 0.1 * np.eye(5)
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    columns = {f"{axis}_error": error[:, i] for i, axis in enumerate(AXES)}
    for i, first in enumerate(AXES):
        for j in range(i + 1, 5):
            rho = covariance[:, i, j] / error[:, i] / error[:, j]
            columns[f"{first}_{AXES[j]}_corr"] = rho
    return covariance, columns


def test_covariance_matrix_from_columns() -> None:
    covariance, columns = random_covariance(20)
    np.testing.assert_allclose(covariances.covariance_matrix(columns), covariance, rtol=1e-10)
    del columns["ra_dec_corr"]
    without = covariances.covariance_matrix(columns)
    assert not without[:, 0, 1].any()
    np.testing.assert_allclose(without[:, 2:, 2:], covariance[:, 2:, 2:], rtol=1e-10)


def test_rotated_covariance_keeps_what_it_must() -> None:
    ra, dec = around((10.0, 60.0), count=50)
    covariance, _ = random_covariance(50)
    jacobian = frames.frame_jacobian(ra, dec, np.array([10.0, 60.0]))
    rotated = covariances.rotate_covariance(covariance, jacobian)
    x, y = frames.tangent_plane(ra, dec, np.array([10.0, 60.0]))
    cosine = 1 / np.sqrt(1 + np.radians(x) ** 2 + np.radians(y) ** 2)
    np.testing.assert_allclose(np.linalg.det(jacobian), cosine, rtol=1e-12)
    np.testing.assert_allclose(
        np.linalg.det(rotated), np.linalg.det(covariance) * cosine**4, rtol=1e-9
    )
    np.testing.assert_allclose(rotated, np.swapaxes(rotated, 1, 2), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(rotated[:, 2, 2], covariance[:, 2, 2])
    trace = np.trace(covariance[:, 3:, 3:], axis1=1, axis2=2)
    np.testing.assert_allclose(np.trace(rotated[:, 3:, 3:], axis1=1, axis2=2), trace, rtol=1e-3)
    assert (np.linalg.eigvalsh(rotated) > 0).all()


def test_rotated_covariance_is_that_of_rotated_samples() -> None:
    covariance, _ = random_covariance(1)
    jacobian = frames.frame_jacobian(np.array([35.0]), np.array([70.0]), np.array([30.0, 69.0]))
    samples = np.random.default_rng(0).multivariate_normal(np.zeros(5), covariance[0], 200_000)
    x, y = frames.rotate_proper_motions(
        samples[:, 3], samples[:, 4], np.repeat(jacobian, len(samples), axis=0)
    )
    measured = np.cov(np.stack([samples[:, 2], x, y]))
    expected = covariances.rotate_covariance(covariance, jacobian)[0][2:, 2:]
    np.testing.assert_allclose(measured, expected, atol=0.02 * np.abs(expected).max())


def test_positions_in_degrees() -> None:
    covariance = covariances.positions_to_degrees(np.ones((1, 5, 5)))[0]
    assert covariance[0, 0] == pytest.approx(1 / 3.6e6**2)
    assert covariance[1, 3] == pytest.approx(1 / 3.6e6)
    assert covariance[2, 4] == 1.0


@pytest.mark.parametrize("centre", CENTRES)
def test_centre_is_safe_at_the_wrap_and_at_the_poles(centre: tuple[float, float]) -> None:
    ra, dec = around(centre, count=4000, radius=0.5)
    found = SkyCoord(*frames.centre_of(ra, dec), unit="deg")
    assert found.separation(SkyCoord(*centre, unit="deg")).deg < 0.03


def test_centre_is_a_median() -> None:
    ra, dec = around((80.0, 10.0), count=2000, radius=0.1)
    far_ra, far_dec = around((82.0, 10.0), count=100, radius=0.1)
    found = frames.centre_of(np.append(ra, far_ra), np.append(dec, far_dec))
    assert abs(found[0] - 80.0) < 0.02


def test_the_whole_sky_has_no_centre() -> None:
    ra, dec = np.array([0.0, 90, 180, 270, 0, 0]), np.array([0.0, 0, 0, 0, 90, -90])
    with pytest.raises(ValueError, match="no centre"):
        frames.centre_of(ra, dec)


def test_inflation() -> None:
    density = np.array([0.0, 10.0, 100.0])
    np.testing.assert_array_equal(covariances.inflation_factor(density, 0.0), 1.0)
    np.testing.assert_allclose(
        covariances.inflation_factor(density, 0.04), np.array([1, 2, 11]) ** 0.04
    )


def test_local_density_of_a_uniform_field() -> None:
    x, y = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 20000))
    inner = (np.abs(x) < 0.4) & (np.abs(y) < 0.4)
    density = covariances.local_density(x, y)[inner]
    assert np.mean(density) == pytest.approx(20000 / 3600, rel=0.02)
    assert covariances.local_density(np.zeros(1), np.zeros(1)) == [0.0]
