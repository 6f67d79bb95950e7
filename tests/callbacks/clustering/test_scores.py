from itertools import product
from typing import Any

import numpy as np
import pytest

from callbacks.clustering.alignment import Clustering, align_columns, event, membership
from callbacks.clustering.baselines import (
    GaussianMixtureBaseline,
    HDBSCANBaseline,
    KMeansBaseline,
    hdbscan_size,
)
from callbacks.clustering.contrasts import contrasts, find_groups
from callbacks.clustering.sample import (
    StarSample,
    make_subsets,
)
from callbacks.clustering.scores import (
    add_label_scores,
    add_rates,
    add_selection,
    add_subject,
    rates,
)
from callbacks.report.base import TestRun
from callbacks.report.bootstrap import Bootstrap
from callbacks.report.scope import Scope
from callbacks.report.table import Report, Row


def new_scope(num_resamples: int = 20, groups: np.ndarray | None = None) -> Scope:
    bootstrap = Bootstrap(num_resamples, 0, groups)
    return Scope(Report("clustering", "all", 10), "model", bootstrap)


def values(report: Report) -> dict[str, float]:
    return {row.key: row.value for row in report.rows}


def label_scores(clustering: Clustering, label: np.ndarray, alignment: np.ndarray) -> list[Row]:
    """ARI, NMI and accuracy of a clustering."""
    scope = new_scope()
    add_label_scores(scope, clustering, label, alignment)
    return scope.report.rows


def hard(assignment: np.ndarray, columns: int) -> Clustering:
    return Clustering(assignment, None, columns, subject="model")


def soft(probability: np.ndarray) -> Clustering:
    return Clustering(probability.argmax(1), probability, probability.shape[1], subject="model")


def blobs(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=n)
    centres = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    return centres[label] + 0.5 * rng.normal(size=(n, 2)), label


def test_perfect_clustering_is_perfect_whatever_the_column_names(run_of: Any) -> None:
    label = np.random.default_rng(0).integers(3, size=300)
    probability = np.eye(3)[(label + 1) % 3]
    clustering = soft(probability)
    sample = StarSample(np.zeros((300, 2)), np.zeros((300, 5)), np.ones(300), label)
    run = run_of(label=label)
    aligned = add_subject(run, clustering, sample, make_subsets(run)[0])
    assert aligned.probability is probability
    assert aligned.alignment is not None
    assert aligned.alignment.tolist() == [2, 0, 1]
    found = values(run.report)
    for name in ("ari", "nmi", "accuracy"):
        assert found[f"model/{name}/split=all"] == pytest.approx(1.0)
    for name in ("brier", "ece"):
        assert found[f"model/{name}/split=all"] == pytest.approx(0.0)
    assert found["model/log_loss/split=all"] == pytest.approx(1e-6, rel=0.01)
    for threshold in ("0.10", "0.50", "0.90"):
        assert found[f"model/completeness/split=all/threshold={threshold}"] == 1
        assert found[f"model/contamination/split=all/threshold={threshold}"] == 0


def test_random_clustering_scores_nothing_and_its_error_bar_covers_zero() -> None:
    rng = np.random.default_rng(1)
    label, assignment = rng.integers(3, size=5000), rng.integers(3, size=5000)
    scope = new_scope(200)
    add_label_scores(scope, hard(assignment, 3), label, np.array([0, 1, 2]))
    ari, _, accuracy = scope.report.rows
    assert abs(ari.value) < 5e-3
    assert ari.std is not None
    assert abs(ari.value) < 5 * ari.std
    assert accuracy.value == pytest.approx(1 / 3, abs=0.02)
    assert accuracy.std == pytest.approx((2 / 9 / 5000) ** 0.5, rel=0.2)  # binomial


def test_rates_against_threshold() -> None:
    p = np.array([0.9, 0.8, 0.6, 0.3, 0.1])
    y = np.array([True, True, False, True, False])
    completeness, contamination = rates(p, y, np.array([0.2, 0.7, 0.95]))
    np.testing.assert_allclose(completeness, [1, 2 / 3, 0])
    np.testing.assert_allclose(contamination, [1 / 4, 0, np.nan])


def test_further_columns_of_the_field_are_wrong_and_count_as_field() -> None:
    label = np.repeat([0, 1], [60, 40])
    assignment = np.repeat([0, 1, 2], [40, 20, 40])  # the field is cut in two
    alignment = align_columns(hard(assignment, 3), label, has_field=True)
    assert alignment.tolist() == [0, -1, 1]
    assert membership(hard(assignment, 3), alignment).sum() == 40
    assert label_scores(hard(assignment, 3), label, alignment)[2].value == pytest.approx(0.8)


