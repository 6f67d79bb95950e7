from typing import Literal

import numpy as np
import pytest

from callbacks.metrics.calibration import interval_coverage
from callbacks.sidm.coordinate import Coordinate
from callbacks.sidm.populations import Array, Population
from callbacks.sidm.posterior import Calibration, Posterior, PosteriorModel
from tests.callbacks.sidm.toy import COORDINATE, KNOWN, curved, draw, known, straight, twins


@pytest.fixture(scope="module")
def model() -> PosteriorModel:
    return PosteriorModel(known(5000, curved), COORDINATE)


@pytest.fixture(scope="module")
def normal() -> Posterior:
    """A posterior N(0.5, 0.05) in u."""
    density = np.exp(-0.5 * ((COORDINATE.grid - 0.5) / 0.05) ** 2)
    return Posterior(COORDINATE, density / density.sum(), 0, 0, 0, 0)


def test_the_coordinate_is_zero_for_cold_dark_matter_and_inverts() -> None:
    sigma = np.array([0.0, 0.1, 0.9])
    np.testing.assert_allclose(COORDINATE.of(sigma), [0.0, np.log10(2), 1.0])
    np.testing.assert_allclose(COORDINATE.inverse(COORDINATE.of(sigma)), sigma, atol=1e-12)
    assert COORDINATE.grid[0] == 0.0
    np.testing.assert_allclose(COORDINATE.inverse(COORDINATE.grid[-1]), 1.6)


def test_the_path_runs_from_cold_dark_matter_to_the_largest_known_value() -> None:
    ends = np.array([0.0, 0.3])
    for interpolation in ("core", "log"):
        np.testing.assert_allclose(Coordinate(0.3, interpolation).along(ends), [0.0, 1.0])
    core = Coordinate(1.0, "core").along(np.array([0.1, 0.3]))
    assert core == pytest.approx([0.17, 0.46], abs=0.04)  # r1 of 49, 133 and 287 kpc at 5e14 Msun


def test_intervals_hold_hidden_values_as_often_as_they_say(model: PosteriorModel) -> None:
    sigma = np.geomspace(0.03, 0.9, 80)
    found = [model.measure(draw("x", x, 200, k, curved)) for k, x in enumerate(sigma)]
    low, high = np.transpose([one.interval(0.68) for one in found])
    assert 0.5 < interval_coverage(low, high, sigma).mean() < 0.86
    low, high = np.transpose([one.interval(0.95) for one in found])
    assert interval_coverage(low, high, sigma).mean() > 0.85
    errors = [abs(one.median - x) / (x + 0.1) for one, x in zip(found, sigma, strict=True)]
    assert np.median(errors) < 0.15


def test_the_error_from_halos_is_that_of_the_mean_on_a_straight_path() -> None:
    model = PosteriorModel(known(20000), COORDINATE)
    population = draw("x", 0.2, 400, 5)
    slope = 2.0 / (np.log(10) * 0.3)  # of the latent by cm^2/g at 0.2
    deviation = population.latent[:, 0, 0].std() / np.sqrt(400) / slope
    assert model.measure(population).std_halos == pytest.approx(deviation, rel=0.15)


def test_intervals_hold_though_the_known_simulations_share_their_halos() -> None:
    held = []
    for seed in range(60):
        model = PosteriorModel(twins(KNOWN, 200, seed), COORDINATE)
        observed = twins({"x": 0.2}, 400, 1000 + seed, first_halo=1000)[0]
        low, high = model.measure(observed).interval(0.68)
        held.append(low <= 0.2 <= high)
    assert 0.5 < np.mean(held) < 0.86


def test_a_twin_of_the_known_simulations_is_measured_better_than_a_stranger() -> None:
    *anchors, twin = twins({**KNOWN, "x": 0.2}, 200, 5)
    stranger = twins({"x": 0.2}, 200, 6, first_halo=1000)[0]
    model = PosteriorModel(anchors, COORDINATE)
    found = [model.measure(one) for one in (twin, stranger)]
    widths = [np.ptp(one.interval(0.68)) for one in found]
    assert widths[0] < 0.7 * widths[1]
    assert abs(found[0].median - 0.2) < 0.03


def test_more_halos_narrow_the_posterior_but_repeated_maps_do_not(model: PosteriorModel) -> None:
    small, large = (draw("x", 0.3, count, 1, curved) for count in (50, 800))
    assert model.measure(large).std_halos < 0.5 * model.measure(small).std_halos
    twice = Population("x", np.repeat(small.latent, 2, 0), np.repeat(small.halo, 2), 0.3)
    one, two = model.measure(small), model.measure(twice)
    np.testing.assert_allclose(two.density, one.density, atol=1e-10)


def test_a_repeated_member_changes_nothing() -> None:
    anchors, observed = known(200), draw("x", 0.2, 100, 3)
    once = PosteriorModel(anchors, COORDINATE).measure(observed)
    thrice = [
        Population(x.name, np.repeat(x.latent, 3, 1), x.halo, x.cross_section)
        for x in (*anchors, observed)
    ]
    again = PosteriorModel(thrice[:-1], COORDINATE).measure(thrice[-1])
    np.testing.assert_allclose(again.density, once.density, atol=1e-12)
    assert again.std_members == pytest.approx(0.0, abs=1e-12)
    assert once.std_members == 0.0


