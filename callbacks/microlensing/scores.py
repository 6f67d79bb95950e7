"""What the microlensing report measures, with uncertainties."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from callbacks.metrics.ranking import Ranking, RankingCurve, area_under_roc
from callbacks.microlensing.events import BINARY, FRACTIONS, THRESHOLDS, Predictions
from callbacks.report.base import TestRun
from callbacks.report.bootstrap import Bootstrap

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

QUARTILES = {"decision_fraction_q25": 0.25, "decision_fraction": 0.5, "decision_fraction_q75": 0.75}


def slice_name(fraction: float) -> str:
    """Return the slice of a fraction of the curve."""
    return f"fraction={fraction:.2f}"


def add_fractions(run: TestRun, found: Predictions, names: Sequence[str]) -> None:
    """Add what is right at every fraction: rankings, probabilities, classes.

    Args:
        run: With the report.
        found: What one subject says.
        names: Of the classes.
    """
    for column, fraction in enumerate(FRACTIONS):
        scope = run.scope(found.subject, found.rows, fraction=fraction)
        p, predicted = found.probability[:, column], found.predicted[:, column]
        scope.share("accuracy", (predicted == BINARY) == found.binary)
        if found.tells_classes and len(names) > 2:
            scope.share("class_accuracy", predicted == found.label)
        scope.ranking(p, found.binary, PURITIES)
        scope.probability(p, found.binary)
        if found.tells_classes or len(names) == 2:
            scope.classes(predicted, found.label, names)


def add_bins(run: TestRun, found: Predictions) -> None:
    """Add what the whole curve tells of events by detectability and parameters.

    In each bin of a parameter: `auc` of the binaries in the bin against the other events in it
    (all of them if they have no such parameter), `recall`, the share of its binaries with a
    probability of at least 0.5, and `completeness` at the threshold that makes the selection from
    all events 90 % pure.

    Args:
        run: With the report; the catalogue gives the parameters.
        found: What one subject says.
    """
    binary, p = found.binary, found.probability[:, -1]
    pure = threshold_at_purity(Ranking(binary, p).curve(), PURITIES[0])
    whole = run.scope(found.subject, found.rows, fraction=FRACTIONS[-1])
    for name, parameter in event_parameters(run, found.rows).items():
        values = np.abs(parameter.astype(np.float64))
        # One lens has Delta chi^2 = 0 by definition: it belongs to every bin.
        known = ~binary & np.isfinite(values) & (name != "delta_chi2")
        for scope, inside in whole.by_bins(name, values, BINS[name]):
            mine = binary & inside
            if mine.any():
                both = mine | (known & inside if known.any() else ~binary)
                area = area_under_roc(Ranking(mine[both], p[both]).curve())
                scope.add("auc", area, n=int(mine.sum()))
                scope.of(mine).share("recall", p[mine] >= 0.5)
        selected = whole.where(purity=PURITIES[0])
        for scope, inside in selected.by_bins(name, values, BINS[name]):
            mine = binary & inside
            if mine.any():
                scope.of(mine).share("completeness", p[mine] >= pure)


def event_parameters(run: TestRun, rows: Array) -> dict[str, Array]:
    """Return parameters of events, with `delta_chi2` of the batch.

    Args:
        run: With rows and catalogue.
        rows: Mask or positions of the events.
    """
    catalogue = run.catalogue(rows)
    found = {name: np.asarray(catalogue[name]) for name in BINS if name in catalogue.colnames}
    if "delta_chi2" in run.rows:
        found["delta_chi2"] = run.rows["delta_chi2"][rows]
    return found


def threshold_at_purity(curve: RankingCurve, purity: float) -> float:
    """Return the lowest threshold whose selection is at least this pure; infinity if none is."""
    pure = curve.threshold[curve.precision >= purity]
    return float(pure.min(initial=np.inf))


def add_decisions(run: TestRun, events: Predictions) -> None:
    """Add when the model first gave two lenses each threshold's probability, and how often wrongly.

    Args:
        run: Its rows' `decision_time` is the fraction of the curve at which it did, NaN if never.
        events: The events reported.
    """
    rng, binary = np.random.default_rng(run.bootstrap.seed), events.binary
    for column, threshold in enumerate(THRESHOLDS):
        scope = run.scope("model", events.rows, threshold=threshold)
        times = run.rows["decision_time"][events.rows, column]
        alarm = np.isfinite(times)
        scope.of(binary).share("decided", alarm[binary])
        scope.of(~binary).share("false_alarms", alarm[~binary])
        right = times[alarm & binary]
        if not len(right):
            for name in QUARTILES:
                scope.add(name, float("nan"), n=0)
            continue
        stds = quartile_stds(scope.of(alarm & binary).bootstrap, right, rng)
        for (name, share), std in zip(QUARTILES.items(), stds, strict=True):
            scope.add(name, np.quantile(right, share), float(std), len(right))


def quartile_stds(bootstrap: Bootstrap, values: Array, rng: np.random.Generator) -> Array:
    """Return the deviations of the quartiles, shape (3,).

    Args:
        bootstrap: Of the objects.
        values: Shape (n,).
        rng: Draws the resamples of objects without groups.
    """
    shares = list(QUARTILES.values())
    if bootstrap.groups is None:
        drawn = rng.choice(values, (bootstrap.num_resamples, len(values)))
        return np.asarray(np.quantile(drawn, shares, axis=1).std(1))

    def quartiles(weights: Array) -> Array:
        drawn = np.repeat(values, weights.astype(np.int64))
        return np.quantile(drawn, shares) if len(drawn) else np.full(len(shares), np.nan)

    return bootstrap.std_weighted(len(values), quartiles)


def add_ceiling(run: TestRun, events: Predictions) -> None:
    """Add what the signal allows, from the binaries' Delta chi^2 against the best single lens.

    `share_detectable`: binaries above a Delta chi^2; `ideal_accuracy`: mean over binaries of
    Phi(sqrt(Delta chi^2) / 2), that of a likelihood ratio that knows both curves without noise
    and classes of equal size. No method does better where single lenses are matched to binaries;
    where both classes are drawn from the same priors, their populations tell more.

    Args:
        run: With the report.
        events: The events reported.
    """
    rows = events.rows[events.binary]
    delta_chi2 = event_parameters(run, rows).get("delta_chi2")
    if delta_chi2 is None:
        return
    rows = rows[np.isfinite(delta_chi2)]
    known = delta_chi2[np.isfinite(delta_chi2)].astype(np.float64)
    if not len(known):
        run.report.note("delta_chi2 of the binaries is unknown: no ceiling is given")
        return
    for limit in DETECTABLE:
        run.scope("signal", rows, delta_chi2=limit).share("share_detectable", known > limit)
    ideal = norm.cdf(np.sqrt(np.maximum(known, 0)) / 2)
    scope = run.scope("signal", rows, fraction=FRACTIONS[-1])
    if scope.bootstrap.groups is not None:
        scope.mean("ideal_accuracy", ideal)
        return
    std = float(ideal.std() / len(ideal) ** 0.5)
    scope.add("ideal_accuracy", float(ideal.mean()), std, len(known))
