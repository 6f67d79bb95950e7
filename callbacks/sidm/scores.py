"""Numbers of the sidm report."""

from collections.abc import Mapping

import numpy as np
from astropy import units
from astropy.table import Table

from callbacks.metrics.calibration import interval_coverage
from callbacks.metrics.contingency import contingency
from callbacks.metrics.ranking import Ranking, area_under_roc
from callbacks.report.base import TestRun
from callbacks.report.bootstrap import spread
from callbacks.report.scope import Scope
from callbacks.sidm.confidence import MIN_P_VALUE
from callbacks.sidm.populations import Array, MeanOfMaps, Population
from callbacks.sidm.rejection import MapScores
from callbacks.sidm.subjects import Measured

SURVEY_SIZES = (25, 50, 100, 200, 400, 800, 1600)
"""Maps of a survey for which the width of its interval is given."""
MAX_SURVEYS = 20
"""Hidden populations that are cut to these sizes."""
MIN_COVERED = 5
"""Hidden populations below which a coverage means nothing."""
MAX_SHOWN = 6
"""Populations in the printed table."""
UNIT = units.cm**2 / units.g


def add_posteriors(run: TestRun, measured: Measured) -> None:
    """Add the posterior of every measured population and the known ones' left-out errors.

    Args:
        run: Whose report is filled.
        measured: What a subject says.
    """
    sizes = {one.name: one.num_maps for one in measured.populations.measured}
    for name, posterior in measured.posteriors.items():
        scope, intervals = run.scope(measured.subject, simulation=name), measured.intervals[name]
        scope.add("cross_section", posterior.median, n=sizes[name])
        for level, ends in ((0.68, ("q16", "q84")), (0.9, ("q05", "q95"))):
            for end, value in zip(ends, intervals[level], strict=True):
                scope.add(f"cross_section_{end}", value, n=sizes[name])
        for part in ("std_halos", "std_interpolation", "std_members", "map_spread"):
            scope.add(part, getattr(posterior, part), n=sizes[name])
    names = {"core": "the radius of the isothermal core", "log": "log10(1 + sigma / 0.1 cm2/g)"}
    run.report.note(
        f"{measured.subject}: the path runs in {names[measured.model.coordinate.interpolation]}, "
        "in which known simulations predict each other best"
    )
    if levels := measured.calibration.too_few():
        run.report.note(
            f"{measured.subject}: {len(measured.populations.calibration)} calibration simulations "
            f"are too few for intervals of {levels}: they are the whole prior"
        )
    if len(measured.models) > 1:
        paths = [" ".join(one.name for one in model.known) for model in measured.models]
        run.report.note(f"{measured.subject}: paths by suite of haloes: {'; '.join(paths)}")
    for model in measured.models:
        for name, posterior in model.left_out().items():
            run.scope(measured.subject, simulation=name).add("left_out", posterior.median)


def add_coverage(run: TestRun, measured: Measured) -> None:
    """Add how often intervals hold the truth of hidden populations, their width and error.

    Args:
        run: Whose report is filled.
        measured: What a subject says.
    """
    hidden = [x for x in measured.populations.measured if x.name in measured.populations.hidden]
    hidden = [x for x in hidden if np.isfinite(x.cross_section)]
    if len(hidden) < MIN_COVERED:
        return
    truth = np.array([one.cross_section for one in hidden])
    count, scope = len(truth), run.scope(measured.subject)
    for level in (0.68, 0.95):
        ends = np.array([measured.intervals[one.name][level] for one in hidden])
        share = float(interval_coverage(ends[:, 0], ends[:, 1], truth).mean())
        std = np.sqrt(share * (1 - share) / count)
        scope.where(level=level).add("coverage", share, std, count)
        if level == 0.68:
            _add_median(scope, "median_width", np.ptp(ends, axis=1))
    found = np.array([measured.posteriors[one.name].median for one in hidden])
    _add_median(scope, "median_error", np.abs(found - truth))


def add_widths(run: TestRun, measured: Measured) -> None:
    """Add the median width of the 68 % interval of surveys of so many maps.

    Args:
        run: Whose report is filled.
        measured: What a subject says.
    """
    sizes = {one.name: one.num_maps for one in measured.populations.measured}
    for size in SURVEY_SIZES:
        names = [name for name in measured.populations.hidden if sizes[name] >= size]
        if names:
            widths = measured.widths(size, names[:MAX_SURVEYS])
            _add_median(run.scope(measured.subject, num_maps=size), "interval_width", widths)


def add_confidence(run: TestRun, measured: Measured) -> None:
    """Add overlap, its p-value and the two-sample test of every measured population.

    Args:
        run: Whose report is filled.
        measured: What a subject says.
    """
    inside = []
    for one in measured.populations.measured:
        scope = run.scope(measured.subject, simulation=one.name)
        overlaps = measured.overlaps(one)
        for name, value in overlaps.items():
            scope.where(known=name).add("overlap", value, n=one.num_maps)
        scope.add("confidence", measured.confidence(overlaps, one), n=one.num_maps)
        found = measured.two_sample(one)
        if found is None:
            continue
        scope.add("two_sample_auc", found.auc, n=one.num_maps)
        scope.add("two_sample_limit", found.limit, n=one.num_maps)
        inside += [found.auc] if one.name in measured.populations.hidden else []
    if inside:
        _add_median(run.scope(measured.subject), "hidden_two_sample_auc", np.array(inside))


