import numpy as np
import pytest

from callbacks.clustering.alignment import (
    Clustering,
    Objects,
    align_columns,
    event,
    make_slices,
    membership,
    pick_astrometry,
    scale_features,
)
from callbacks.clustering.baselines import (
    classical_subjects,
    fit_gmm,
    fit_hdbscan,
    fit_kmeans,
    hdbscan_size,
)
from callbacks.clustering.physics import contrasts, find_groups
from callbacks.clustering.scores import (
    add_label_scores,
    add_subject,
    rates,
)
from callbacks.report.probability import Resampling, add_probability_scores
from callbacks.report.table import Report


def new_report() -> Report:
    return Report("clustering", "all", 10)


def values(report: Report) -> dict[str, float]:
    return {row.key: row.value for row in report.rows}


def hard(assignment: np.ndarray, columns: int) -> Clustering:
    return Clustering("model", assignment, None, columns)


def soft(probability: np.ndarray) -> Clustering:
    return Clustering("model", probability.argmax(1), probability, probability.shape[1])


def blobs(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=n)
    centres = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    return centres[label] + 0.5 * rng.normal(size=(n, 2)), label


def test_perfect_clustering_is_perfect_whatever_the_column_names() -> None:
    label = np.random.default_rng(0).integers(3, size=300)
    probability = np.eye(3)[(label + 1) % 3]
    clustering = soft(probability)
    objects = Objects(np.zeros((300, 2)), np.zeros((300, 5)), np.ones(300), label)
    report = new_report()
    part = make_slices(objects)[0]
    alignment = add_subject(report, clustering, objects, part, Resampling(20))
    assert alignment is not None
    assert alignment.tolist() == [2, 0, 1]
    found = values(report)
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
    report = new_report()
    add_label_scores(report, hard(assignment, 3), label, np.array([0, 1, 2]), "", Resampling())
    ari = report.rows[0]
    assert abs(ari.value) < 5e-3
    assert ari.std is not None
    assert abs(ari.value) < 5 * ari.std
    accuracy = report.rows[2]
    assert accuracy.value == pytest.approx(1 / 3, abs=0.02)
    assert accuracy.std == pytest.approx((2 / 9 / 5000) ** 0.5, rel=0.2)  # binomial


def test_probability_scores_of_known_values() -> None:
    p = np.array([0.9] * 100 + [0.2] * 100)
    y = np.array([True] * 80 + [False] * 20 + [True] * 20 + [False] * 80)
    report = new_report()
    add_probability_scores(report, "model", p, y, "", Resampling(400))
    brier, log_loss, ece = report.rows
    assert brier.value == pytest.approx((80 * 0.01 + 20 * 0.81 + 20 * 0.64 + 80 * 0.04) / 200)
    expected = -(80 * np.log(0.9) + 20 * np.log(0.1) + 20 * np.log(0.2) + 80 * np.log(0.8)) / 200
    assert log_loss.value == pytest.approx(expected)
    assert ece.value == pytest.approx(0.05)
    squares = (p - y) ** 2
    assert brier.std == pytest.approx(squares.std() / 200**0.5, rel=0.15)


def test_rates_against_threshold() -> None:
    p = np.array([0.9, 0.8, 0.6, 0.3, 0.1])
    y = np.array([True, True, False, True, False])
    completeness, contamination = rates(p, y, np.array([0.2, 0.7, 0.95]))
    np.testing.assert_allclose(completeness, [1, 2 / 3, 0])
    np.testing.assert_allclose(contamination, [1 / 4, 0, np.nan])


def test_columns_left_over_are_wrong_and_count_as_field() -> None:
    label = np.repeat([0, 1], [60, 40])
    assignment = np.repeat([0, 1, 2], [40, 20, 40])  # the field is cut in two
    alignment = align_columns(hard(assignment, 3), label, has_field=True)
    assert alignment.tolist() == [0, -1, 1]
    assert membership(hard(assignment, 3), alignment).sum() == 40
    report = new_report()
    add_label_scores(report, hard(assignment, 3), label, alignment, "", Resampling(5))
    assert report.rows[2].value == pytest.approx(0.8)


def test_noise_is_the_field_even_where_it_holds_most_members() -> None:
    label = np.repeat([0, 1], [10, 90])
    assignment = np.repeat([0, 0, 1], [10, 60, 30])
    free = align_columns(hard(assignment, 2), label, has_field=True)
    noise = Clustering("classical/hdbscan", assignment, None, 2, field_column=0)
    assert free.tolist() == [1, 0]
    assert align_columns(noise, label, has_field=True).tolist() == [0, 1]


def test_field_may_be_noise_and_a_cluster_at_once() -> None:
    label = np.repeat([0, 0, 1, 2], [20, 60, 30, 30])
    assignment = np.repeat([0, 1, 2, 3], [20, 60, 30, 30])
    noise = Clustering("classical/hdbscan", assignment, None, 4, field_column=0)
    assert align_columns(noise, label, has_field=True).tolist() == [0, 0, 1, 2]


