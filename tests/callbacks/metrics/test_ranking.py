import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from callbacks.metrics.ranking import (
    Ranking,
    area_under_roc,
    average_precision,
    completeness_at_purity,
)


def test_perfect_reversed_and_constant_scores() -> None:
    y = np.array([0, 0, 1, 1], dtype=bool)
    assert area_under_roc(Ranking(y, [0.1, 0.2, 0.8, 0.9]).curve()) == 1
    assert average_precision(Ranking(y, [0.1, 0.2, 0.8, 0.9]).curve()) == 1
    assert area_under_roc(Ranking(y, [0.9, 0.8, 0.2, 0.1]).curve()) == 0
    tied = Ranking(y, np.full(4, 0.5)).curve()
    assert area_under_roc(tied) == 0.5
    assert average_precision(tied) == 0.5


def test_equal_to_scikit_learn_with_ties_and_weights() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(500) < 0.3
    score = np.round(rng.normal(size=500) + y, 1)
    weights = rng.integers(0, 4, 500)
    curve = Ranking(y, score).curve(weights)
    assert area_under_roc(curve) == pytest.approx(roc_auc_score(y, score, sample_weight=weights))
    expected = average_precision_score(y, score, sample_weight=weights)
    assert average_precision(curve) == pytest.approx(expected)


def test_completeness_at_purity_in_closed_form() -> None:
    # Falling scores: two positives, one negative, two positives, five negatives.
    y = np.array([1, 1, 0, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
    curve = Ranking(y, -np.arange(10.0)).curve()
    assert completeness_at_purity(curve, 1.0) == 0.5
    assert completeness_at_purity(curve, 0.8) == 1.0
    assert completeness_at_purity(curve, 0.9) == 0.5
    reversed_order = Ranking([False, True, True], [0.9, 0.2, 0.1]).curve()
    assert completeness_at_purity(reversed_order, 0.7) == 0.0
    assert completeness_at_purity(reversed_order, 0.6) == 1.0


def test_one_class_is_not_defined_and_nan_is_refused() -> None:
    assert np.isnan(area_under_roc(Ranking([True, True], [0.1, 0.2]).curve()))
    assert np.isnan(completeness_at_purity(Ranking([False, False], [0.1, 0.2]).curve(), 0.9))
    with pytest.raises(ValueError, match="NaN"):
        Ranking([True, False], [0.1, np.nan])
