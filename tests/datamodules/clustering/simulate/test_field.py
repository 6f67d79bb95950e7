"""The simulator against closed forms: profiles, kinematics, errors, the Galaxy, randomness."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import kstest

from datamodules import StarCluster, SyntheticField
from datamodules.clustering.simulate import astrometry, galaxy, profiles
from datamodules.clustering.simulate.field import (
    ISOCHRONE,
    Sky,
    draw_cluster,
    draw_field,
)
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.covariance import (
    AXES,
    CORRELATIONS,
    correlation_matrix,
    covariance_matrix,
)
from lightning_modules.physics.frames import frame_jacobian, rotate_proper_motions, tangent_plane

SKY = Sky(radius=5.0)
BASE = StarCluster(num_stars=20000, scale=0.1, tidal_radius=2.0, slope=3.5)


def draw(cluster: StarCluster, seed: int = 0) -> dict[str, Array]:
    """Draw one cluster in a wide field."""
    return draw_cluster(np.random.default_rng(seed), cluster, 1, SKY)


@pytest.mark.parametrize("profile", ["plummer", "king", "eff"])
def test_radii_follow_the_closed_form(profile: profiles.Profile) -> None:
    truth = draw(replace(BASE, profile=profile))

    def cumulative(radius: Array) -> Array:
        return profiles.enclosed_fraction(radius, profile, 0.1, 2.0, 3.5)

    np.testing.assert_allclose(np.hypot(truth["x"], truth["y"]), truth["radius"], rtol=1e-9)
    assert kstest(truth["radius"], cumulative).pvalue > 0.01
    assert truth["radius"].max() <= 2.0
    angle = np.arctan2(truth["y"], truth["x"])
    assert kstest(angle, lambda a: (a + np.pi) / (2 * np.pi)).pvalue > 0.01


def test_half_of_a_plummer_sphere_lies_within_its_scale() -> None:
    assert profiles.plummer_fraction(np.array(0.1), 0.1) == pytest.approx(0.5)
    radius = draw(replace(BASE, tidal_radius=4.9))["radius"]
    assert np.median(radius) == pytest.approx(0.1, rel=0.03)


def test_king_density_vanishes_at_the_tidal_radius() -> None:
    radius = np.linspace(0.001, 1.0, 4000)
    fraction = profiles.king_fraction(radius, 0.1, 1.0)
    middle = (radius[1:] + radius[:-1]) / 2
    density = np.diff(fraction) / (2 * np.pi * middle * np.diff(radius))
    shape = (1 / np.sqrt(1 + (middle / 0.1) ** 2) - 1 / np.sqrt(1 + (1.0 / 0.1) ** 2)) ** 2
    np.testing.assert_allclose(density / density[0], shape / shape[0], rtol=1e-4, atol=1e-7)
    assert fraction[-1] == 1.0


def test_eff_of_slope_four_is_a_plummer_profile() -> None:
    radius = np.linspace(0.0, 3.0, 50)
    np.testing.assert_allclose(
        profiles.eff_fraction(radius, 0.2, 4.0), profiles.plummer_fraction(radius, 0.2), atol=1e-12
    )


def test_dispersion_falls_with_radius_as_in_a_plummer_sphere() -> None:
    cluster = replace(BASE, num_stars=200_000, dispersion=0.45)
    truth = draw(cluster)
    offset = truth["motion"] - np.array(cluster.proper_motion)
    edges = np.quantile(truth["radius"], np.linspace(0, 1, 9))
    for low, high in pairwise(edges):
        ring = (truth["radius"] >= low) & (truth["radius"] < high)
        expected = profiles.velocity_dispersion(truth["radius"][ring], 0.1, 0.45)
        assert offset[ring].std() == pytest.approx(np.sqrt(np.mean(expected**2)), rel=0.02)
    assert profiles.velocity_dispersion(np.array(np.sqrt(15.0)), 1.0, 1.0) == pytest.approx(0.5)


def test_ellipticity_and_position_angle() -> None:
    cluster = replace(BASE, profile="king", ellipticity=0.4, position_angle=30.0)
    truth = draw(cluster)
    covariance = np.cov(truth["x"], truth["y"])
    values, vectors = np.linalg.eigh(covariance)
    assert np.sqrt(values[0] / values[1]) == pytest.approx(0.6, rel=0.03)
    angle = np.degrees(np.arctan2(vectors[0, 1], vectors[1, 1])) % 180
    assert angle == pytest.approx(30.0, abs=2.0)


def test_tails_lie_along_their_angle() -> None:
    cluster = replace(BASE, tail_fraction=0.25, tail_angle=60.0, tail_length=0.3, tidal_radius=0.5)
    truth = draw(cluster)
    tail = np.isnan(truth["radius"])
    assert tail.mean() == pytest.approx(0.25, abs=0.01)
    along = truth["x"] * np.sin(np.radians(60)) + truth["y"] * np.cos(np.radians(60))
    across = truth["x"] * np.cos(np.radians(60)) - truth["y"] * np.sin(np.radians(60))
    assert across[tail].std() == pytest.approx(0.1, rel=0.05)
    assert along[tail].std() > 4 * across[tail].std()
    assert abs(along[tail].mean()) < 0.05


def test_mean_error_model() -> None:
    # sqrt(40 + 800 z + 30 z^2) microarcseconds by hand
    z = 10**-0.8
    expected = [np.sqrt(40 + 800 * z + 30 * z**2), np.sqrt(870), np.sqrt(40 + 80_000 + 300_000)]
    found = astrometry.mean_parallax_error(np.array([10.0, 15.0, 20.0]))
    np.testing.assert_allclose(found, np.array(expected) / 1000)
    assert astrometry.mean_parallax_error(np.array(13.0)) == found[0]


def test_drawn_errors_scatter_about_the_model() -> None:
    errors = astrometry.draw_errors(np.random.default_rng(0), np.full(20000, 18.0))
    mean = astrometry.mean_parallax_error(np.array(18.0)) * astrometry.ERROR_RATIOS
    np.testing.assert_allclose(np.median(errors, axis=0), mean, rtol=0.01)
    np.testing.assert_allclose(np.log(errors).std(axis=0), 0.206, rtol=0.03)


def test_correlations_are_positive_definite_and_not_small() -> None:
    matrices = astrometry.draw_correlations(np.random.default_rng(0), 5000)
    assert (np.linalg.eigvalsh(matrices)[:, 0] > 1e-3).all()
    np.testing.assert_allclose(np.diagonal(matrices, axis1=1, axis2=2), 1.0)
    columns = astrometry.correlation_columns(matrices)
    assert tuple(columns) == CORRELATIONS
    assert 0.15 < np.sqrt(np.mean(np.stack(list(columns.values())) ** 2)) < 0.5
    errors = {f"{axis}_error": np.ones(5000) for axis in AXES}
    rebuilt = correlation_matrix({**columns, **errors})
    np.testing.assert_allclose(rebuilt, matrices, atol=1e-12)


def test_measurements_scatter_as_their_covariance_says() -> None:
    columns = SyntheticField(20000, clusters=[]).table(0).columns
    residual = np.stack(
        [
            columns["parallax"] - columns["true_parallax"] + 0.03,
            columns["pmra"] - columns["true_pmra"],
            columns["pmdec"] - columns["true_pmdec"],
        ],
        axis=1,
    )
    covariance = covariance_matrix(columns)[:, 2:, 2:]
    chi2 = np.einsum("ni,nij,nj->n", residual, np.linalg.inv(covariance), residual)
    assert kstest(chi2, "chi2", args=(3,)).pvalue > 0.01


def test_parallax_zero_point_is_added() -> None:
    given = SyntheticField(5000, clusters=[], zero_point=-0.5).table(0).columns
    none = SyntheticField(5000, clusters=[], zero_point=0.0).table(0).columns
    np.testing.assert_allclose(none["parallax"] - given["parallax"], 0.5, atol=1e-5)


def test_cluster_moves_as_told_wherever_it_is() -> None:
    cluster = replace(BASE, num_stars=4000, dispersion=0.0, offset=(0.5, -0.3), scale=0.3)
    for centre in ((0.1, 88.0), (359.9, -60.0)):
        columns = SyntheticField(10, [cluster], centre=centre, radius=3.0).table(1).columns
        member = columns["label"] == 1
        jacobian = frame_jacobian(columns["ra"], columns["dec"], np.array(centre))
        motion = rotate_proper_motions(columns["true_pmra"], columns["true_pmdec"], jacobian)
        np.testing.assert_allclose(motion[0][member], cluster.proper_motion[0], atol=1e-4)
        np.testing.assert_allclose(motion[1][member], cluster.proper_motion[1], atol=1e-4)
        x, y = tangent_plane(columns["ra"], columns["dec"], np.array(centre))
        assert np.median(x[member]) == pytest.approx(0.5, abs=0.02)
        assert np.median(y[member]) == pytest.approx(-0.3, abs=0.02)


def test_photometry_follows_the_isochrone() -> None:
    truth = draw(replace(BASE, parallax=0.5, colour_offset=0.1))
    modulus = 5 * np.log10(2000.0) - 5
    single = np.interp(truth["magnitude"] - modulus, *ISOCHRONE) + 0.1
    assert np.median(np.abs(truth["colour"] - single)) < 0.02
    assert truth["magnitude"].min() >= 13.0
    assert truth["magnitude"].max() <= 20.5


def test_field_is_uniform_and_galactic() -> None:
    sky = Sky(centre=(57.0, 24.0), radius=1.0)
    truth = draw_field(np.random.default_rng(0), 20000, sky)
    radius = np.hypot(truth["x"], truth["y"])
    assert kstest(radius**2, "uniform").pvalue > 0.01
    speed = galaxy.KMS_PER_MASYR_KPC * np.linalg.norm(truth["motion"], axis=1) / truth["parallax"]
    assert 20 < np.median(speed) < 150  # km/s, a disc seen from within
    near = truth["parallax"] > 1
    assert truth["motion"][near].std() > 2 * truth["motion"][~near].std()
    assert (truth["parallax"] > 0).all()
    assert np.isnan(truth["radius"]).all()


def test_reflex_of_the_sun_towards_the_galactic_centre_and_pole() -> None:
    rng = np.random.default_rng(0)
    count = 40000
    # a halo star does not rotate: its mean motion is the Sun's, seen from the Sun, along b = 0
    towards_centre = np.tile([266.405, -28.936], (count, 1))
    distance, halo = np.full(count, 8.2), np.full(count, 2)
    pmra, pmdec = galaxy.draw_proper_motions(rng, distance, halo, towards_centre)
    total = np.hypot(pmra.mean(), pmdec.mean())
    assert total == pytest.approx(248.1 / (4.74047 * 8.2), rel=0.02)  # Sgr A*: 6.38 mas/yr
    assert pmra.mean() == pytest.approx(-3.15, abs=0.15)
    assert pmdec.mean() == pytest.approx(-5.55, abs=0.2)


def test_disc_dominates_the_plane_and_halo_the_pole() -> None:
    plane = galaxy.density(np.array([1.0]), np.array([266.4, -28.9]))[:, 0]
    pole = galaxy.density(np.array([10.0]), np.array([192.86, 27.13]))[:, 0]
    assert plane.argmax() == 0
    assert pole.argmax() == 2
    sun = galaxy.density(np.array([1e-6]), np.array([0.0, 0.0]))[:, 0]
    np.testing.assert_allclose(sun, [np.exp(-0.02 / 0.3), 0.04 * np.exp(-0.02 / 0.9), 0.0015], 1e-2)


def test_the_seed_alone_fixes_the_stars() -> None:
    source = SyntheticField(300, [StarCluster(num_stars=100)])
    first, again, other = source.table(3), source.table(3), source.table(4)
    for name, values in first.columns.items():
        np.testing.assert_array_equal(values, again.columns[name])
    assert not np.array_equal(first.columns["ra"], other.columns["ra"])


def test_default_field_has_its_stars_and_its_truth() -> None:
    columns = SyntheticField().table(0).columns
    np.testing.assert_array_equal(np.bincount(columns["label"]), [6000, 2000, 800])
    assert len(np.unique(columns["source_id"])) == 8800
    assert columns["source_id"].min() > 2**53
    assert (columns["source_id"] % 2**9 != 0).any()
    assert np.ptp(np.flatnonzero(columns["label"] == 2)) > 8000  # stars are in random order
    assert set(columns) >= {"true_parallax", "true_pmra", "true_pmdec", "true_radius"}
    x, y = tangent_plane(columns["ra"], columns["dec"], np.array([245.9, -26.5]))
    assert np.hypot(x, y).max() < 0.501


def test_another_cluster_leaves_the_truth_of_the_field() -> None:
    one = SyntheticField(500, [StarCluster(num_stars=50)]).table(0).columns
    two = (
        SyntheticField(500, [StarCluster(num_stars=70), StarCluster(num_stars=9)]).table(0).columns
    )
    field_one, field_two = (c["true_parallax"][c["label"] == 0] for c in (one, two))
    np.testing.assert_array_equal(np.sort(field_one), np.sort(field_two))


def test_clusters_may_be_plain_mappings() -> None:
    mapping = {"num_stars": 40, "profile": "king", "offset": [0.1, 0.0]}
    source = SyntheticField(10, [mapping])  # type: ignore[list-item]
    assert source.clusters[0] == StarCluster(num_stars=40, profile="king", offset=[0.1, 0.0])  # type: ignore[arg-type]
    assert source.parameters()["clusters"][0]["num_stars"] == 40
    with pytest.raises(ValueError, match=r"cluster 1 is .*its keys are \['num_stars'"):
        SyntheticField(10, [{"stars": 40}])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"slope": 2.0}, "slope"),
        ({"ellipticity": 1.0}, "ellipticity"),
        ({"scale": 1.0}, "scale < tidal_radius"),
        ({"parallax": 0.0}, "parallax"),
        ({"profile": "sersic"}, "profile"),
    ],
)
def test_impossible_clusters_are_refused(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        StarCluster(**settings)  # type: ignore[arg-type]


def test_impossible_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="gives no stars"):
        SyntheticField(0, [])
    with pytest.raises(ValueError, match="radius"):
        SyntheticField(10, radius=0.0)
    with pytest.raises(ValueError, match="magnitudes"):
        SyntheticField(10, magnitudes=(20.0, 13.0))
    with pytest.raises(ValueError, match="outside the field"):
        SyntheticField(10, [StarCluster(offset=(9.0, 0.0))]).table(0)


def test_two_parameter_stars_are_faint_and_have_a_position_alone() -> None:
    whole = SyntheticField(2000, []).table(0).columns
    some = SyntheticField(2000, [], two_parameter_share=0.1).table(0).columns
    bare = np.isnan(some["parallax"])
    assert bare.sum() == 200
    faint = whole["phot_g_mean_mag"]
    assert np.median(faint[bare]) > np.quantile(faint, 0.85)
    for name, values in some.items():
        empty = name.startswith(("parallax", "pm")) or (
            name.endswith("corr") and name != CORRELATIONS[0]
        )
        assert (
            np.isnan(values[bare]).all()
            if empty
            else np.array_equal(values, whole[name], equal_nan=True)
        )
        assert np.array_equal(values[~bare], whole[name][~bare], equal_nan=True)
    with pytest.raises(ValueError, match="two_parameter_share=1"):
        SyntheticField(two_parameter_share=1)
