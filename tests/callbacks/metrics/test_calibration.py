import numpy as np
import pytest

from callbacks.metrics.calibration import (
    conformal_factor,
    interval_coverage,
    reliability_table,
)


def test_calibrated_probabilities_have_little_error_and_overconfident_ones_much() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 50_000)
    member = rng.uniform(0, 1, 50_000) < probability
    assert reliability_table(member, probability).error < 0.01
    sure = (probability > 0.5).astype(float)
    assert reliability_table(member, sure).error == pytest.approx(0.25, abs=0.01)


def test_bins_have_equal_mass_and_ignore_the_order() -> None:
    rng = np.random.default_rng(1)
    probability, member = rng.beta(0.3, 0.3, 1500), rng.integers(0, 2, 1500)
    table = reliability_table(member, probability)
    assert len(table.num_objects) == 15
    assert table.num_objects.sum() == 1500
    assert table.num_objects.min() >= 99
    order = rng.permutation(1500)
    again = reliability_table(member[order], probability[order])
    np.testing.assert_allclose(again.frequency, table.frequency)


def test_tied_probabilities_share_a_bin() -> None:
    table = reliability_table([0, 1, 1, 1, 0, 0], [0.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    assert table.num_objects.tolist() == [3, 3]
    assert table.frequency.tolist() == [0.0, 1.0]
    assert reliability_table([0, 1], [0.5, 0.5]).num_objects.tolist() == [2]


@pytest.mark.parametrize(
    ("truth", "predicted"), [([], []), ([0, 1], [0]), ([0, 1], [0.5, float("nan")])]
)
def test_bad_arrays_are_refused(truth: list[int], predicted: list[float]) -> None:
    with pytest.raises(ValueError, match=r"one non-zero length|NaN"):
        reliability_table(truth, predicted)


def test_an_interval_holds_its_ends() -> None:
    held = interval_coverage([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.1])
    assert held.tolist() == [True, True, False]


def test_the_conformal_factor_is_an_order_statistic() -> None:
    scores = np.arange(1, 20) / 20.0
    assert conformal_factor(scores, 0.95) == scores[18]  # ceil(20 x 0.95) = 19th of 19
    assert conformal_factor(scores, 0.5) == scores[9]
    assert conformal_factor(scores[:18], 0.95) == float("inf")


def test_conformal_intervals_hold_new_values_at_least_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = [
        rng.standard_t(3) <= conformal_factor(rng.standard_t(3, size=40), 0.68) for _ in range(2000)
    ]
    assert 0.65 < np.mean(held) < 0.74


def test_a_score_that_is_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="a calibration score is NaN"):
        conformal_factor([0.5, float("nan")], 0.5)