def add_rejection(run: TestRun, measured: Measured, energy: dict[str, Array]) -> None:
    """Add how well scores of single maps tell foreign simulations from known ones.

    The scores are fitted on the known maps of every other halo, and compared with those of the
    rest.

    Args:
        run: Whose report is filled.
        measured: What a subject says.
        energy: -log Σ exp of the classifier's logits, by name of the population; may be empty.
    """
    parts = [_halves(one) for one in measured.anchors]
    scores = MapScores().fit([one.take(first) for one, first in parts])
    rest = [one.take(~first) for one, first in parts]
    inside = {
        score: np.concatenate([getattr(scores, score)(one) for one in rest])
        for score in ("mahalanobis", "nearest_neighbours")
    }
    known = [energy[one.name] for one in measured.populations.known if one.name in energy]
    known_energy = np.concatenate(known) if known else np.zeros(0)
    for one in measured.populations.measured:
        if one.name in measured.populations.hidden:
            continue
        for score, values in inside.items():
            _add_ranking(run, measured, one, score, values, getattr(scores, score)(one))
        if one.name in energy:
            _add_ranking(run, measured, one, "energy", known_energy, energy[one.name])


def add_table(run: TestRun, measured: Measured) -> None:
    """Attach a table of measured populations, foreign ones first, and say what its numbers mean.

    Args:
        run: Whose report is filled.
        measured: What a subject says.
    """
    parts = measured.populations
    shown = sorted(parts.measured, key=lambda one: one.name in parts.hidden)[:MAX_SHOWN]
    if not shown:
        return
    trust = {
        metric: {row.slice: row.value for row in run.report.rows_of(metric, measured.subject)}
        for metric in ("confidence", "two_sample_auc")
    }
    slices = [f"simulation={one.name}" for one in shown]
    intervals = [measured.intervals[one.name][0.68] for one in shown]
    columns = {
        "simulation": [one.name for one in shown],
        "true_cross_section": [one.cross_section for one in shown] * UNIT,
        "cross_section": [measured.posteriors[one.name].median for one in shown] * UNIT,
        "cross_section_q16": [low for low, _ in intervals] * UNIT,
        "cross_section_q84": [high for _, high in intervals] * UNIT,
        **{key: [values.get(name, np.nan) for name in slices] for key, values in trust.items()},
    }
    run.report.attach("cross_sections", Table(columns))
    missing = len(parts.measured) - len(shown)
    run.report.note(
        f"cross_sections shows {len(shown)} populations; {missing} more are in report.csv"
    )
    run.report.note(
        f"a population is foreign where its confidence is below {MIN_P_VALUE} or its two-sample "
        "AUC above its limit: its cross-section then means nothing"
    )


def _add_ranking(
    run: TestRun, measured: Measured, one: Population, score: str, inside: Array, outside: Array
) -> None:
    """Add the area under the ROC curve of foreign against known maps."""
    label = np.repeat([0, 1], [len(inside), len(outside)])
    area = area_under_roc(Ranking(label, np.concatenate([inside, outside])).curve())
    scope = run.scope(measured.subject, domain=one.name, score=score)
    scope.add("ood_auc", area, n=len(label))


def add_classes(run: TestRun, measured: Measured, predicted: Mapping[str, Array]) -> None:
    """Add accuracy and confusion of known simulations, maps of the test split alone.

    Args:
        run: Whose report is filled.
        measured: What a subject says.
        predicted: Name of a known simulation to the position, among those of rising cross-section,
            of the class that each of its maps is taken for, -1 for none of them.
    """
    values = sorted({one.cross_section for one in measured.populations.known})
    names = [f"{value:g}" for value in values]
    known = [one for one in measured.populations.known if one.name in predicted]
    true = np.concatenate([np.full(x.num_maps, values.index(x.cross_section)) for x in known])
    found = np.concatenate([predicted[one.name] for one in known])
    scope = run.scope(measured.subject)
    halo = np.concatenate([one.halo for one in known])
    right = MeanOfMaps.of((found == true)[:, None].astype(float), halo)
    scope.add("accuracy", right.mean[0], np.sqrt(right.covariance(right)[0]), len(true))
    table = contingency(true, np.where(found < 0, len(names), found), len(names), len(names) + 1)
    for row, name in enumerate(names):
        for column, other in enumerate([*names, "other"][: table.shape[1]]):
            if column < len(names) or table[:, column].any():
                cell = scope.where(true=name, predicted=other)
                cell.add("confusion", int(table[row, column]), n=int(table[row].sum()))


def add_single_maps(run: TestRun, subject: str, medians: Mapping[str, float]) -> None:
    """Add the median of what single maps say, with no path and no population.

    Args:
        run: Whose report is filled.
        subject: Of the report.
        medians: Name of a simulation to it, in cm^2/g.
    """
    for name, value in medians.items():
        run.scope(subject, simulation=name).add("map_median", value)


def _halves(one: Population) -> tuple[Population, Array]:
    """Return a population and which maps are of every other of its halos."""
    _, number = np.unique(one.halo, return_inverse=True)
    return one, number % 2 == 0


def _add_median(scope: Scope, metric: str, values: Array) -> None:
    """Add a median over populations with its bootstrap deviation."""
    rng = np.random.default_rng(scope.bootstrap.seed)
    drawn = rng.integers(len(values), size=(scope.bootstrap.num_resamples, len(values)))
    deviation = float(spread(np.median(values[drawn], axis=1)))
    scope.add(metric, float(np.median(values)), deviation, len(values))