def test_noise_is_the_field_even_where_it_holds_most_members() -> None:
    label = np.repeat([0, 1], [10, 90])
    assignment = np.repeat([0, 0, 1], [10, 60, 30])
    free = align_columns(hard(assignment, 2), label, has_field=True)
    noise = Clustering(assignment, None, 2, field_column=0)
    assert free.tolist() == [1, 0]
    assert align_columns(noise, label, has_field=True).tolist() == [0, 1]


def test_a_rare_cluster_takes_the_column_that_describes_it_best() -> None:
    label = np.repeat([0, 1], [875, 125])
    assignment = np.repeat([0, 1, 0, 1], [838, 37, 120, 5])  # one column takes nearly all stars
    clustering = hard(assignment, 2)
    alignment = align_columns(clustering, label, has_field=True)
    assert alignment.tolist() == [1, 0]  # counts of right stars would say [0, 1]
    found = []
    for classes in (alignment, 1 - alignment):
        scope = new_scope()
        add_selection(scope, membership(clustering, classes), label > 0)
        found.append(scope.report.rows[0].value)
    assert found == pytest.approx([0.222, 0.06], abs=1e-3)


def test_field_that_is_a_column_by_construction_leaves_the_rest_to_clusters() -> None:
    label = np.repeat([0, 1], [300, 20])
    assignment = np.repeat([0, 1, 2, 1], [200, 60, 40, 20])  # a cluster, contaminated; a false one
    field = Clustering(assignment, None, 3, field_column=0)
    assert align_columns(field, label, has_field=True).tolist() == [0, 1, 0]
    only = np.where(assignment == 1, 1, 0)
    assert align_columns(hard(only, 2), label, has_field=True).tolist() == [0, 1]


def test_a_class_without_a_column_of_its_own_takes_none() -> None:
    label = np.repeat([0, 1, 2], [100, 50, 10])
    two = hard(np.repeat([0, 1, 0], [100, 50, 10]), 2)  # cluster 2 was not found
    assert align_columns(two, label, has_field=True).tolist() == [0, 1]
    empty = hard(np.repeat([0, 1, 0, 2], [90, 60, 5, 5]), 4)  # column 3 holds no star
    assert align_columns(empty, label, has_field=True).tolist() == [0, 1, 2, -1]


def test_a_cluster_cut_in_two_is_a_cluster_and_a_field_cut_in_two_is_none() -> None:
    label = np.repeat([0, 1, 2], [100, 60, 12])
    cut = hard(np.repeat([0, 1, 2, 3], [100, 32, 28, 12]), 4)
    alignment = align_columns(cut, label, has_field=True)
    assert alignment.tolist() == [0, 1, 3, 2]  # 3 is no label: members, of no known cluster
    np.testing.assert_array_equal(membership(cut, alignment), label > 0)
    assert label_scores(cut, label, alignment)[2].value == pytest.approx(144 / 172)
    halves = hard(np.repeat([0, 1, 2, 1], [55, 45, 60, 12]), 3)  # the rare one is in the field
    assert align_columns(halves, label, has_field=True).tolist() == [0, -1, 1]


@pytest.mark.parametrize("field", [None, 0, 2])
def test_alignment_maximises_the_f1_of_membership(field: int | None) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        table = rng.integers(0, 40, size=(3, 4)) * rng.integers(0, 2, size=(3, 4))
        label = np.repeat(np.arange(3).repeat(4), table.ravel())
        assignment = np.repeat(np.tile(np.arange(4), 3), table.ravel())
        right, sizes = table[1:].sum(0), table.sum(0)
        subsets = [np.array(x, bool) for x in product([0, 1], repeat=4) if 0 < sum(x) < 4]
        allowed = [x for x in subsets if field is None or not x[field]]
        best = max(2 * right[x].sum() / max(right.sum() + sizes[x].sum(), 1) for x in allowed)
        alignment = align_columns(Clustering(assignment, None, 4, field), label, has_field=True)
        chosen = alignment > 0
        found = 2 * right[chosen].sum() / max(right.sum() + sizes[chosen].sum(), 1)
        assert found == pytest.approx(best)
        assert field is None or alignment[field] == 0


def test_members_in_the_noise_count_when_columns_are_chosen() -> None:
    label = np.repeat([1, 1, 1, 0], [60, 30, 10, 15])
    noise = Clustering(np.repeat([0, 1, 2, 2], [60, 30, 10, 15]), None, 3, field_column=0)
    alignment = align_columns(noise, label, has_field=True)
    assert alignment.tolist() == [0, 1, 2]  # F1 0.516; without the third column 0.462


