import numpy as np
import pytest

from callbacks.report.bootstrap import Bootstrap
from callbacks.report.scope import Scope
from callbacks.report.table import Report, Row


def new_scope(num_resamples: int = 20, groups: np.ndarray | None = None) -> Scope:
    return Scope(Report("clustering", "all", 10), "model", Bootstrap(num_resamples, 0, groups))


def rows(scope: Scope) -> dict[str, Row]:
    return {row.key.removeprefix("model/"): row for row in scope.report.rows}


def values(scope: Scope) -> dict[str, float]:
    return {key: row.value for key, row in rows(scope).items()}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.50"),
        (1.0, "1.00"),
        (np.float64(0.9), "0.90"),
        (30, "30"),
        ("held_out", "held_out"),
        ((10, np.inf), "10..inf"),
        ((1e-3, 0.01), "0.001..0.01"),
        ((-np.inf, 19.5), "-inf..19.5"),
    ],
)
def test_slices_are_written_in_one_way(value: object, text: str) -> None:
    assert new_scope().where(name=value).slice == f"name={text}"


def test_slices_nest_from_wide_to_narrow() -> None:
    scope = new_scope().where(split="all").where(threshold=0.5, bin=(0, 1))
    assert scope.slice == "split=all/threshold=0.50/bin=0..1"
    assert new_scope().where().slice == ""
    scope.add("recall", 0.25, n=4)
    assert scope.report.rows == [Row("model", "recall", scope.slice, 0.25, None, 4)]


def test_a_number_is_added_once() -> None:
    scope = new_scope()
    scope.share("recall", np.array([True]))
    scope.where(split="all").share("recall", np.array([True]))
    with pytest.raises(ValueError, match="model/recall/split=all already"):
        scope.where(split="all").mean("recall", np.ones(3))


def test_mean_and_its_standard_error() -> None:
    x = np.random.default_rng(0).normal(3, size=1000)
    scope = new_scope(1000)
    scope.mean("x", x)
    (row,) = scope.report.rows
    assert (row.value, row.n) == (pytest.approx(x.mean()), 1000)
    assert row.std == pytest.approx(x.std() / 1000**0.5, rel=0.1)


def test_ratio_of_sums_and_its_propagated_error() -> None:
    rng = np.random.default_rng(0)
    whole = rng.uniform(1, 3, 2000)
    part = 0.5 * whole + 0.1 * rng.normal(size=2000)
    scope = new_scope(1000)
    scope.ratio("share", part, whole)
    (row,) = scope.report.rows
    assert row.value == pytest.approx(part.sum() / whole.sum())
    residual = part - row.value * whole  # the common scatter of both cancels
    assert row.std == pytest.approx(residual.std() / whole.mean() / 2000**0.5, rel=0.1)


def test_share_is_binomial_and_pairs_count_once() -> None:
    happened = np.repeat([True, False], [300, 700])
    alone, pairs = new_scope(), new_scope(2000, np.repeat(np.arange(500), 2))
    for scope in (alone, pairs):
        scope.share("recall", happened)
        assert (scope.report.rows[0].value, scope.report.rows[0].n) == (0.3, 1000)
    error = (0.3 * 0.7 / 1000) ** 0.5
    assert alone.report.rows[0].std == pytest.approx(error)
    assert pairs.report.rows[0].std == pytest.approx(2**0.5 * error, rel=0.08)


@pytest.mark.parametrize("groups", [None, np.empty(0)])
def test_share_of_nothing_is_not_defined(groups: np.ndarray | None) -> None:
    scope = new_scope(groups=groups)
    scope.share("recall", np.zeros(0, dtype=bool))
    assert np.isnan(scope.report.rows[0].value)
    assert scope.report.rows[0].n == 0


