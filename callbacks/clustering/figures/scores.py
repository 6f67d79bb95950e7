"""Figures of the scores: reliability, thresholds, all subjects side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks.clustering.alignment import Clustering, event
from callbacks.clustering.sample import StarSample, Subset
from callbacks.clustering.scores import rates
from callbacks.report.figures import new_figure
from callbacks.report.plots import GREY, diagonal, reliability, side_by_side, subject_colours
from callbacks.report.scope import NUM_BINS
from callbacks.report.table import Report

Array = NDArray[Any]
Curves = dict[str, tuple[Array, Array]]  # subject to (probability, outcome)


def probability_figures(
    sample: StarSample,
    subset: Subset,
    answers: Sequence[Clustering],
    colours: Mapping[str, str],
) -> dict[str, Figure]:
    """Return the reliability diagram and, for stars, the threshold curves of a subset.

    Args:
        sample: With labels.
        subset: Which objects are shown.
        answers: The subjects'; those without probabilities are left out.
        colours: Of the subjects.
    """
    assert sample.label is not None
    rows = subset.scored & (sample.label >= 0)
    soft: Curves = {}
    for answer in answers:
        if answer.alignment is not None and answer.probability is not None:
            found = answer.take(rows), sample.label[rows], answer.alignment
            soft[answer.subject] = event(*found, sample.has_field)
    if not soft:
        return {}
    what = "membership" if sample.has_field else "most likely class"
    title = f"reliability of {what} ({subset.split.replace('_', ' ')})"
    figures = {"reliability": reliability_figure(soft, title, colours)}
    if sample.has_field:
        figures["thresholds"] = threshold_figure(soft, colours)
    return figures


def reliability_figure(curves: Curves, title: str, colours: Mapping[str, str]) -> Figure:
    """Return a reliability diagram over a histogram of the probabilities.

    Args:
        curves: Subject to probability and outcome, shape (n,) each.
        title: What the event is.
        colours: Of the subjects.
    """
    figure, (top, bottom) = new_figure(2, 1, panel=(5.2, 3.1), heights=(3, 1))
    diagonal(top, "calibrated")
    bins = np.linspace(0, 1, NUM_BINS + 1).tolist()
    for subject, (p, y) in curves.items():
        colour = colours[subject]
        reliability(top, p, y, colour, subject)
        bottom.hist(p, bins, histtype="step", linewidth=1.6, color=colour)
    top.set(ylabel="true frequency", title=title)
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    bottom.set(xlabel="stated probability", ylabel="objects", xlim=(-0.02, 1.02), yscale="log")
    return figure


def threshold_figure(curves: Curves, colours: Mapping[str, str]) -> Figure:
    """Return completeness and contamination against the membership threshold.

    Args:
        curves: Subject to membership probability and whether the star is a member.
        colours: Of the subjects.
    """
    figure, axes = new_figure(1, 2)
    thresholds = np.linspace(0.01, 0.99, 99)
    for subject, (p, y) in curves.items():
        for panel, values in zip(axes, rates(p, y, thresholds), strict=True):
            panel.plot(thresholds, values, color=colours[subject], label=subject)
    for panel, name in zip(axes, ("completeness", "contamination"), strict=True):
        panel.set(xlabel="threshold on the membership probability", title=name)
        panel.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axes[0].set_ylabel("share of true members selected")
    axes[1].set_ylabel("share of field stars among selected")
    axes[1].legend(loc="upper right")
    return figure


def score_figure(report: Report, metrics: Sequence[str], splits: Sequence[str]) -> Figure:
    """Return scores of all subjects side by side, one panel a split.

    Args:
        report: Where the numbers are.
        metrics: Metrics to show.
        splits: Splits to show.
    """
    figure, axes = new_figure(1, len(splits), panel=(4.4, 3.4))
    places = {metric: float(place) for place, metric in enumerate(metrics)}
    colours = subject_colours(report)
    for panel, split in zip(axes, splits, strict=True):
        rows = [row for row in report.rows if row.slice == f"split={split}"]
        side_by_side(panel, rows, places, colours, by="metric", width=0.52, fmt="o")
        panel.set_xticks(range(len(metrics)), list(metrics))
        panel.set(title=f"split: {split.replace('_', ' ')}", xlim=(-0.5, len(metrics) - 0.5))
        panel.set_ylim(min(-0.05, panel.get_ylim()[0]), 1.05)
        panel.axhline(0, color=GREY, linewidth=0.8)
    axes[0].set_ylabel("score (1 is perfect)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