def test_selection_at_one_half() -> None:
    scope = new_scope()
    p = np.array([0.9, 0.8, 0.6, 0.5, 0.1, 0.2])
    add_selection(scope, p, np.array([True, True, False, True, False, False]))
    found = {row.key: row for row in scope.report.rows}
    assert found["model/f1"].value == pytest.approx(2 / 3)
    assert found["model/completeness"].value == pytest.approx(2 / 3)
    assert found["model/purity"].value == pytest.approx(2 / 3)
    assert found["model/auc"].value == pytest.approx(8 / 9)  # one of nine pairs is the wrong way
    assert all(row.std is not None and row.std > 0 for row in found.values())


def test_field_may_be_noise_and_a_cluster_at_once() -> None:
    label = np.repeat([0, 0, 1, 2], [20, 60, 30, 30])
    assignment = np.repeat([0, 1, 2, 3], [20, 60, 30, 30])
    noise = Clustering(assignment, None, 4, field_column=0)
    assert align_columns(noise, label, has_field=True).tolist() == [0, 0, 1, 2]


def test_unknown_labels_do_not_count(run_of: Any) -> None:
    label = np.array([0, 0, 1, 1, -1, -1])
    run, sample = run_of(label=label), StarSample(np.zeros((6, 2)), label=label)
    clustering = hard(np.array([0, 0, 1, 1, 0, 1]), 2)
    add_subject(run, clustering, sample, make_subsets(run)[0])
    (ari,) = run.report.rows_of("ari")
    assert (ari.key, ari.value, ari.n) == ("model/ari/split=all", 1, 4)


def test_labels_out_of_reach_are_noted(run_of: Any) -> None:
    label, split = np.array([0, 1, -1, -1]), [0, 0, 2, 2]
    run, sample = run_of(split=split), StarSample(np.zeros((4, 2)), label=label)
    aligned = add_subject(run, hard(label.clip(0), 2), sample, make_subsets(run)[1])
    assert aligned.alignment is None
    assert run.report.notes == ["split=held_out: too few labels to score model"]
    assert [row.metric for row in run.report.rows] == ["num_clusters"]


def test_held_out_is_scored_with_the_names_learnt_elsewhere(run_of: Any) -> None:
    label = np.array([0] * 20 + [1] * 20 + [0] * 10 + [1] * 10)
    split = np.array([0] * 40 + [2] * 20)
    assignment = np.where(split == 2, 1 - label, label)  # the names swap on the held-out stars
    run, sample = run_of(split=split), StarSample(np.zeros((60, 2)), label=label)
    _, held_out = make_subsets(run)
    assert held_out.split == "held_out"
    assert held_out.scored.sum() == 20
    assert held_out.fitted.sum() == 40
    add_subject(run, hard(assignment, 2), sample, held_out)
    found = values(run.report)
    assert found["model/ari/split=held_out"] == 1
    assert found["model/accuracy/split=held_out"] == 0


def test_a_class_that_no_held_out_star_has(run_of: Any) -> None:
    label = np.repeat([0, 1, 7], [40, 15, 5])
    split = np.where((np.arange(60) % 4 == 0) & (label < 7), 2, 0)
    stars = np.zeros((60, 5)), np.zeros((60, 5)), np.ones(60)
    run, sample = run_of(split=split), StarSample(*stars, label)
    assert sample.num_classes == 3
    columns = hard(np.searchsorted([0, 1, 7], label), 3)
    add_subject(run, columns, sample, make_subsets(run)[1])
    assert values(run.report)["model/accuracy/split=held_out"] == 1.0


def test_without_field_calibration_is_of_the_most_likely_class() -> None:
    probability = np.array([[0.7, 0.3], [0.4, 0.6]])
    p, y = event(soft(probability), np.array([0, 0]), np.array([0, 1]), has_field=False)
    assert p.tolist() == [0.7, 0.6]
    assert y.tolist() == [True, False]


def ring(radius: float, centre: tuple[float, ...], n: int = 40) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    circle = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    depth = np.where(np.arange(n) % 2, radius, -radius)[:, None]
    return np.concatenate([circle, depth, circle], 1) + np.array(centre)


def test_contrasts_of_concentric_rings() -> None:
    stars = np.concatenate([ring(1.0, (0,) * 5), ring(4.0, (0,) * 5)])
    clustering = hard(np.repeat([0, 1], 40), 2)
    found = contrasts(clustering, stars, np.full(80, 0.1))
    assert found == pytest.approx(dict.fromkeys(found, 0.75))
    groups, field = find_groups(clustering, stars)
    assert (groups, field) == ([0], 1)


def test_contrasts_have_no_units_and_no_origin() -> None:
    rng = np.random.default_rng(0)
    stars = rng.normal(size=(300, 5)) * np.repeat([0.2, 1.0], [100, 200])[:, None]
    clustering = hard(np.repeat([1, 0], [100, 200]), 2)
    error = rng.uniform(0.1, 1, 300)
    scale, shift = np.array([60.0, 60, 1000, 4.7, 4.7]), np.array([9.0, -3, 2, 5, 1])
    moved = contrasts(clustering, stars * scale + shift, error * 1000)
    assert moved == pytest.approx(contrasts(clustering, stars, error))


