import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from callbacks.metrics.contingency import (
    accuracy,
    adjusted_rand,
    align,
    contingency,
    normalized_mutual_information,
)


def random_labels(num_classes: int, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(num_classes, size=n)


def test_contingency_counts_and_leaves_out_unknown_classes() -> None:
    table = contingency(np.array([0, 0, 1, -1]), np.array([1, 1, 0, 0]), num_clusters=3)
    assert table.tolist() == [[0, 2, 0], [1, 0, 0]]


def test_permuted_labels_are_perfect() -> None:
    target = random_labels(4, 500, 0)
    table = contingency(target, (target + 1) % 4)
    assert adjusted_rand(table) == pytest.approx(1.0)
    assert normalized_mutual_information(table) == pytest.approx(1.0)
    assert accuracy(table) == pytest.approx(1.0)
    assert align(table).tolist() == [3, 0, 1, 2]


def test_independent_labels_score_zero() -> None:
    table = contingency(random_labels(3, 20000, 1), random_labels(3, 20000, 2))
    assert abs(adjusted_rand(table)) < 1e-3
    assert normalized_mutual_information(table) < 1e-3
    assert accuracy(table) == pytest.approx(1 / 3, abs=0.02)


def test_scores_equal_scikit_learn() -> None:
    target = random_labels(3, 400, 3)
    assignment = np.where(random_labels(3, 400, 4) == 0, random_labels(5, 400, 5), target)
    table = contingency(target, assignment)
    assert adjusted_rand(table) == pytest.approx(adjusted_rand_score(target, assignment))
    nmi = normalized_mutual_info_score(target, assignment)
    assert normalized_mutual_information(table) == pytest.approx(nmi)


def test_scores_of_a_stack_of_tables() -> None:
    tables = np.random.default_rng(0).integers(1, 50, size=(7, 3, 4))
    for score in (adjusted_rand, normalized_mutual_information):
        np.testing.assert_allclose(score(tables), [score(table) for table in tables])
    alignment = np.array([0, 2, -1, 1])
    expected = [(t[0, 0] + t[2, 1] + t[1, 3]) / t.sum() for t in tables]
    np.testing.assert_allclose(accuracy(tables, alignment), expected)


def test_single_cluster_is_defined() -> None:
    one = contingency(np.zeros(5, int), np.zeros(5, int))
    assert adjusted_rand(one) == 1.0
    assert normalized_mutual_information(one) == 1.0
    lumped = contingency(random_labels(2, 100, 0), np.zeros(100, int))
    assert adjusted_rand(lumped) == pytest.approx(0.0)
    assert normalized_mutual_information(lumped) == pytest.approx(0.0)


def test_left_over_clusters_have_no_class() -> None:
    table = np.array([[50, 30, 0], [0, 0, 40]])
    assert align(table).tolist() == [0, -1, 1]
    assert accuracy(table) == pytest.approx(90 / 120)


def test_hungarian_accuracy_counts_one_cluster_a_class() -> None:
    def score(target: list[int], assignment: list[int]) -> float:
        return float(accuracy(contingency(np.array(target), np.array(assignment))))

    assert score([0, 0, 1, 1], [0, 1, 2, 3]) == 0.5  # many-to-one would give 1
    assert score([0, 0, 1, 1], [4, 4, 4, 4]) == 0.5
    assert score([0, 0, 0, 1], [1, 1, 0, 0]) == 0.75


def test_scores_of_a_hand_computed_table() -> None:
    # [[2, 1], [0, 1]]: index 1, expected 3 * 2 / 6 = 1, so ARI = 0.
    table = np.array([[2, 1], [0, 1]])
    assert adjusted_rand(table) == pytest.approx(0.0)
    assert accuracy(table) == 0.75
    entropy = [-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), np.log(2)]
    mutual = 0.5 * np.log(0.5 / 0.375) + 0.25 * np.log(0.25 / 0.375) + 0.25 * np.log(0.25 / 0.125)
    assert normalized_mutual_information(table) == pytest.approx(mutual / np.mean(entropy))
