import numpy as np

from callbacks.sidm.populations import Array, MeanOfMaps, Population, resampled_halos, suites
from tests.callbacks.sidm.toy import draw


def mean_and_error(values: Array, halo: Array) -> tuple[Array, Array]:
    found = MeanOfMaps.of(values, halo)
    return found.mean, found.covariance(found)


def test_the_error_of_the_mean_of_single_maps_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(size=(50, 2))
    mean, variance = mean_and_error(values, np.arange(50))
    np.testing.assert_allclose(mean, values.mean(0))
    np.testing.assert_allclose(variance, values.var(0, ddof=1) / 50)


def test_maps_that_repeat_within_their_halo_add_nothing() -> None:
    values = np.random.default_rng(0).normal(size=(50, 2))
    _, single = mean_and_error(values, np.arange(50))
    _, repeated = mean_and_error(np.repeat(values, 3, 0), np.repeat(np.arange(50), 3))
    np.testing.assert_allclose(repeated, single)


def test_one_halo_tells_no_error() -> None:
    assert np.isinf(mean_and_error(np.ones((4, 1)), np.zeros(4))[1]).all()


def test_the_error_is_that_of_a_bootstrap_over_halos_of_uneven_size() -> None:
    rng = np.random.default_rng(3)
    halo = np.repeat(np.arange(80), rng.integers(1, 5, 80))
    values = rng.normal(size=80)[halo] + 0.3 * rng.normal(size=len(halo))
    draws = resampled_halos(halo, len(halo), seed=1)
    means = [values[next(draws)].mean() for _ in range(2000)]
    _, variance = mean_and_error(values[:, None], halo)
    assert abs(np.std(means) / np.sqrt(variance[0]) - 1) < 0.1


def test_means_of_twins_share_their_error_and_those_of_strangers_do_not() -> None:
    rng = np.random.default_rng(4)
    structure, halo = rng.normal(size=(4000, 1)), np.arange(4000)
    first, twin = (
        MeanOfMaps.of(structure + 0.5 * rng.normal(size=(4000, 1)), halo) for _ in range(2)
    )
    np.testing.assert_allclose(first.covariance(twin) * 4000, 1.0, rtol=0.1)
    np.testing.assert_allclose(first.covariance(first) * 4000, 1.25, rtol=0.1)
    stranger = MeanOfMaps.of(structure, halo + 10_000)
    assert first.covariance(stranger) == 0


def test_a_part_of_a_population_holds_whole_halos() -> None:
    whole = draw("x", 0.1, 60, 0)
    whole = Population(whole.name, whole.latent, np.arange(60) // 3, whole.cross_section)
    part = whole.first_halos(20, seed=0)
    assert 18 <= part.num_maps <= 21
    assert set(np.unique(part.halo, return_counts=True)[1]) == {3}
    assert whole.first_halos(100, seed=0).num_maps == 60


def test_simulations_that_share_halos_are_a_suite() -> None:
    def run(name: str, first: int, value: float) -> Population:
        return Population(name, np.zeros((5, 1, 2)), np.arange(first, first + 5), value)

    known = [run("d0", 100, 0.0), run("b0", 0, 0.0), run("b1", 4, 1.0), run("b3", 8, 0.3)]
    assert [[one.name for one in suite] for suite in suites(known)] == [["b0", "b1", "b3"], ["d0"]]
