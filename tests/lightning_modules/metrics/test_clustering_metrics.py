import numpy as np
import pytest

from lightning_modules.metrics.clustering import (
    brier_score,
    clustering_scores,
    expected_calibration_error,
    hungarian_accuracy,
    match_labels,
    reliability_table,
)

LABEL = np.array([0, 0, 0, 1, 1, 2, 2, 2])
RENAMED = np.array([7, 7, 7, 3, 3, 5, 5, 5])


def test_perfect_clustering_scores_one_whatever_the_names() -> None:
    assert clustering_scores(LABEL, RENAMED) == {"ari": 1.0, "nmi": 1.0, "accuracy": 1.0}
    assert match_labels(LABEL, RENAMED) == {7: 0, 3: 1, 5: 2}


def test_hungarian_accuracy_counts_one_cluster_a_class() -> None:
    assert hungarian_accuracy([0, 0, 1, 1], [0, 1, 2, 3]) == 0.5  # many-to-one would give 1
    assert hungarian_accuracy([0, 0, 1, 1], [4, 4, 4, 4]) == 0.5
    assert hungarian_accuracy([0, 0, 0, 1], [1, 1, 0, 0]) == 0.75


def test_scores_of_a_hand_computed_table() -> None:
    # Contingency [[2, 1], [0, 1]]: index 1, expected 3·2/6 = 1, so ARI = 0.
    scores = clustering_scores([0, 0, 0, 1], [0, 0, 1, 1])
    assert scores["ari"] == pytest.approx(0.0)
    assert scores["accuracy"] == 0.75
    entropy = [-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), np.log(2)]
    mutual = 0.5 * np.log(0.5 / 0.375) + 0.25 * np.log(0.25 / 0.375) + 0.25 * np.log(0.25 / 0.125)
    assert scores["nmi"] == pytest.approx(mutual / np.mean(entropy))


def test_random_clustering_has_no_adjusted_rand_index() -> None:
    rng = np.random.default_rng(0)
    scores = clustering_scores(rng.integers(0, 4, 20_000), rng.integers(0, 4, 20_000))
    assert abs(scores["ari"]) < 1e-3


def test_brier_score_of_known_values() -> None:
    assert brier_score([1, 0], [1.0, 0.0]) == 0.0
    assert brier_score([True, False], [0.5, 0.5]) == 0.25
    assert brier_score([1, 0], [0.8, 0.4]) == pytest.approx(0.1)


def test_calibrated_probabilities_have_little_error_and_overconfident_ones_much() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 50_000)
    member = rng.uniform(0, 1, 50_000) < probability
    assert expected_calibration_error(member, probability) < 0.01
    assert expected_calibration_error(member, (probability > 0.5).astype(float)) == pytest.approx(
        0.25, abs=0.01
    )


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
        brier_score(truth, predicted)