def test_unknown_labels_do_not_count() -> None:
    label = np.array([0, 0, 1, 1, -1, -1])
    objects = Objects(np.zeros((6, 2)), None, None, label)
    report = new_report()
    clustering = hard(np.array([0, 0, 1, 1, 0, 1]), 2)
    add_subject(report, clustering, objects, make_slices(objects)[0], Resampling(5))
    assert values(report)["model/ari/split=all"] == 1
    assert next(row for row in report.rows if row.metric == "ari").n == 4


def test_held_out_is_scored_with_the_names_learnt_elsewhere() -> None:
    label = np.array([0] * 20 + [1] * 20 + [0] * 10 + [1] * 10)
    split = np.array([0] * 40 + [2] * 20)
    assignment = np.where(split == 2, 1 - label, label)  # the names swap on the held-out stars
    objects = Objects(np.zeros((60, 2)), None, None, label, split)
    _, held_out = make_slices(objects)
    assert held_out.scored.sum() == 20
    assert held_out.fitted.sum() == 40
    report = new_report()
    add_subject(report, hard(assignment, 2), objects, held_out, Resampling(5))
    found = values(report)
    assert found["model/ari/split=held_out"] == 1
    assert found["model/accuracy/split=held_out"] == 0


def test_a_class_that_no_held_out_star_has() -> None:
    label = np.repeat([0, 1, 7], [40, 15, 5])
    split = np.where((np.arange(60) % 4 == 0) & (label < 7), 2, 0)
    stars = np.zeros((60, 5)), np.zeros((60, 5)), np.ones(60)
    objects, report = Objects(*stars, label, split), new_report()
    assert objects.num_classes == 3
    columns = hard(np.searchsorted([0, 1, 7], label), 3)
    add_subject(report, columns, objects, make_slices(objects)[1], Resampling())
    assert values(report)["model/accuracy/split=held_out"] == 1.0


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


def test_astrometry_is_found_by_name() -> None:
    features = np.arange(6.0).reshape(2, 3)
    picked = pick_astrometry(features, ["pmdec", "magnitude", "pmra"])
    np.testing.assert_allclose(picked[:, 3:], [[2, 0], [5, 3]])
    assert np.isnan(picked[:, :3]).all()


def test_features_are_scaled_on_the_training_split_and_gaps_are_zero() -> None:
    features = np.array([[0.0, np.nan], [1, 5], [2, 5], [3, 5], [1000, 5]])
    scaled = scale_features(features, np.array([0, 0, 0, 0, 2]))
    assert scaled[0, 1] == 0
    assert scaled[4, 0] == pytest.approx((1000 - 1.5) / (1.5 / 1.349), rel=1e-3)


@pytest.mark.parametrize("fit", [fit_kmeans, fit_gmm, fit_hdbscan])
def test_baselines_find_blobs_and_apply_to_new_objects(fit: object) -> None:
    data, label = blobs()
    new, new_label = blobs(200, seed=1)
    predict = fit(data, 3, 0)  # type: ignore[operator]
    for points, truth in ((data, label), (new, new_label)):
        clustering = predict("classical/x", points)
        report = new_report()
        alignment = align_columns(clustering, truth, has_field=False)
        add_label_scores(report, clustering, truth, alignment, "", Resampling(5))
        assert report.rows[0].value > 0.9
        if clustering.probability is not None:
            np.testing.assert_allclose(clustering.probability.sum(1), 1)


def test_hdbscan_size_grows_with_the_square_root() -> None:
    assert hdbscan_size(100) == 10
    assert hdbscan_size(10_000) == 50
    assert hdbscan_size(1_000_000) == 500


def test_baselines_of_the_held_out_slice_see_the_training_split_alone() -> None:
    data, _ = blobs()
    split = np.repeat([0, 2], [300, 100])
    spoilt = data.copy()
    spoilt[split == 2] *= 1000
    answers = []
    for values_ in (data, spoilt):
        objects = Objects(values_, split=split)
        subjects = classical_subjects(objects, make_slices(objects)[1], 3, 10_000, 0)
        answers.append([subject.assignment[split == 0] for subject in subjects])
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_far_outlier_does_not_take_a_cluster_of_kmeans() -> None:
    data, label = blobs()
    scaled = (data - data.mean(0)) / data.std(0)
    scaled[0] = 1e4
    objects = Objects(scaled)
    kmeans, *_ = classical_subjects(objects, make_slices(objects)[0], 3, 10_000, 0)
    report = new_report()
    alignment = align_columns(kmeans, label, has_field=False)
    add_label_scores(report, kmeans, label, alignment, "", Resampling(5))
    assert report.rows[0].value > 0.9
