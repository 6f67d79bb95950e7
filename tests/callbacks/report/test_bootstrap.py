import numpy as np
import pytest

from callbacks.report.bootstrap import Bootstrap, subsample

R = 2000  # the deviation of R resamples is known to 1 / sqrt(2 R) = 1.6 %


def deviation_of_mean(bootstrap: Bootstrap, x: np.ndarray) -> float:
    return float(bootstrap.std(x, lambda sums: sums / len(x)))


def grouped(num_groups: int, members: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values and groups of objects that are alike within their group, in random order."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(num_groups), members))
    return rng.normal(size=num_groups)[groups], groups


def test_deviation_of_a_mean_is_its_standard_error() -> None:
    x = np.random.default_rng(0).normal(size=1000)
    assert deviation_of_mean(Bootstrap(R), x) == pytest.approx(x.std() / 1000**0.5, rel=0.08)
    assert Bootstrap(R).std_weighted(1000, lambda w: w @ x / 1000) == pytest.approx(
        x.std() / 1000**0.5, rel=0.08
    )


def test_objects_that_belong_together_count_once() -> None:
    x, groups = grouped(num_groups=100, members=9)
    together = deviation_of_mean(Bootstrap(R, groups=groups), x)
    alone = deviation_of_mean(Bootstrap(R), x)
    assert together == pytest.approx(x.std() / 100**0.5, rel=0.08)
    assert together / alone == pytest.approx(9**0.5, rel=0.1)


def test_groups_may_have_names() -> None:
    x, groups = grouped(num_groups=12, members=5)
    names = np.array([f"field {number:03d}" for number in groups])
    numbered, named = Bootstrap(20, groups=groups), Bootstrap(20, groups=names)
    np.testing.assert_array_equal(numbered.sums(x), named.sums(x))


def test_groups_of_one_object_are_no_groups() -> None:
    x = np.random.default_rng(1).normal(size=500)
    alone = deviation_of_mean(Bootstrap(R, groups=np.arange(500)), x)
    assert alone == pytest.approx(x.std() / 500**0.5, rel=0.08)


def test_every_resample_has_as_many_objects() -> None:
    for weights in Bootstrap(20).weights(50):
        assert weights.sum() == 50
    _, groups = grouped(num_groups=10, members=5)
    for weights in Bootstrap(20, groups=groups).weights(50):
        assert weights.sum() == 50
        for name in range(10):
            assert len(set(weights[groups == name])) == 1


def test_resamples_are_a_function_of_the_seed() -> None:
    x = np.arange(50.0)
    assert (Bootstrap(20, seed=1).sums(x) == Bootstrap(20, seed=1).sums(x)).all()
    assert (Bootstrap(20, seed=1).sums(x) != Bootstrap(20, seed=2).sums(x)).any()
    assert (Bootstrap(20).sums(np.ones((50, 2))) == 50).all()


def test_a_subset_takes_its_own_groups() -> None:
    x, groups = grouped(num_groups=100, members=4)
    bootstrap, mask = Bootstrap(R, seed=3, groups=groups), groups < 25
    for rows in (mask, np.flatnonzero(mask)):
        part = bootstrap.take(rows)
        assert (part.num_resamples, part.seed) == (R, 3)
        np.testing.assert_array_equal(part.groups, groups[mask])
        error = x[mask].std() / 25**0.5
        assert deviation_of_mean(part, x[mask]) == pytest.approx(error, rel=0.08)
    np.testing.assert_array_equal(bootstrap.take(None).groups, groups)
    assert Bootstrap(R, 3).take(mask).groups is None


def test_groups_of_other_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="groups of 4 objects, not 5"):
        Bootstrap(20, groups=np.zeros(4)).sums(np.ones(5))


def test_cells_of_a_table_are_drawn_as_a_multinomial() -> None:
    cells = np.repeat([0, 1, 3], [100, 300, 600])
    share = np.array([0.1, 0.3, 0, 0.6])
    for bootstrap in (Bootstrap(4000), Bootstrap(4000, groups=np.arange(1000))):
        counts = bootstrap.counts(cells, 4)
        assert counts.shape == (4000, 4)
        assert (counts.sum(1) == 1000).all()
        np.testing.assert_allclose(counts.mean(0), 1000 * share, atol=1.5)
        np.testing.assert_allclose(counts.var(0), 1000 * share * (1 - share), rtol=0.12)


def test_cells_of_groups_are_the_sums_of_their_members() -> None:
    cells = np.array([0, 0, 1, 2, 2, 2])
    bootstrap = Bootstrap(50, groups=np.array([7, 7, 7, 8, 8, 8]))
    counts, first = bootstrap.counts(cells, 3), [w[0] for w in bootstrap.weights(6)]
    expected = [[2 * times, times, 3 * (2 - times)] for times in first]
    np.testing.assert_array_equal(counts, expected)
    assert set(first) == {0, 1, 2}


def test_resamples_without_a_value_are_passed_over() -> None:
    x = np.array([[1.0, 1.0]] + [[0.0, 0.0]] * 3)
    with np.errstate(invalid="ignore"):
        std = Bootstrap(100).std(x, lambda sums: sums[:, 0] / sums[:, 1])
    assert std == 0.0


def test_one_group_alone_has_no_deviation() -> None:
    alone = Bootstrap(20, 0, np.zeros(5, int))
    assert np.isnan(alone.std(np.arange(5.0), lambda sums: sums / 5))
    assert np.isnan(alone.std_weighted(5, lambda weights: weights.sum()))
    with pytest.raises(ValueError, match="at least 2"):
        Bootstrap(0)


def test_what_no_resample_defines_has_no_deviation() -> None:
    with np.errstate(invalid="ignore"):
        std = Bootstrap(20).std(np.zeros((9, 2)), lambda sums: sums[:, 0] / sums[:, 1])
    assert np.isnan(std)


def test_subsample_is_sorted_and_a_function_of_its_seed() -> None:
    assert subsample(5, 10, 0).tolist() == [0, 1, 2, 3, 4]
    chosen = subsample(1000, 10, 3)
    assert len(np.unique(chosen)) == 10
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, subsample(1000, 10, 3))
    assert (chosen != subsample(1000, 10, 4)).any()
