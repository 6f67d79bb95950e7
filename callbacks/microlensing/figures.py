"""The figures of the microlensing report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks.microlensing.events import BINARY, FRACTIONS, THRESHOLDS, Example, Predictions
from callbacks.microlensing.scores import BINS, slice_name
from callbacks.report.base import TestRun
from callbacks.report.figures import COLOURS, new_figure
from callbacks.report.plots import (
    GREY,
    confusion,
    diagonal,
    reliability,
    roc_and_precision,
    side_by_side,
    subject_colours,
)
from callbacks.report.table import Report, Row

Array = NDArray[Any]
BY_FRACTION = ("accuracy", "auc", "average_precision", "ece")
AXIS_NAMES: Mapping[str, str] = {
    "delta_chi2": r"$\Delta\chi^2$ against the best single lens",
    "mass_ratio": "mass ratio $q$",
    "separation": "separation $s$ [Einstein radii]",
    "impact_parameter": "impact parameter $|u_0|$",
    "baseline_magnitude": "baseline magnitude",
}


def microlensing_figures(
    run: TestRun, subjects: Sequence[Predictions], classes: Sequence[str]
) -> dict[str, Figure]:
    """Return all figures of scores, by name.

    Args:
        run: With the filled report.
        subjects: What is shown; the model first.
        classes: Names of the classes.
    """
    model = subjects[0]
    whole = {x.subject: (x.probability[:, -1], x.binary) for x in subjects}
    parts = {
        f"{fraction:.0%} seen": (model.probability[:, column], model.binary)
        for column, fraction in enumerate(FRACTIONS)
    }
    colours = subject_colours(run.report)
    shades = list(colormaps["viridis"](np.linspace(0.9, 0.1, len(FRACTIONS))))
    return {
        "roc_pr": ranking_figure(whole, [colours[name] for name in whole]),
        "roc_pr_by_fraction": ranking_figure(parts, shades),
        "scores_by_fraction": fraction_figure(run.report),
        "confusion": confusion_figure(model, classes),
        "reliability": reliability_figure(subjects, colours),
        "decisions": decision_figure(run.rows["decision_time"][model.rows], model.binary),
        "detectability": bin_figure(run.report),
    }


def ranking_figure(curves: Mapping[str, tuple[Array, Array]], colours: Sequence[Any]) -> Figure:
    """Return ROC and precision-recall curves.

    Args:
        curves: Name to (probability, whether there are two lenses).
        colours: One a curve.
    """
    figure, (roc, precision) = new_figure(1, 2)
    roc_and_precision(roc, precision, curves, colours)
    return figure


def fraction_figure(report: Report) -> Figure:
    """Return scores against the fraction of the curve."""
    figure, axes = new_figure(2, 2, panel=(4.2, 3.0))
    places = {slice_name(fraction): fraction for fraction in FRACTIONS}
    for panel, metric in zip(axes, BY_FRACTION, strict=True):
        side_by_side(panel, report.rows_of(metric), places, subject_colours(report))
        panel.set(title=metric.replace("_", " "), xlim=(0, 1.03))
    for panel in axes[2:]:
        panel.set_xlabel("fraction of the curve seen")
    axes[0].legend(loc="lower right")
    return figure


def confusion_figure(model: Predictions, classes: Sequence[str]) -> Figure:
    """Return the confusion matrix at each fraction, in shares of the true class."""
    figure, axes = new_figure(2, 4, panel=(2.9, 2.9))
    for column, (panel, fraction) in enumerate(zip(axes, FRACTIONS, strict=False)):
        confusion(panel, model.predicted[:, column], model.label, classes)
        panel.set_title(f"{fraction:.0%} seen")
    axes[-1].set_axis_off()
    return figure


def reliability_figure(subjects: Sequence[Predictions], colours: Mapping[str, str]) -> Figure:
    """Return a reliability diagram at each fraction, and the probabilities stated at the end.

    Args:
        subjects: What is shown.
        colours: Of the subjects.
    """
    figure, axes = new_figure(2, 4, panel=(2.9, 2.9))
    for column, (panel, fraction) in enumerate(zip(axes, FRACTIONS, strict=False)):
        diagonal(panel, "calibrated")
        for x in subjects:
            reliability(panel, x.probability[:, column], x.binary, colours[x.subject], x.subject)
        panel.set(title=f"{fraction:.0%} seen", xlabel="stated probability of two lenses")
    axes[0].set_ylabel("share with two lenses")
    axes[4].set_ylabel("share with two lenses")
    for x in subjects:
        share, bins = np.full(len(x.rows), 1 / len(x.rows)), np.linspace(0, 1, 21).tolist()
        p, colour = x.probability[:, -1], colours[x.subject]
        axes[-1].hist(p, bins, weights=share, histtype="step", color=colour)
    axes[-1].set(title="Stated at the end", ylabel="share of events", xlabel="probability")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def decision_figure(decided: Array, binary: Array) -> Figure:
    """Return the share of events decided as two lenses against the fraction of the curve."""
    figure, axes = new_figure(1, 2)
    colours = colormaps["plasma"](np.linspace(0.85, 0.1, len(THRESHOLDS)))
    panels = (("Two lenses: decided", binary), ("Others: false alarms", ~binary))
    for panel, (title, chosen) in zip(axes, panels, strict=True):
        for column, threshold in enumerate(THRESHOLDS):
            times = np.sort(decided[chosen, column])
            times = times[np.isfinite(times)]
            share = np.arange(len(times) + 1) / max(int(chosen.sum()), 1)
            x = np.concatenate([[0.0], times, [1.0]])
            y = np.append(share, share[-1])
            panel.step(x, y, where="post", color=colours[column], label=f"P ≥ {threshold:.1f}")
        panel.set(title=title, xlabel="fraction of the curve seen", xlim=(0, 1), ylim=(-0.02, 1.02))
    axes[0].set_ylabel("share of the events")
    axes[0].legend(loc="upper left")
    return figure


def bin_figure(report: Report) -> Figure:
    """Return AUC, recall and completeness of binaries by detectability and parameters."""
    found = {name: [row for row in report.rows if f"/{name}=" in row.slice] for name in BINS}
    shown = [name for name, rows in found.items() if rows]
    figure, axes = new_figure(max(1, len(shown)), 3, panel=(4.0, 2.6))
    titles = {
        "auc": "AUC",
        "recall": "recall at P ≥ 0.5",
        "completeness": "completeness, 90 % pure",
    }
    for line, name in enumerate(shown):
        for column, (metric, title) in enumerate(titles.items()):
            panel = axes[3 * line + column]
            rows = [row for row in found[name] if row.metric == metric]
            _draw_bins(panel, rows, subject_colours(report))
            panel.set(title=title if line == 0 else "", xlabel=AXIS_NAMES[name], ylim=(0, 1.03))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def example_figure(
    examples: Sequence[Example], names: Sequence[str], classes: Sequence[str]
) -> Figure:
    """Return light curves with the probability of two lenses after each epoch below them.

    Args:
        examples: Events.
        names: Theirs.
        classes: Names of the classes.
    """
    count = min(3, len(examples))
    lines = -(-len(examples) // count)
    figure, axes = new_figure(2 * lines, count, panel=(4.2, 2.0))
    for panel in axes:
        panel.set_visible(False)
    for number, (example, name) in enumerate(zip(examples, names, strict=True)):
        line, column = divmod(number, count)
        top, bottom = (axes[(2 * line + half) * count + column] for half in (0, 1))
        colour = COLOURS[1] if example.label == BINARY else COLOURS[0]
        top.errorbar(
            example.time, example.flux, example.error, fmt=".", markersize=2, elinewidth=0.4,
            color=colour,
        )  # fmt: skip
        kind = classes[example.label] if 0 <= example.label < len(classes) else "unknown"
        top.set(title=f"{name} · {kind}", ylabel="flux / reference")
        top.set_yscale("asinh")
        bottom.plot(example.time, example.probability, color=colour, linewidth=1.2)
        bottom.axhline(0.5, color=GREY, linestyle=":", linewidth=1)
        bottom.set(ylim=(-0.03, 1.03), ylabel="P(two lenses)", xlabel="time [days]")
        for panel in (top, bottom):
            panel.set_visible(True)
    return figure


def _draw_bins(panel: Axes, rows: Sequence[Row], colours: Mapping[str, str]) -> None:
    """Draw one metric in the bins of one parameter."""
    slices = list(dict.fromkeys(row.slice for row in rows))
    places = dict(zip(slices, range(len(slices)), strict=True))
    side_by_side(panel, rows, places, colours, width=0.2, fmt="o")
    names = [part.rpartition("=")[2].replace("..", " to ") for part in slices]
    panel.set_xticks(range(len(names)), names, fontsize=8)
    panel.set_xlim(-0.5, len(names) - 0.5)
