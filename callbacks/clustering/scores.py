"""What the clustering report measures of each subject, with uncertainties."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

from callbacks.clustering.alignment import (
    Clustering,
    Objects,
    Slice,
    align_columns,
    event,
)
from callbacks.clustering.physics import contrasts
from callbacks.metrics.contingency import (
    accuracy,
    adjusted_rand,
    contingency,
    normalized_mutual_information,
)
from callbacks.report.probability import Resampling, add_probability_scores
from callbacks.report.projector import subsample
from callbacks.report.table import Report, bootstrap_std

Array = NDArray[Any]
THRESHOLDS = np.arange(1, 10) / 10


def add_subject(
    report: Report, clustering: Clustering, objects: Objects, part: Slice, resampling: Resampling
) -> Array | None:
    """Add what one subject scores on one slice.

    Args:
        report: Where the numbers go.
        clustering: The subject's answer for all objects.
        objects: What is known of them.
        part: The slice.
        resampling: How uncertainties are found.

    Returns:
        The class of each column, shape (K,); None if no label in reach gives one.
    """
    found = np.unique(clustering.assignment[part.scored])
    count = int((found != clustering.field_column).sum())
    report.add(clustering.subject, "num_clusters", count, part.name, n=int(part.scored.sum()))
    alignment = None
    if objects.label is not None:
        alignment = add_labelled(report, clustering, objects, part, resampling)
    if objects.astrometry is not None and objects.parallax_error is not None:
        stars, errors = objects.astrometry[part.scored], objects.parallax_error[part.scored]
        for name, value in contrasts(clustering.take(part.scored), stars, errors).items():
            report.add(clustering.subject, name, value, part.name, n=len(errors))
    return alignment


def add_labelled(
    report: Report, clustering: Clustering, objects: Objects, part: Slice, resampling: Resampling
) -> Array | None:
    """Add the scores that need labels; see `add_subject`."""
    assert objects.label is not None
    known, names = objects.label >= 0, objects.label[part.aligned]
    if not (known & part.aligned).any() or not (known & part.scored).any():
        report.note(f"{part.name}: too few labels to score {clustering.subject}")
        return None
    alignment = align_columns(clustering.take(part.aligned), names, objects.has_field)
    answer, label = clustering.take(part.scored & known), objects.label[part.scored & known]
    add_label_scores(report, answer, label, alignment, part.name, resampling)
    subject = clustering.subject
    if clustering.probability is not None:
        p, y = event(answer, label, alignment, objects.has_field)
        add_probability_scores(report, subject, p, y, part.name, resampling)
    if objects.has_field:
        p, y = event(answer, label, alignment, has_field=True)
        add_rates(report, subject, p, y, part.name, resampling)
    return alignment


def add_silhouette(
    report: Report, clustering: Clustering, space: Array, part: Slice, size: int, seed: int
) -> None:
    """Add the mean silhouette (Rousseeuw 1987) of a subsample in a common space.

    Args:
        report: Where the number goes.
        clustering: The subject's answer for all objects.
        space: Where distances are taken, shape (n, d).
        part: The slice.
        size: Objects of the subsample.
        seed: Fixes the subsample.
    """
    rows = np.flatnonzero(part.scored)
    rows = rows[subsample(len(rows), size, seed)]
    found = clustering.assignment[rows]
    defined = 1 < len(np.unique(found)) < len(found)
    value = float(silhouette_score(space[rows], found)) if defined else float("nan")
    report.add(clustering.subject, "silhouette", value, part.name, n=len(rows))


def add_label_scores(
    report: Report,
    clustering: Clustering,
    label: Array,
    alignment: Array,
    slice: str,
    resampling: Resampling,
) -> None:
    """Add ARI, NMI and accuracy under the given alignment.

    Uncertainties are a bootstrap over objects, which for functions of the contingency table is a
    multinomial draw of its cells.
    """
    # The columns may stand for classes that none of these objects has.
    classes = max(2, int(label.max(initial=0)) + 1, int(alignment.max()) + 1)
    table = contingency(label, clustering.assignment, classes, clustering.num_columns)
    total = int(table.sum())
    rng = np.random.default_rng(resampling.seed)
    draws = rng.multinomial(total, table.ravel() / total, size=resampling.num_resamples)
    draws = draws.reshape(-1, *table.shape)
    scores: dict[str, Callable[[Array], Array]] = {
        "ari": adjusted_rand,
        "nmi": normalized_mutual_information,
        "accuracy": partial(accuracy, alignment=alignment),
    }
    for name, score in scores.items():
        std = float(score(draws).std())
        report.add(clustering.subject, name, float(score(table)), slice, std, total)


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
    return _rates(_rate_terms(p, y, thresholds).sum(0)[None])


def add_rates(
    report: Report, subject: str, p: Array, y: Array, slice: str, resampling: Resampling
) -> None:
    """Add completeness and contamination against the membership threshold."""
    terms = _rate_terms(p, y, THRESHOLDS)
    stds = bootstrap_std(
        terms,
        lambda sums: np.concatenate(_rates(sums, squeeze=False), 1),
        resampling.num_resamples,
        resampling.seed,
    )
    names = ("completeness", "contamination")
    both = zip(names, rates(p, y, THRESHOLDS), np.split(stds, 2), strict=True)
    for name, values, errors in both:
        for threshold, value, std in zip(THRESHOLDS, values, errors, strict=True):
            where = f"{slice}/threshold={threshold:.2f}"
            report.add(subject, name, value, where, std if np.isfinite(value) else None, len(p))


def _rate_terms(p: Array, y: Array, thresholds: Array) -> Array:
    """Return selected members, selected stars (each shape (n, t)) and members, side by side."""
    chosen = p[:, None] >= thresholds
    return np.concatenate([chosen & y[:, None], chosen, y[:, None]], 1).astype(np.float64)


def _rates(sums: Array, squeeze: bool = True) -> tuple[Array, Array]:
    """Return completeness and contamination from sums of `_rate_terms`, shape (r, 2 t + 1)."""
    count = (sums.shape[1] - 1) // 2
    right, chosen, members = sums[:, :count], sums[:, count:-1], sums[:, -1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        result = right / members, 1 - right / chosen
    return (result[0][0], result[1][0]) if squeeze else result