def test_a_part_takes_its_own_groups_and_stays_in_the_slice() -> None:
    groups = np.repeat(np.arange(4), 5)
    part = new_scope(groups=groups).where(split="all").of(groups > 1)
    assert part.slice == "split=all"
    part.mean("x", np.ones(10))
    assert part.report.rows[0].std == 0
    with pytest.raises(ValueError, match="groups of 10 objects, not 20"):
        part.mean("y", np.ones(20))


def test_probability_scores_of_known_values() -> None:
    p = np.array([0.9] * 100 + [0.2] * 100)
    y = np.array([True] * 80 + [False] * 20 + [True] * 20 + [False] * 80)
    scope = new_scope(400)
    scope.probability(p, y)
    brier, log_loss, ece = scope.report.rows
    assert brier.value == pytest.approx((80 * 0.01 + 20 * 0.81 + 20 * 0.64 + 80 * 0.04) / 200)
    expected = -(80 * np.log(0.9) + 20 * np.log(0.1) + 20 * np.log(0.2) + 80 * np.log(0.8)) / 200
    assert log_loss.value == pytest.approx(expected)
    assert ece.value == pytest.approx(0.05)
    squares = (p - y) ** 2
    assert brier.std == pytest.approx(squares.std() / 200**0.5, rel=0.15)


def test_one_sure_mistake_does_not_make_the_log_loss_infinite() -> None:
    scope = new_scope()
    scope.probability(np.array([1.0, 1.0]), np.array([True, False]))
    assert values(scope)["log_loss"] == pytest.approx(-np.log(1e-6) / 2, rel=1e-3)


def ece_deviation(p: np.ndarray, y: np.ndarray, groups: np.ndarray | None) -> float:
    scope = new_scope(1000, groups)
    scope.probability(p, y)
    std = rows(scope)["ece"].std
    assert std is not None
    return std


def test_calibration_error_varies_alike_by_objects_and_by_groups_of_one() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(3000)
    y = rng.random(3000) < np.clip(p + 0.1, 0, 1)
    order = np.arange(3000)
    assert ece_deviation(p, y, order) == pytest.approx(ece_deviation(p, y, None), rel=0.15)


def test_calibration_error_of_unequal_groups_is_a_share_of_the_objects_drawn() -> None:
    # All objects miss by 0.1, whichever groups are drawn: the error does not vary.
    p, groups = np.linspace(0.2, 0.8, 610), np.repeat(np.arange(12), [500, *[10] * 11])
    report = Report("toy", "all", 610)
    scope = Scope(report, "model", Bootstrap(50, 0, groups))
    scope.probability(p, p + 0.1)
    assert report.rows_of("ece")[0].value == pytest.approx(0.1)
    assert report.rows_of("ece")[0].std == pytest.approx(0, abs=1e-12)


def test_calibration_error_of_copies_varies_as_that_of_the_originals() -> None:
    rng = np.random.default_rng(1)
    p = rng.integers(1, 11, 800) / 10  # ten bins, whatever the number of objects
    y = rng.random(800) < p
    copies = [np.repeat(x, 3) for x in (p, y, np.arange(800))]
    assert ece_deviation(*copies) == pytest.approx(ece_deviation(p, y, np.arange(800)))
    assert ece_deviation(*copies) > 1.3 * ece_deviation(*copies[:2], None)


