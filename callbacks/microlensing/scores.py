"""What the microlensing report measures of each subject, with uncertainties."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from callbacks.metrics.ranking import (
    Ranking,
    RankingCurve,
    area_under_roc,
    average_precision,
    completeness_at_purity,
)
from callbacks.microlensing.events import BINARY, FRACTIONS, THRESHOLDS, Subject
from callbacks.report.probability import Resampling, add_probability_scores
from callbacks.report.table import Report

Array = NDArray[Any]
PURITIES = (0.90, 0.95, 0.99)
DETECTABLE = (30, 100, 500)
"""Delta chi^2 above which the share of the binaries is given."""

BINS: Mapping[str, Sequence[float]] = {
    "delta_chi2": (0, 10, 30, 100, 300, 1000, np.inf),
    "mass_ratio": (0, 1e-3, 1e-2, 0.1, 0.3, 1.0001),
    "separation": (0, 0.5, 0.8, 1.25, 2, np.inf),
    "impact_parameter": (0, 0.05, 0.15, 0.5, np.inf),
    "baseline_magnitude": (-np.inf, 19, 20, 21, np.inf),
}
"""Parameter to edges of the bins; of the impact parameter the absolute value is taken."""

Metric = Callable[[RankingCurve], float]


def slice_name(fraction: float) -> str:
    """Return the slice of a fraction of the curve."""
    return f"fraction={fraction:.2f}"


def add_subject(
    report: Report, subject: Subject, label: Array, names: Sequence[str], resampling: Resampling
) -> None:
    """Add what one subject scores at every fraction.

    Args:
        report: Where the numbers go.
        subject: Its answers.
        label: Of the events reported, shape (n,).
        names: Of the classes.
        resampling: How uncertainties are found.
    """
    truth = label[subject.rows]
    binary = truth == BINARY
    for column, fraction in enumerate(FRACTIONS):
        where = slice_name(fraction)
        p, predicted = subject.probability[:, column], subject.predicted[:, column]
        add_share(report, subject.name, "accuracy", (predicted == BINARY) == binary, where)
        if subject.classes and len(names) > 2:
            add_share(report, subject.name, "class_accuracy", predicted == truth, where)
        add_ranking(report, subject.name, p, binary, where, resampling)
        add_probability_scores(report, subject.name, p, binary, where, resampling)
        if subject.classes or len(names) == 2:
            add_classes(report, subject.name, predicted, truth, names, where)


def add_share(report: Report, subject: str, metric: str, happened: Array, slice: str) -> None:
    """Add a share of events with its standard deviation, which a bootstrap would give."""
    count = len(happened)
    share = float(happened.mean()) if count else float("nan")
    report.add(subject, metric, share, slice, (share * (1 - share) / max(count, 1)) ** 0.5, count)


def add_ranking(
    report: Report, subject: str, p: Array, binary: Array, slice: str, resampling: Resampling
) -> None:
    """Add the areas under the ROC and precision-recall curves and completeness at purities."""
    metrics: dict[tuple[str, str], Metric] = {
        ("auc", slice): area_under_roc,
        ("average_precision", slice): average_precision,
    }
    for purity in PURITIES:
        key = ("completeness", f"{slice}/purity={purity:.2f}")
        metrics[key] = partial(completeness_at_purity, purity=purity)
    ranking = Ranking(binary, p)
    curve = ranking.curve()
    spread = bootstrap_curves(ranking, list(metrics.values()), resampling)
    for ((metric, where), measure), std in zip(metrics.items(), spread, strict=True):
        report.add(subject, metric, measure(curve), where, std, len(p))


def bootstrap_curves(
    ranking: Ranking, metrics: Sequence[Metric], resampling: Resampling
) -> NDArray[np.float64]:
    """Return standard deviations of metrics over resamples of the objects, shape (m,)."""
    rng, count = np.random.default_rng(resampling.seed), len(ranking.order)
    values = np.empty((resampling.num_resamples, len(metrics)))
    for row in values:
        weights = np.bincount(rng.integers(count, size=count), minlength=count)
        curve = ranking.curve(weights.astype(np.float64))
        row[:] = [metric(curve) for metric in metrics]
    defined = np.isfinite(values).all(1)
    return values[defined].std(0) if defined.any() else np.full(len(metrics), np.nan)


def add_classes(
    report: Report, subject: str, predicted: Array, truth: Array, names: Sequence[str], slice: str
) -> None:
    """Add the confusion matrix, and precision, recall and F1 of each class."""
    count = len(names)
    table = np.bincount(truth * count + predicted, minlength=count**2).reshape(count, count)
    for row, name in enumerate(names):
        where = f"{slice}/class={name}"
        found, right = int(table[:, row].sum()), int(table[row, row])
        own = int(table[row].sum())
        precision, recall = _divide(right, found), _divide(right, own)
        report.add(subject, "precision", precision, where, n=found)
        report.add(subject, "recall", recall, where, n=own)
        report.add(subject, "f1", _divide(2 * right, found + own), where, n=own)
        for column, other in enumerate(names):
            where = f"{slice}/true={name}/predicted={other}"
            report.add(subject, "confusion", int(table[row, column]), where, n=own)


def add_bins(
    report: Report, subject: Subject, label: Array, parameters: Mapping[str, Array]
) -> None:
    """Add what the whole curve tells of events by detectability and parameters.

    In each bin of a parameter: `auc` of the binaries in the bin against the other events in it
    (all of them if they have no such parameter), `recall`, the share of its binaries with a
    probability of at least 0.5, and `completeness` at the threshold that makes the selection from
    all events 90 % pure.

    Args:
        report: Where the numbers go.
        subject: Its answers.
        label: Of the events reported, shape (n,).
        parameters: Name to values, aligned with `label`.
    """
    binary, p = label[subject.rows] == BINARY, subject.probability[:, -1]
    pure = threshold_at_purity(Ranking(binary, p).curve(), PURITIES[0])
    where = slice_name(FRACTIONS[-1])
    for name in (name for name in BINS if name in parameters):
        values = np.abs(parameters[name][subject.rows].astype(np.float64))
        # One lens has Delta chi^2 = 0 by definition: it belongs to every bin.
        others = ~binary & (np.isfinite(values) & (name != "delta_chi2"))
        everywhere = not others.any()
        for low, high in zip(BINS[name][:-1], BINS[name][1:], strict=True):
            inside = (values >= low) & (values < high)
            mine = binary & inside
            rest = ~binary if everywhere else others & inside
            if not mine.any():
                continue
            both = mine | rest
            part = f"{where}/{name}={low:g}..{high:g}"
            area = area_under_roc(Ranking(mine[both], p[both]).curve())
            report.add(subject.name, "auc", area, part, n=int(mine.sum()))
            add_share(report, subject.name, "recall", p[mine] >= 0.5, part)
            found = f"{where}/purity={PURITIES[0]:.2f}/{name}={low:g}..{high:g}"
            add_share(report, subject.name, "completeness", p[mine] >= pure, found)


def threshold_at_purity(curve: RankingCurve, purity: float) -> float:
    """Return the lowest threshold whose selection is at least this pure; infinity if none is."""
    pure = curve.threshold[curve.precision >= purity]
    return float(pure.min(initial=np.inf))


def add_decisions(report: Report, decided: Array, binary: Array, resampling: Resampling) -> None:
    """Add when the model first gave two lenses each threshold's probability, and how often wrongly.

    Args:
        report: Where the numbers go.
        decided: Fraction of the curve at which it did, NaN if never, shape (n, D).
        binary: Whether there are two lenses, shape (n,).
        resampling: How uncertainties are found.
    """
    rng = np.random.default_rng(resampling.seed)
    for column, threshold in enumerate(THRESHOLDS):
        where, times = f"threshold={threshold:.2f}", decided[:, column]
        alarm = np.isfinite(times)
        add_share(report, "model", "decided", alarm[binary], where)
        add_share(report, "model", "false_alarms", alarm[~binary], where)
        right = times[alarm & binary]
        quartiles = ("decision_fraction_q25", "decision_fraction", "decision_fraction_q75")
        if not len(right):
            for name in quartiles:
                report.add("model", name, float("nan"), where, n=0)
            continue
        drawn = rng.choice(right, (resampling.num_resamples, len(right)))
        stds = np.quantile(drawn, (0.25, 0.5, 0.75), axis=1).std(1)
        values = np.quantile(right, (0.25, 0.5, 0.75))
        for name, value, std in zip(quartiles, values, stds, strict=True):
            report.add("model", name, value, where, std, len(right))


def add_ceiling(report: Report, delta_chi2: Array, binary: Array) -> None:
    """Add what the signal allows, from the binaries' Delta chi^2 against the best single lens.

    `share_detectable`: binaries above a Delta chi^2; `ideal_accuracy`: mean over binaries of
    Phi(sqrt(Delta chi^2) / 2), that of a likelihood ratio that knows both curves without noise
    and classes of equal size. No method does better where single lenses are matched to binaries;
    where both classes are drawn from the same priors, their populations tell more.

    Args:
        report: Where the numbers go.
        delta_chi2: NaN if unknown, shape (n,).
        binary: Whether there are two lenses, shape (n,).
    """
    known = delta_chi2[binary & np.isfinite(delta_chi2)].astype(np.float64)
    if not len(known):
        report.note("delta_chi2 of the binaries is unknown: no ceiling is given")
        return
    for limit in DETECTABLE:
        add_share(report, "signal", "share_detectable", known > limit, f"delta_chi2={limit}")
    ideal = norm.cdf(np.sqrt(np.maximum(known, 0)) / 2)
    std, where = float(ideal.std() / len(ideal) ** 0.5), slice_name(1.0)
    report.add("signal", "ideal_accuracy", float(ideal.mean()), where, std, len(known))


def _divide(part: int, whole: int) -> float:
    """Divide; NaN if there is nothing."""
    return part / whole if whole else float("nan")
