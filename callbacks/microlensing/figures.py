"""The figures of the microlensing report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks.metrics.ranking import Ranking
from callbacks.microlensing.events import BINARY, FRACTIONS, THRESHOLDS, Example, Subject
from callbacks.microlensing.scores import BINS, slice_name
from callbacks.report.figures import COLOURS, new_figure
from callbacks.report.probability import draw_diagonal, draw_reliability
from callbacks.report.table import Report, Row

Array = NDArray[Any]
SUBJECT_COLOURS = {"model": COLOURS[0], "classical/pspl_fit": COLOURS[1], "signal": "#888888"}
BY_FRACTION = ("accuracy", "auc", "average_precision", "ece")
AXIS_NAMES: Mapping[str, str] = {
    "delta_chi2": r"$\Delta\chi^2$ against the best single lens",
    "mass_ratio": "mass ratio $q$",
    "separation": "separation $s$ [Einstein radii]",
    "impact_parameter": "impact parameter $|u_0|$",
    "baseline_magnitude": "baseline magnitude",
}


def microlensing_figures(
    report: Report,
    subjects: Sequence[Subject],
    label: Array,
    decided: Array,
    classes: Sequence[str],
) -> dict[str, Figure]:
    """Return all figures of scores, by name.

    Args:
        report: The filled report.
        subjects: Whose answers are shown; the model first.
        label: Of the events, shape (n,).
        decided: Fraction at which each threshold was reached, shape (n, D).
        classes: Names of the classes.
    """
    binary = label == BINARY
    whole = {x.name: (binary[x.rows], x.probability[:, -1]) for x in subjects}
    model = subjects[0]
    parts = {
        f"{fraction:.0%} seen": (binary, model.probability[:, column])
        for column, fraction in enumerate(FRACTIONS)
    }
    shades = colormaps["viridis"](np.linspace(0.9, 0.1, len(FRACTIONS)))
    return {
        "roc_pr": ranking_figure(whole, [SUBJECT_COLOURS[name] for name in whole]),
        "roc_pr_by_fraction": ranking_figure(parts, list(shades)),
        "scores_by_fraction": fraction_figure(report),
        "confusion": confusion_figure(model, label, classes),
        "reliability": reliability_figure(subjects, binary),
        "decisions": decision_figure(decided, binary),
        "detectability": bin_figure(report),
    }


def ranking_figure(curves: Mapping[str, tuple[Array, Array]], colours: Sequence[Any]) -> Figure:
    """Return ROC and precision-recall curves.

    Args:
        curves: Name to (whether there are two lenses, probability).
        colours: One a curve.
    """
    figure, (roc, precision) = new_figure(1, 2)
    roc.plot([0, 1], [0, 1], color="#888888", linestyle=":", linewidth=1.2)
    for (name, (truth, p)), colour in zip(curves.items(), colours, strict=True):
        curve = Ranking(truth, p).curve()
        x, y = np.insert(curve.false_positive_rate, 0, 0), np.insert(curve.recall, 0, 0)
        roc.plot(x, y, color=colour, label=name)
        precision.plot(curve.recall, curve.precision, color=colour, label=name)
    roc.set(xlabel="false-positive rate", ylabel="true-positive rate", title="ROC")
    precision.set(xlabel="completeness", ylabel="purity", title="Precision and recall")
    for panel in (roc, precision):
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    precision.legend(loc="lower left")
    return figure


def fraction_figure(report: Report) -> Figure:
    """Return scores against the fraction of the curve."""
    figure, axes = new_figure(2, 2, panel=(4.2, 3.0))
    names = {slice_name(fraction): fraction for fraction in FRACTIONS}
    for panel, metric in zip(axes, BY_FRACTION, strict=True):
        rows = [row for row in report.rows if row.metric == metric and row.slice in names]
        for subject in dict.fromkeys(row.subject for row in rows):
            own = [row for row in rows if row.subject == subject]
            panel.errorbar(
                [names[row.slice] for row in own],
                [row.value for row in own],
                [row.std or 0.0 for row in own],
                marker="o",
                markersize=4,
                color=SUBJECT_COLOURS[subject],
                label=subject,
            )
        panel.set(title=metric.replace("_", " "), xlim=(0, 1.03))
    for panel in axes[2:]:
        panel.set_xlabel("fraction of the curve seen")
    axes[0].legend(loc="lower right")
    return figure


def confusion_figure(model: Subject, label: Array, classes: Sequence[str]) -> Figure:
    """Return the confusion matrix at each fraction, in shares of the true class."""
    figure, axes = new_figure(2, 4, panel=(2.9, 2.9))
    count, ticks = len(classes), range(len(classes))
    for column, (panel, fraction) in enumerate(zip(axes, FRACTIONS, strict=False)):
        cells = label * count + model.predicted[:, column]
        table = np.bincount(cells, minlength=count**2).reshape(count, count)
        share = table / np.maximum(table.sum(1, keepdims=True), 1)
        panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, other), value in np.ndenumerate(share):
            text = f"{value:.1%}\n{table[row, other]}"
            colour = "white" if value > 0.6 else "black"
            panel.text(other, row, text, ha="center", va="center", color=colour, fontsize=9)
        panel.grid(visible=False)
        panel.set_xticks(ticks, classes)
        panel.set_yticks(ticks, classes, rotation=90, va="center")
        panel.set(title=f"{fraction:.0%} seen", xlabel="predicted", ylabel="true")
    axes[-1].set_axis_off()
    return figure


def reliability_figure(subjects: Sequence[Subject], binary: Array) -> Figure:
    """Return a reliability diagram at each fraction, and the probabilities stated at the end."""
    figure, axes = new_figure(2, 4, panel=(2.9, 2.9))
    for column, (panel, fraction) in enumerate(zip(axes, FRACTIONS, strict=False)):
        draw_diagonal(panel)
        for subject in subjects:
            p, y = subject.probability[:, column], binary[subject.rows]
            draw_reliability(panel, p, y, SUBJECT_COLOURS[subject.name], subject.name)
        panel.set(title=f"{fraction:.0%} seen", xlabel="stated probability of two lenses")
    axes[0].set_ylabel("share with two lenses")
    axes[4].set_ylabel("share with two lenses")
    for subject in subjects:
        share = np.full(len(subject.rows), 1 / len(subject.rows))
        colour, bins = SUBJECT_COLOURS[subject.name], np.linspace(0, 1, 21).tolist()
        axes[-1].hist(
            subject.probability[:, -1], bins, weights=share, histtype="step", color=colour
        )
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
    found = {name: _bin_rows(report, name) for name in BINS}
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
            _draw_bins(panel, [row for row in found[name] if row.metric == metric], name)
            panel.set(title=title if line == 0 else "", xlabel=AXIS_NAMES[name], ylim=(0, 1.03))
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3)
    return figure


def example_figure(examples: Sequence[Example], classes: Sequence[str]) -> Figure:
    """Return light curves with the probability of two lenses after each epoch below them."""
    count = min(3, len(examples))
    lines = -(-len(examples) // count)
    figure, axes = new_figure(2 * lines, count, panel=(4.2, 2.0))
    for panel in axes:
        panel.set_visible(False)
    for number, example in enumerate(examples):
        line, column = divmod(number, count)
        top, bottom = (axes[(2 * line + half) * count + column] for half in (0, 1))
        colour = COLOURS[1] if example.label == BINARY else COLOURS[0]
        top.errorbar(
            example.time, example.flux, example.error, fmt=".", markersize=2, elinewidth=0.4,
            color=colour,
        )  # fmt: skip
        kind = classes[example.label] if 0 <= example.label < len(classes) else "unknown"
        top.set(title=f"{example.name} · {kind}", ylabel="flux / reference")
        top.set_yscale("asinh")
        bottom.plot(example.time, example.probability, color=colour, linewidth=1.2)
        bottom.axhline(0.5, color="#888888", linestyle=":", linewidth=1)
        bottom.set(ylim=(-0.03, 1.03), ylabel="P(two lenses)", xlabel="time [days]")
        for panel in (top, bottom):
            panel.set_visible(True)
    return figure


def _bin_rows(report: Report, name: str) -> list[Row]:
    """Return the rows of the report that are by bins of a parameter."""
    return [row for row in report.rows if f"/{name}=" in row.slice]


def _draw_bins(panel: Axes, rows: Sequence[Row], name: str) -> None:
    """Draw one metric in the bins of one parameter, with the number of binaries."""
    bins = list(dict.fromkeys(row.slice.split(f"/{name}=")[1] for row in rows))
    subjects = list(dict.fromkeys(row.subject for row in rows))
    for subject, shift in zip(subjects, (-0.1, 0.1), strict=False):
        own = {row.slice.split(f"/{name}=")[1]: row for row in rows if row.subject == subject}
        panel.errorbar(
            [place + shift for place, part in enumerate(bins) if part in own],
            [own[part].value for part in bins if part in own],
            [own[part].std or 0.0 for part in bins if part in own],
            fmt="o",
            markersize=5,
            color=SUBJECT_COLOURS[subject],
            label=subject,
        )
    panel.set_xticks(range(len(bins)), [part.replace("..", " to ") for part in bins], fontsize=8)
    panel.set_xlim(-0.5, len(bins) - 0.5)