def test_ranking_of_six_objects() -> None:
    p, y = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), np.array([1, 1, 0, 1, 0, 0], dtype=bool)
    scope = new_scope(200).where(split="all")
    scope.ranking(p, y, (0.9, 0.7))
    found = values(scope)
    assert found["auc/split=all"] == pytest.approx(8 / 9)  # of nine pairs one is upside down
    assert found["average_precision/split=all"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert found["completeness/split=all/purity=0.90"] == pytest.approx(2 / 3)
    assert found["completeness/split=all/purity=0.70"] == 1
    assert {row.n for row in scope.report.rows} == {6}
    assert all(0 < (row.std or 0) < 1 for row in scope.report.rows)


def test_ranking_counts_pairs_once() -> None:
    rng = np.random.default_rng(2)
    y = np.repeat([False, True], 300)
    p = rng.normal(size=600) + y
    alone, pairs = new_scope(500), new_scope(500, np.repeat(np.arange(600), 2))
    alone.ranking(p, y)
    pairs.ranking(np.repeat(p, 2), np.repeat(y, 2))
    one, two = rows(alone)["auc"], rows(pairs)["auc"]
    assert one.value == pytest.approx(two.value)
    assert one.std == pytest.approx(two.std, rel=0.15)


def test_ranking_of_one_kind_alone_is_not_defined() -> None:
    scope = new_scope()
    scope.ranking(np.array([0.1, 0.9]), np.array([False, False]), (0.9,))
    for name in ("auc", "average_precision", "completeness/purity=0.90"):
        assert np.isnan(values(scope)[name]), name
        assert np.isnan(rows(scope)[name].std), name


def test_classes_of_a_known_confusion_matrix() -> None:
    true = np.repeat([0, 1, 2], [10, 20, 5])
    predicted = np.concatenate([np.repeat([0, 1], [8, 2]), np.repeat([0, 1], [4, 16]), [1] * 5])
    scope = new_scope().where(split="all")
    scope.classes(predicted, true, ["star", "galaxy", "other"])
    found = rows(scope)
    confusion = [
        [
            found[f"confusion/split=all/true={one}/predicted={other}"].value
            for other in ("star", "galaxy", "other")
        ]
        for one in ("star", "galaxy", "other")
    ]
    assert confusion == [[8, 2, 0], [4, 16, 0], [0, 5, 0]]
    assert found["precision/split=all/class=star"].value == pytest.approx(8 / 12)
    assert found["precision/split=all/class=star"].n == 12
    assert found["recall/split=all/class=galaxy"].value == pytest.approx(16 / 20)
    assert found["recall/split=all/class=galaxy"].n == 20
    assert found["f1/split=all/class=star"].value == pytest.approx(16 / 22)
    assert np.isnan(found["precision/split=all/class=other"].value)  # nothing was called so
    assert found["recall/split=all/class=other"].value == 0


def test_regression_of_a_constant_offset() -> None:
    true = np.arange(100.0)
    scope = new_scope(200)
    scope.regression(true + 3, true)
    scope.regression(true, true, "_ridge")
    found = rows(scope)
    assert found["rmse"].value == pytest.approx(3)
    assert found["rmse"].std == pytest.approx(0)
    assert found["r2"].value == pytest.approx(1 - 9 / true.var())
    # R^2 = 1 - 9 / var: its deviation is that of the variance, which is known.
    fourth = np.mean((true - true.mean()) ** 4)
    expected = 9 / true.var() ** 2 * ((fourth - true.var() ** 2) / 100) ** 0.5
    assert found["r2"].std == pytest.approx(expected, rel=0.25)
    assert (found["r2_ridge"].value, found["rmse_ridge"].value) == (1, 0)


def test_regression_with_gaussian_errors() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=4000)
    scope = new_scope(500)
    scope.regression(true + 0.5 * rng.normal(size=4000), true)
    found = rows(scope)
    assert found["rmse"].value == pytest.approx(0.5, rel=0.04)
    assert found["rmse"].std == pytest.approx(0.5 / 8000**0.5, rel=0.15)
    assert found["r2"].value == pytest.approx(0.75, abs=0.02)


def test_bins_hold_their_lower_edge_and_only_what_is_known() -> None:
    x = np.array([0.0, 0.5, 1.0, 7.0, np.nan, -1.0])
    found = list(new_scope().where(split="all").by_bins("x", x, (0, 1, 2, 5, np.inf)))
    slices = [scope.slice for scope, _ in found]
    assert slices == ["split=all/x=0..1", "split=all/x=1..2", "split=all/x=5..inf"]
    assert [np.flatnonzero(inside).tolist() for _, inside in found] == [[0, 1], [2], [3]]