def test_a_random_group_has_no_contrast() -> None:
    rng = np.random.default_rng(0)
    stars, assignment = rng.normal(size=(20000, 5)), rng.integers(2, size=20000)
    found = contrasts(hard(assignment, 2), stars, np.ones(20000))
    assert all(abs(value) < 0.04 for value in found.values())


def test_contrasts_of_one_group_or_absent_columns_are_not_defined() -> None:
    stars = ring(1.0, (0,) * 5)
    assert np.isnan(list(contrasts(hard(np.zeros(40, int), 1), stars, np.ones(40)).values())).all()
    both = np.concatenate([stars, 3 * stars])
    both[:, :2] = np.nan
    found = contrasts(hard(np.repeat([0, 1], 40), 2), both, np.ones(80))
    assert np.isnan(found["spatial_compactness"])
    assert found["kinematic_coherence"] == pytest.approx(2 / 3)


BASELINES = [KMeansBaseline(3, 0), GaussianMixtureBaseline(3, 0), HDBSCANBaseline()]


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)
def test_baselines_find_blobs_and_apply_to_new_objects(baseline: Any) -> None:
    data, label = blobs()
    new, new_label = blobs(200, seed=1)
    assert baseline.fit({"scaled": data}) is baseline
    for points, truth in ((data, label), (new, new_label)):
        clustering = baseline.predict({"scaled": points})
        alignment = align_columns(clustering, truth, has_field=False)
        assert label_scores(clustering, truth, alignment)[0].value > 0.9
        if clustering.probability is not None:
            np.testing.assert_allclose(clustering.probability.sum(1), 1)


def test_who_is_in_a_cluster_of_hdbscan_is_a_member_at_one_half() -> None:
    data, _ = blobs()
    found = HDBSCANBaseline().fit({"scaled": data}).predict({"scaled": data})
    chosen = membership(found, np.arange(found.num_columns)) > 0.5
    np.testing.assert_array_equal(chosen, found.assignment > 0)


def test_hdbscan_size_grows_with_the_square_root() -> None:
    assert hdbscan_size(100) == 10
    assert hdbscan_size(10_000) == 50
    assert hdbscan_size(1_000_000) == 500


def run_baselines(run: TestRun, fitted: np.ndarray) -> dict[str, Clustering]:
    return dict(run.baselines(*BASELINES, fitted=fitted))


def test_baselines_of_the_held_out_subset_see_the_training_split_alone(run_of: Any) -> None:
    data, _ = blobs()
    split = np.repeat([0, 2], [300, 100])
    spoilt = data.copy()
    spoilt[split == 2] *= 1000
    answers = []
    for scaled in (data, spoilt):
        run = run_of(scaled=scaled, split=split)
        answers.append(run_baselines(run, make_subsets(run)[1].fitted))
    assert list(answers[0]) == ["baseline/kmeans", "baseline/gmm", "baseline/hdbscan"]
    for name, one in answers[0].items():
        other = answers[1][name]
        np.testing.assert_array_equal(one.assignment[split == 0], other.assignment[split == 0])


def test_a_far_outlier_does_not_take_a_cluster_of_kmeans(run_of: Any) -> None:
    data, label = blobs()
    scaled = (data - data.mean(0)) / data.std(0)
    scaled[0] = 1e4
    run = run_of(scaled=scaled)
    kmeans = run_baselines(run, make_subsets(run)[0].fitted)["baseline/kmeans"]
    alignment = align_columns(kmeans, label, has_field=False)
    assert label_scores(kmeans, label, alignment)[0].value > 0.9


def test_stars_of_one_group_count_once() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=400)
    assignment = np.where(rng.random(400) < 0.8, label, rng.integers(3, size=400))
    alone, tripled = new_scope(300), new_scope(300, np.repeat(np.arange(400), 3))
    add_label_scores(alone, hard(assignment, 3), label, np.arange(3))
    add_label_scores(tripled, hard(np.repeat(assignment, 3), 3), np.repeat(label, 3), np.arange(3))
    for scope, times in ((alone, 1), (tripled, 3)):
        p, y = np.repeat(assignment > 0, times).astype(float), np.repeat(label > 0, times)
        add_rates(scope.where(split="all"), p, y)
    pairs = list(zip(alone.report.rows, tripled.report.rows, strict=True))
    assert len(pairs) == 3 + 2 * 9
    for one, three in pairs:
        assert three.key == one.key
        assert three.value == pytest.approx(one.value, abs=0.01)
        assert three.std == pytest.approx(one.std, rel=0.2)
