"""The drawings of the clustering report: scatter charts, reliability, thresholds, scores."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from callbacks.clustering.alignment import StarSample
from callbacks.clustering.scores import rates
from callbacks.report.figures import (
    FIELD_COLOUR,
    class_colours,
    new_figure,
    style_colour_magnitude,
    style_proper_motion,
    style_sky,
)
from callbacks.report.plots import diagonal, reliability, side_by_side, subject_colours
from callbacks.report.scope import NUM_BINS
from callbacks.report.table import Report

Array = NDArray[Any]
# Title to (class of each star, how sure in 0..1); class 0 is drawn in the field's colour.
Panels = Mapping[str, tuple[Array, Array]]
Curves = Mapping[str, tuple[Array, Array]]  # subject to (probability, outcome)


def star_figures(sample: StarSample, panels: Panels) -> dict[str, Figure]:
    """Return sky, proper-motion and (with photometry) colour-magnitude diagrams.

    Args:
        sample: The stars.
        panels: What they are coloured by, one panel each.
    """
    assert sample.astrometry is not None
    x, y, _, motion_x, motion_y = sample.astrometry.T
    magnitude, colour = sample.magnitude, sample.colour
    figures = {}
    if np.isfinite(x + y).any():
        small = np.nanpercentile(np.hypot(x, y), 99) < 1.0
        scale, unit = (60.0, "arcmin") if small else (1.0, "deg")
        style_plane = partial(style_sky, unit=unit)
        figures["sky"] = _star_panels(x * scale, y * scale, panels, style_plane, trim=0.0)
    if np.isfinite(motion_x + motion_y).any():
        figures["proper_motion"] = _star_panels(
            motion_x, motion_y, panels, style_proper_motion, trim=1.0
        )
    if magnitude is not None and colour is not None and np.isfinite(magnitude + colour).any():
        figures["colour_magnitude"] = _star_panels(
            colour, magnitude, panels, style_colour_magnitude, trim=0.1
        )
    return figures


def latent_figure(points: Array, panels: Panels, names: Sequence[str]) -> Figure:
    """Return a two-dimensional view of the latent space.

    Args:
        points: Shape (n, 2).
        panels: What the objects are coloured by, one panel each.
        names: Labels of the two axes.
    """

    def label(axes: Axes) -> None:
        """Name the axes after the projection."""
        axes.set(xlabel=names[0], ylabel=names[1])

    return _star_panels(points[:, 0], points[:, 1], panels, label, trim=0.1)


def reliability_figure(curves: Curves, title: str, colours: Mapping[str, str]) -> Figure:
    """Return a reliability diagram over a histogram of the probabilities.

    Args:
        curves: Subject to probability and outcome, shape (n,) each.
        title: What the event is.
        colours: Of the subjects.
    """
    figure, (top, bottom) = new_figure(2, 1, panel=(5.2, 3.1))
    grid = top.get_subplotspec()
    assert grid is not None
    grid.get_gridspec().set_height_ratios([3, 1])
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
        panel.axhline(0, color="#888888", linewidth=0.8)
    axes[0].set_ylabel("score (1 is perfect)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _star_panels(
    x: Array, y: Array, panels: Panels, label: Callable[[Axes], None], trim: float
) -> Figure:
    """Return one scatter panel for each colouring, on the same axes.

    Args:
        x: Shape (n,).
        y: Shape (n,).
        panels: What the objects are coloured by.
        label: Labels a panel.
        trim: Percent of the objects left out of view at each end (all are in the numbers).
    """
    figure, axes = new_figure(1, len(panels), panel=(4.6, 4.2))
    shown = np.isfinite(x) & np.isfinite(y)
    limits = [_limits(values[shown], trim) for values in (x, y)]
    size = float(np.clip(20000 / max(shown.sum(), 1), 1.5, 16))
    for panel, (title, (classes, strength)) in zip(axes, panels.items(), strict=True):
        order = np.flatnonzero(shown)
        order = order[np.argsort(np.where(classes > 0, strength, -1)[order], kind="stable")]
        colours = blend(classes, strength)[order]
        panel.scatter(x[order], y[order], s=size, c=colours, linewidths=0, rasterized=True)
        panel.set(title=title, xlim=limits[0], ylim=limits[1])
        label(panel)
        entries = [_legend_entry(classes, k) for k in np.unique(classes[shown])]
        panel.legend(
            handles=entries,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
            ncols=min(3, len(entries)),
            handletextpad=0.1,
            columnspacing=1.0,
        )
    for panel in axes[1:]:
        panel.set_ylabel("")
    return figure


def blend(classes: Array, strength: Array) -> Array:
    """Return colours from the field's grey (strength 0) to the class's own (1), shape (n, 3)."""
    palette = [FIELD_COLOUR, *class_colours(max(1, int(classes.max(initial=0))))]
    hues = np.array([to_rgb(colour) for colour in palette])
    weight = np.clip(strength, 0, 1)[:, None]
    return (1 - weight) * hues[0] + weight * hues[np.maximum(classes, 0)]


def _legend_entry(classes: Array, which: int) -> Line2D:
    """Return a legend entry with the number of objects of one class."""
    colour = [FIELD_COLOUR, *class_colours(max(1, int(classes.max(initial=0))))][max(0, which)]
    name = {-1: "unknown", 0: "field"}.get(int(which), f"cluster {which}")
    count = int((classes == which).sum())
    label = f"{name} ({count})"
    return Line2D([], [], linestyle="", marker="o", markersize=6, color=colour, label=label)


def _limits(values: Array, trim: float) -> tuple[float, float]:
    """Return axis limits that leave out some percent of the values at each end."""
    low, high = np.percentile(values, [trim, 100 - trim])
    margin = 0.04 * (high - low) or 1.0
    return float(low - margin), float(high + margin)