def test_members_that_differ_widen_the_posterior() -> None:
    anchors = known(400, num_members=2)
    observed = draw("x", 0.3, 400, 1, num_members=2)
    observed.latent[:, 1, 0] += 0.5  # the second sees it at a larger u
    both = PosteriorModel(anchors, COORDINATE).measure(observed)
    alone = PosteriorModel([x.member(0) for x in anchors], COORDINATE).measure(observed.member(0))
    assert both.std_members > 2 * alone.std_halos
    low, high = both.interval(0.68)
    assert high - low > 2 * np.ptp(alone.interval(0.68))


def test_the_path_has_little_error_at_its_anchors_and_most_between_them() -> None:
    path = PosteriorModel(known(4000, curved), COORDINATE).paths[0]
    places = np.searchsorted(COORDINATE.grid, path.anchors)
    between = np.searchsorted(COORDINATE.grid, (path.anchors[1:] + path.anchors[:-1]) / 2)
    assert path.error[places].max() < 0.03
    assert path.error[between].max() > 0.06
    np.testing.assert_allclose(path.mean[places], path.means, atol=0.03)


def test_the_value_of_a_population_is_never_used(model: PosteriorModel) -> None:
    observed = draw("x", 0.2, 100, 3, curved)
    unknown = Population("y", observed.latent, observed.halo)
    found = [model.measure(one).density for one in (observed, unknown)]
    np.testing.assert_array_equal(*found)


def test_each_known_simulation_is_predicted_by_the_others(model: PosteriorModel) -> None:
    found = model.left_out()
    assert found.keys() == {"cdm", "sidm_0.1", "sidm_0.3", "sidm_1"}
    assert found["sidm_0.3"].median == pytest.approx(0.3, abs=0.15)
    assert PosteriorModel(known()[:2]).left_out() == {}


@pytest.mark.parametrize("interpolation", ["log", "core"])
def test_the_coordinate_is_that_in_which_known_simulations_predict_each_other(
    interpolation: Literal["log", "core"],
) -> None:
    truth = Coordinate(1.0, interpolation)

    def path(u: float) -> Array:
        return np.append(8 * truth.along(COORDINATE.inverse(np.array([u]))), [0.0, 0.0])

    assert PosteriorModel(known(400, path)).coordinate == truth


def test_known_simulations_of_one_value_are_one_anchor() -> None:
    anchors = known(100)
    twin = Population("agn", anchors[0].latent + 0.1, anchors[0].halo + 1000, 0.0)
    joined = PosteriorModel([*anchors, twin])
    assert [one.name for one in joined.known] == ["cdm+agn", "sidm_0.1", "sidm_0.3", "sidm_1"]
    assert joined.known[0].num_maps == 200


def test_discriminants_are_those_of_the_maps_they_are_fitted_on() -> None:
    anchors, others = known(300), known(300, curved)
    paths = [PosteriorModel(anchors, None, fitted).paths[0] for fitted in (None, others)]
    assert not np.allclose(paths[0].means, paths[1].means, atol=0.1)


def test_one_cross_section_is_no_path() -> None:
    with pytest.raises(ValueError, match=r"two cross-sections, not 1; name more .* data\.known"):
        PosteriorModel(known()[:1])


def test_too_few_known_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="4 known simulations need more maps than that"):
        PosteriorModel(known(1), COORDINATE)


def test_single_maps_spread_by_their_scatter_about_the_path() -> None:
    def steep(u: float) -> Array:
        return 10.0 * straight(u)

    found = PosteriorModel(known(2000, steep), COORDINATE).measure(draw("x", 0.3, 2000, 2, steep))
    ends = 0.4 * 10.0 ** np.array([-0.05, 0.05])  # a scatter of 1 is 0.05 in u
    assert found.map_spread == pytest.approx(np.ptp(ends) / 2, rel=0.1)


def test_calibration_scales_each_arm_by_what_calibration_populations_missed(
    normal: Posterior,
) -> None:
    shifts = np.linspace(-0.1, 0.1, 99)  # wider than the posterior says
    sigma = [float(COORDINATE.inverse(0.5 + x)) for x in shifts]
    found = Calibration([normal] * 99, sigma).intervals(normal)[0.68]
    np.testing.assert_allclose(COORDINATE.of(np.array(found)), [0.432, 0.568], atol=4e-3)
    assert Calibration().intervals(normal)[0.68] == normal.interval(0.68)


def test_too_few_calibration_populations_give_the_whole_prior(normal: Posterior) -> None:
    found = Calibration([normal] * 5, [0.2] * 5)
    np.testing.assert_allclose(found.intervals(normal)[0.95], [0.0, 1.6], atol=1e-9)
    assert found.too_few() == [0.9, 0.95]


def test_wider_levels_hold_narrower_ones_whatever_the_calibration(normal: Posterior) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        sigma = COORDINATE.inverse(np.clip(0.5 + 0.1 * rng.standard_t(2, 20), 0, 1)).tolist()
        found = Calibration([normal] * 20, sigma).intervals(normal)
        lows, highs = np.transpose([found[level] for level in sorted(found)])
        assert (np.diff(lows) <= 0).all()
        assert (np.diff(highs) >= 0).all()
