"""Cadences look when their surveys do."""

import numpy as np
import pytest

from datamodules import (
    Cadence,
    KMTNetCadence,
    LSSTCadence,
    OGLECadence,
    RegularCadence,
    RomanCadence,
)

YEAR = (0.0, 730.5)
SURVEYS = [
    OGLECadence(num_fields=3),
    KMTNetCadence(num_fields=2),
    LSSTCadence(num_fields=3),
    RomanCadence(num_fields=2),
]


def draw(cadence: Cadence, seed: int = 0) -> np.ndarray:
    return cadence.fields(np.random.default_rng(seed), YEAR)


def test_regular_epochs_are_the_reference_grid() -> None:
    times = RegularCadence(1500).fields(np.random.default_rng(0), (0.0, 1000.0))
    assert times.shape == (1, 1500)
    np.testing.assert_allclose(np.diff(times[0]), 1000 / 1499)


@pytest.mark.parametrize("cadence", SURVEYS, ids=lambda c: type(c).__name__)
def test_surveys_stay_in_the_window_sorted_and_repeat_by_seed(cadence: Cadence) -> None:
    times = draw(cadence)
    assert times.dtype == np.float64
    assert times.shape[0] == cadence.num_fields
    for row in times:
        kept = row[np.isfinite(row)]
        assert np.isnan(row[len(kept) :]).all()
        assert (np.diff(kept) >= 0).all()
        assert kept[0] >= YEAR[0]
        assert kept[-1] <= YEAR[1]
    np.testing.assert_array_equal(times, draw(cadence))
    assert not np.array_equal(times, draw(cadence, 1), equal_nan=True)


def test_ground_surveys_rest_between_seasons_and_by_day() -> None:
    times = draw(OGLECadence(interval=0.02, num_fields=1))[0]
    day_of_year = times % 365.25
    assert day_of_year.min() > 30
    assert day_of_year.max() < 320
    hours = 24 * (times % 1.0)
    assert np.ptp(hours) < 14  # one site: never round the clock
    nights = len(np.unique(np.floor(times - 0.2)))
    assert nights == pytest.approx(2 * 260 * 0.75, rel=0.15)


def test_three_sites_see_round_the_clock_and_roman_without_nights() -> None:
    kmtnet, roman = draw(KMTNetCadence(num_fields=1))[0], draw(RomanCadence(num_fields=1))[0]
    for times in (kmtnet, roman):
        filled, _ = np.histogram(times % 1.0, bins=24, range=(0, 1))
        assert (filled > 0).sum() >= 20
    gaps = np.diff(roman)
    assert (gaps > 100).sum() in (3, 4)  # four seasons in two years
    assert np.median(gaps) * 24 * 60 == pytest.approx(12.1, rel=0.01)


def test_lsst_comes_every_few_nights() -> None:
    times = draw(LSSTCadence(num_fields=1))[0]
    inside = np.diff(times)[np.diff(times) < 30]
    assert 2.5 < inside.mean() < 5.5


def test_a_window_without_a_season_is_refused() -> None:
    with pytest.raises(ValueError, match="window"):
        OGLECadence().fields(np.random.default_rng(0), (0.0, 20.0))
