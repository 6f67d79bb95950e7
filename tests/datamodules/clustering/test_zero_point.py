"""The parallax zero point against values of the published recipe."""

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from datamodules.clustering.zero_point import ecliptic_latitude, parallax_zero_point

# G, nu_eff, pseudocolour, ecliptic latitude, Z in mas: from the authors' own implementation
# (gaiadr3-zeropoint 0.0.6, run once), which rounds to 1e-6 mas
PUBLISHED = np.array(
    [
        [14.0, 1.50, np.nan, 20.0, -0.040285],
        [18.0, 1.40, np.nan, -45.0, -0.026415],
        [11.0, 1.60, np.nan, 70.0, -0.028697],
        [12.5, 1.20, np.nan, -5.0, -0.014618],
        [20.5, 1.75, np.nan, 33.0, -0.005575],
        [6.0, 1.48, np.nan, 0.0, -0.036113],
        [9.0, 1.55, np.nan, -80.0, -0.005779],
        [21.0, 1.30, np.nan, 10.0, -0.019253],
        [16.0, 1.15, np.nan, -30.0, -0.069390],
        [17.0, 1.85, np.nan, -30.0, 0.001823],
        [14.0, np.nan, 1.50, 20.0, -0.040216],
        [18.0, np.nan, 1.40, -45.0, -0.026957],
        [19.5, np.nan, 1.60, 70.0, -0.013926],
        [20.7, np.nan, 1.25, -5.0, -0.000053],
        [12.5, np.nan, 1.70, 33.0, -0.033092],
    ]
)


def test_published_values() -> None:
    magnitude, nu_eff, pseudocolour, latitude, expected = PUBLISHED.T
    found = parallax_zero_point(magnitude, nu_eff, pseudocolour, latitude)
    np.testing.assert_allclose(found, expected, atol=6e-7)


def test_knots_by_hand() -> None:
    # at nu = 1.48 and sin(beta) = 0 only q_00 - q_02 / 3 is left
    found = parallax_zero_point(
        np.array([6.0, 17.5]), np.full(2, 1.48), np.full(2, np.nan), np.zeros(2)
    )
    np.testing.assert_allclose(
        found, [(-26.98 - 27.40 / 3) / 1000, (-29.18 - 2.41 / 3) / 1000], atol=1e-12
    )


def test_outside_the_range_the_edge_counts() -> None:
    nan = np.full(2, np.nan)
    z = parallax_zero_point(np.array([5.0, 6.0]), np.full(2, 1.5), nan, np.zeros(2))
    assert z[0] == z[1]
    z = parallax_zero_point(np.full(2, 15.0), np.array([0.9, 1.1]), nan, np.zeros(2))
    assert z[0] == z[1]


def test_unknown_colour_or_magnitude_gives_nan() -> None:
    z = parallax_zero_point(
        np.array([15.0, np.nan]), np.array([np.nan, 1.5]), np.full(2, np.nan), np.zeros(2)
    )
    assert np.isnan(z).all()


def test_ecliptic_latitude() -> None:
    ra, dec = np.array([0.0, 90.0, 270.0]), np.array([0.0, 0.0, 66.5607083])
    np.testing.assert_allclose(ecliptic_latitude(ra, dec), [0.0, -23.4392794, 90.0], atol=1e-4)


def test_real_field_has_the_mean_of_faint_sources(shared_data: Path) -> None:
    table = pyarrow.parquet.read_table(
        shared_data / "clustering" / "gaiadr3_ra45_dec0_r0.5_allcols.parquet"
    )
    names = ("phot_g_mean_mag", "nu_eff_used_in_astrometry", "pseudocolour", "ecl_lat")
    magnitude, nu_eff, pseudocolour, latitude = (table[n].to_numpy().astype(float) for n in names)
    computed = ecliptic_latitude(table["ra"].to_numpy(), table["dec"].to_numpy())
    np.testing.assert_allclose(computed, latitude, atol=1e-5)
    z = parallax_zero_point(magnitude, nu_eff, pseudocolour, latitude)
    assert np.nanmean(z) == pytest.approx(-0.017, abs=0.004)  # the quasars' mean
    two_parameter = table["astrometric_params_solved"].to_numpy() == 3
    assert np.isnan(z[two_parameter]).all()
