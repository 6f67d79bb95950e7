import numpy as np
import pytest

from callbacks.metrics.disentanglement import (
    binned_information,
    correlations,
    dci,
    equal_count_bins,
    importance_scores,
    modularity,
    mutual_information_gap,
    separated_attribute_predictability,
)

RNG = np.random.default_rng(0)
FACTOR = RNG.normal(size=(3000, 3))
NOISE = RNG.normal(size=(3000, 2))
AXES = np.concatenate([FACTOR[:, [2, 0, 1]] ** 3, NOISE], 1)  # permuted, monotone, two idle
ROTATION = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
ROTATED = np.concatenate([FACTOR, NOISE], 1) @ ROTATION
FITTED = np.arange(3000) % 2 == 0


def test_bins_have_equal_counts_and_keep_ties_together() -> None:
    bins = equal_count_bins(np.stack([RNG.normal(size=100), np.repeat([1.0, 2.0], 50)], 1), 20)
    assert np.bincount(bins[:, 0]).tolist() == [5] * 20
    assert np.unique(bins[:, 1]).tolist() == [0, 10]


def test_information_of_copies_and_of_independent_variables() -> None:
    information = binned_information(AXES, FACTOR)
    assert information[1, 0] == pytest.approx(np.log(20), rel=0.05)
    assert information[3:].max() < 0.02


def test_information_of_correlated_gaussians() -> None:
    x = np.random.default_rng(1).normal(size=(20000, 2))
    y = 0.8 * x[:, :1] + 0.6 * x[:, 1:]
    expected = -0.5 * np.log(1 - 0.64)
    assert binned_information(x[:, :1], y)[0, 0] == pytest.approx(
        expected, rel=0.08
    )  # bins lose some


def test_axes_that_are_the_factors_score_one() -> None:
    information = binned_information(AXES, FACTOR)
    assert mutual_information_gap(information, FACTOR).min() > 0.93
    assert modularity(information) > 0.99
    assert separated_attribute_predictability(np.cbrt(AXES), FACTOR).min() > 0.99
    found = dci(AXES, FACTOR, FITTED)
    assert min(found) > 0.95


def test_rotated_axes_score_low_but_inform() -> None:
    information = binned_information(ROTATED, FACTOR)
    assert mutual_information_gap(information, FACTOR).max() < 0.3
    assert separated_attribute_predictability(ROTATED, FACTOR).max() < 0.6
    found = dci(ROTATED, FACTOR, FITTED)
    assert found.disentanglement < 0.5
    assert found.completeness < 0.5
    assert found.informativeness > 0.7


def test_latents_without_information_score_nothing() -> None:
    latent = np.random.default_rng(2).normal(size=(3000, 3))
    latent[:, 0] = 1.0
    assert dci(latent, FACTOR, FITTED).informativeness < 0.02
    assert mutual_information_gap(binned_information(latent, FACTOR), FACTOR).max() < 0.02
    assert np.isnan(modularity(np.zeros((2, 2))))


def test_importances_with_known_scores() -> None:
    assert importance_scores(np.eye(3)) == (1.0, 1.0)
    assert importance_scores(np.ones((4, 4))) == pytest.approx((0.0, 0.0))
    one_for_all = np.zeros((2, 2))
    one_for_all[0] = 1.0
    assert importance_scores(one_for_all) == pytest.approx((0.0, 1.0))


def test_correlations_match_numpy() -> None:
    expected = np.corrcoef(ROTATED, FACTOR, rowvar=False)[:5, 5:]
    assert correlations(ROTATED, FACTOR) == pytest.approx(expected)
    assert correlations(np.ones((3000, 1)), FACTOR) == pytest.approx(0)
