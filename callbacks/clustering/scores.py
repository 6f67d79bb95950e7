"""What the clustering report measures of each subject, with uncertainties."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

from callbacks.clustering.alignment import Clustering, align_columns, event
from callbacks.clustering.contrasts import contrasts
from callbacks.clustering.sample import StarSample, Subset
from callbacks.metrics.contingency import (
    accuracy,
    adjusted_rand,
    contingency,
    normalized_mutual_information,
)
from callbacks.metrics.ranking import divide
from callbacks.report.base import TestRun
from callbacks.report.bootstrap import subsample
from callbacks.report.scope import Scope

Array = NDArray[Any]
THRESHOLDS = np.arange(1, 10) / 10


def add_subject(
    run: TestRun, clustering: Clustering, sample: StarSample, subset: Subset
) -> Clustering:
    """Add what one subject scores on one subset; return it with the class of each column.

    Args:
        run: With the report.
        clustering: The subject's answer for all objects.
        sample: What is known of them.
        subset: Which of them count.
    """
    scored = subset.scored
    scope = run.scope(clustering.subject, scored, split=subset.split)
    found = np.unique(clustering.assignment[scored])
    count = int((found != clustering.field_column).sum())
    scope.add("num_clusters", count, n=int(scored.sum()))
    if sample.astrometry is not None and sample.parallax_error is not None:
        stars, errors = sample.astrometry[scored], sample.parallax_error[scored]
        for name, value in contrasts(clustering.take(scored), stars, errors).items():
            scope.add(name, value, n=len(errors))
    return clustering if sample.label is None else add_labelled(run, clustering, sample, subset)


def add_labelled(
    run: TestRun, clustering: Clustering, sample: StarSample, subset: Subset
) -> Clustering:
    """Add the scores that need labels; see `add_subject`."""
    assert sample.label is not None
    scored = subset.scored & (sample.label >= 0)
    scope, label = run.scope(clustering.subject, scored, split=subset.split), sample.label[scored]
    if not len(label) or not (sample.label[subset.aligned] >= 0).any():
        run.report.note(f"{scope.slice}: too few labels to score {scope.subject}")
        return clustering
    alignment = align_columns(
        clustering.take(subset.aligned), sample.label[subset.aligned], sample.has_field
    )
    answer = clustering.take(scored)
    add_label_scores(scope, answer, label, alignment)
    if clustering.probability is not None:
        scope.probability(*event(answer, label, alignment, sample.has_field))
    if sample.has_field:
        add_selection(scope, *event(answer, label, alignment, has_field=True))
        add_rates(scope, *event(answer, label, alignment, has_field=True))
    return replace(clustering, alignment=alignment)


def add_silhouette(
    run: TestRun, found: Clustering, space: Array, subset: Subset, size: int
) -> None:
    """Add the mean silhouette (Rousseeuw 1987) of a subsample in a common space.

    Args:
        run: With the report.
        found: The subject's answer for all objects.
        space: Where distances are taken, shape (n, d).
        subset: The objects that count.
        size: Objects of the subsample.
    """
    rows = np.flatnonzero(subset.scored)
    rows = rows[subsample(len(rows), size, run.bootstrap.seed)]
    columns = found.assignment[rows]
    defined = 1 < len(np.unique(columns)) < len(columns)
    value = silhouette_score(space[rows], columns) if defined else np.nan
    run.scope(found.subject, split=subset.split).add("silhouette", value, n=len(rows))


def add_label_scores(scope: Scope, clustering: Clustering, label: Array, alignment: Array) -> None:
    """Add ARI, NMI and accuracy under the given alignment.

    Args:
        scope: Of the objects.
        clustering: Their columns.
        label: Their classes, shape (n,).
        alignment: Class of each column, shape (K,).
    """
    # The columns may stand for classes that none of these objects has.
    classes = max(2, int(label.max(initial=0)) + 1, int(alignment.max()) + 1)
    shape = (classes, clustering.num_columns)
    table = contingency(label, clustering.assignment, *shape)
    cells = label * clustering.num_columns + clustering.assignment
    draws = scope.bootstrap.counts(cells, table.size).reshape(-1, *shape)
    scores: dict[str, Callable[[Array], Array]] = {
        "ari": adjusted_rand,
        "nmi": normalized_mutual_information,
        "accuracy": partial(accuracy, alignment=alignment),
    }
    for name, score in scores.items():
        scope.add(name, score(table), score(draws).std(), len(label))


def add_selection(scope: Scope, p: Array, y: Array) -> None:
    """Add F1, completeness and purity of the stars p > 0.5, and how p ranks members before others.

    Args:
        scope: Of the stars.
        p: Membership probability, shape (n,); 0 or 1 of a hard clustering.
        y: Whether the star is a member, shape (n,).
    """
    chosen = p > 0.5
    counts = np.stack([chosen & y, chosen, y], 1).astype(np.float64)
    names, values = ("f1", "completeness", "purity"), _selection(counts.sum(0)[None])[0]
    for name, value, std in zip(
        names, values, scope.bootstrap.std(counts, _selection), strict=True
    ):
        scope.add(name, value, std, len(p))
    scope.ranking(p, y)


def _selection(sums: Array) -> Array:
    """Return F1, completeness and purity, (r, 3), of selected members, selected and members."""
    right, chosen, members = sums.T
    return np.stack(
        [divide(2 * right, chosen + members), divide(right, members), divide(right, chosen)], 1
    )


def rates(p: Array, y: Array, thresholds: Array) -> tuple[Array, Array]:
    """Return completeness and contamination of the samples p >= threshold.

    Args:
        p: Membership probability, shape (n,).
        y: Whether the star is a member, shape (n,).
        thresholds: Shape (t,).

    Returns:
        Selected members over all members, and selected field stars over all selected, each shape
        (t,); NaN where nothing is divided by nothing.
    """
    both = _rates(_rate_terms(p, y, thresholds).sum(0)[None])[0]
    return both[: len(thresholds)], both[len(thresholds) :]


def add_rates(scope: Scope, p: Array, y: Array) -> None:
    """Add completeness and contamination against the membership threshold.

    Args:
        scope: Of the stars.
        p: Membership probability, shape (n,).
        y: Whether the star is a member, shape (n,).
    """
    stds = np.split(scope.bootstrap.std(_rate_terms(p, y, THRESHOLDS), _rates), 2)
    names = ("completeness", "contamination")
    for name, values, errors in zip(names, rates(p, y, THRESHOLDS), stds, strict=True):
        for threshold, value, std in zip(THRESHOLDS.tolist(), values, errors, strict=True):
            error = std if np.isfinite(value) else None
            scope.where(threshold=threshold).add(name, value, error, len(p))


def _rate_terms(p: Array, y: Array, thresholds: Array) -> Array:
    """Return selected members, selected stars (each shape (n, t)) and members, side by side."""
    chosen = p[:, None] >= thresholds
    return np.concatenate([chosen & y[:, None], chosen, y[:, None]], 1).astype(np.float64)


def _rates(sums: Array) -> Array:
    """Return completeness and contamination, (r, 2 t), from sums of `_rate_terms`."""
    count = (sums.shape[1] - 1) // 2
    right, chosen, members = sums[:, :count], sums[:, count:-1], sums[:, -1:]
    return np.concatenate([divide(right, members), 1 - divide(right, chosen)], 1)
