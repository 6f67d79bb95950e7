"""Charts of the whole field: sky, proper motions, colours and magnitudes, one panel an answer."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from callbacks.clustering.alignment import Clustering
from callbacks.clustering.contrasts import find_groups
from callbacks.clustering.sample import StarSample
from callbacks.report.figures import FIELD_COLOUR, class_colours, new_figure

Array = NDArray[Any]


@dataclass(frozen=True)
class Panel:
    """What the objects of a chart are coloured by.

    Args:
        title: Of the panel.
        colours: Number of each object's colour, 0 that of the field, -1 unknown, shape (n,).
        strength: How sure in 0..1, shape (n,).
        names: Number of the colour to what it stands for.
    """

    title: str
    colours: Array
    strength: Array
    names: dict[int, str]

    def take(self, rows: Array) -> "Panel":
        """Return the panel for some of the objects."""
        return replace(self, colours=self.colours[rows], strength=self.strength[rows])


Panels = Sequence[Panel]


def colourings(
    sample: StarSample, answers: Sequence[Clustering], beside: Collection[str] = ()
) -> list[Panel]:
    """Return what charts are coloured by: the answers of models and, if known, the true classes.

    Args:
        sample: With labels, if they are known.
        answers: The subjects', the model's first if it has one.
        beside: Subjects of other trained runs, which are shown too.
    """
    shown = [answer for answer in answers[:1] if answer.subject.startswith("model")]
    shown += [answer for answer in answers if answer.subject in beside]
    panels = [panel_of(answer, sample) for answer in shown]
    if sample.label is not None:
        shift, word = (0, "label") if sample.has_field else (1, "class")
        colours = np.where(sample.label >= 0, sample.label + shift, -1)
        names = {int(k): f"{word} {k - shift}" for k in np.unique(colours)}
        panels.append(Panel("labels", colours, np.ones(len(colours)), names | FIXED))
    return panels


def panel_of(answer: Clustering, sample: StarSample) -> Panel:
    """Return the panel of a model's answer.

    A cluster has the colour of its class, but keeps the name that it has in the tables of
    parameters and of memberships, the number of its column.

    Args:
        answer: A subject's.
        sample: The objects.
    """
    numbers = colour_numbers(answer, sample)
    names = {int(number): f"cluster {column}" for column, number in enumerate(numbers)}
    title = answer.subject.removeprefix("baseline/").replace("_", " ")
    return Panel(title, numbers[answer.assignment], answer.strength, names | FIXED)


FIXED = {-1: "unknown", 0: "field"}
"""Numbers of colours that always mean the same."""


def colour_numbers(answer: Clustering, sample: StarSample) -> Array:
    """Return the number of the colour of each column, shape (K,), 0 for the field.

    That of the aligned class or, without labels, groups in order of their column. A cluster
    without a class has a colour of its own if the model knows which column is the field.

    Args:
        answer: A subject's.
        sample: The objects.
    """
    if answer.alignment is not None:
        left_over, shift = (0, 0) if sample.has_field else (-1, 1)
        numbers = np.where(answer.alignment >= 0, answer.alignment + shift, left_over)
        if answer.field_column is not None:
            alone = np.flatnonzero(numbers == 0)
            alone = alone[alone != answer.field_column]
            numbers[alone] = numbers.max(initial=0) + 1 + np.arange(len(alone))
        return numbers
    if sample.astrometry is None:
        return np.arange(1, answer.num_columns + 1)
    groups, _ = find_groups(answer, sample.astrometry)
    numbers = np.zeros(answer.num_columns, dtype=np.int64)
    numbers[groups] = np.arange(1, len(groups) + 1)
    return numbers


def star_figures(sample: StarSample, panels: Panels) -> dict[str, Figure]:
    """Return sky, proper-motion and (with photometry) colour-magnitude diagrams.

    East is to the left and bright stars are on top.

    Args:
        sample: The stars.
        panels: What they are coloured by, one panel each.
    """
    assert sample.astrometry is not None
    place, motion = sample.astrometry[:, :2], sample.astrometry[:, 3:]
    small = np.percentile(np.linalg.norm(np.nan_to_num(place), axis=1), 99) < 1.0
    scale, unit = (60.0, "arcmin") if small else (1.0, "deg")
    sky = f"x, east of the centre [{unit}]", f"y, north of the centre [{unit}]"
    speed = r"proper motion $\mu_{}$ ({}) [mas yr$^{{-1}}$]".format
    moving = speed("x", "east"), speed("y", "north")
    charts: dict[str, tuple[Array, Sequence[str], float, dict[str, str]]] = {
        "sky": (place * scale, sky, 0.0, {"flipped": "x", "aspect": "equal"}),
        "proper_motion": (motion, moving, 1.0, {"aspect": "equal"}),
    }
    if sample.magnitude is not None and sample.colour is not None:
        diagram = np.stack([sample.colour, sample.magnitude], 1)
        bands = "$G_{BP} - G_{RP}$ [mag]", "$G$ [mag]"
        charts["colour_magnitude"] = (diagram, bands, 0.1, {"flipped": "y"})
    return {
        name: scatter(points, panels, axes, trim, **settings)
        for name, (points, axes, trim, settings) in charts.items()
        if np.isfinite(points).all(1).any()
    }


def scatter(
    points: Array,
    panels: Panels,
    names: Sequence[str],
    trim: float,
    flipped: str = "",
    **settings: Any,
) -> Figure:
    """Return one scatter chart for each colouring, on the same axes.

    Args:
        points: Shape (n, 2).
        panels: What the objects are coloured by.
        names: Labels of the axes.
        trim: Percent of the objects left out of view at each end (all are in the numbers).
        flipped: `x` or `y`, the axis that points the other way.
        settings: Of the panels.
    """
    figure, axes = new_figure(1, len(panels), panel=(4.6, 4.2))
    shown = np.isfinite(points).all(1)
    low, high = np.percentile(points[shown], [trim, 100 - trim], axis=0)
    for member in (shown & (panel.colours > 0) for panel in panels):
        if member.any():  # a small cluster aside is not to be cut
            ends = np.percentile(points[member], [trim, 100 - trim], axis=0)
            low, high = np.minimum(low, ends[0]), np.maximum(high, ends[1])
    margin = np.where(high > low, 0.04 * (high - low), 1.0)
    (left, bottom), (right, top) = low - margin, high + margin
    for axis, panel in zip(axes, panels, strict=True):
        draw_stars(axis, points, panel.colours, panel.strength)
        axis.set(title=panel.title, xlabel=names[0], xlim=(left, right), ylim=(bottom, top))
        axis.set(**settings)
        axis.xaxis.set_inverted(flipped == "x")
        axis.yaxis.set_inverted(flipped == "y")
        entries = [_legend_entry(panel, k) for k in np.unique(panel.colours[shown])]
        where: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14)}
        axis.legend(handles=entries, ncols=min(3, len(entries)), handletextpad=0.1, **where)
    axes[0].set_ylabel(names[1])
    return figure


def draw_stars(axis: Axes, points: Array, colours: Array, strength: Array) -> None:
    """Draw objects as dots, the surest members on top.

    Args:
        axis: Where to draw.
        points: Shape (n, 2); what is not finite is left out.
        colours: Number of each object's colour, shape (n,).
        strength: How strong it is, in 0..1, shape (n,).
    """
    order = np.flatnonzero(np.isfinite(points).all(1))
    order = order[np.argsort(np.where(colours > 0, strength, -1)[order], kind="stable")]
    size = float(np.clip(20000 / max(len(order), 1), 1.5, 16))
    x, y = points[order].T
    shades = blend(colours, strength)[order]
    axis.scatter(x, y, s=size, c=shades, linewidths=0, rasterized=True)


def blend(colours: Array, strength: Array) -> Array:
    """Return shades from the field's grey (strength 0) to the full colour (1), shape (n, 3).

    Args:
        colours: Number of each object's colour, shape (n,).
        strength: In 0..1, shape (n,).
    """
    hues = np.array([to_rgb(colour) for colour in palette(colours)])
    weight = np.clip(strength, 0, 1)[:, None]
    return (1 - weight) * hues[0] + weight * hues[np.maximum(colours, 0)]


def palette(numbers: Array) -> list[str]:
    """Return the colours of the numbers 0 (the field) up to the largest of some."""
    return [FIELD_COLOUR, *class_colours(max(1, int(numbers.max(initial=0))))]


def _legend_entry(panel: Panel, which: int) -> Line2D:
    """Return a legend entry with the number of objects of one colour."""
    label = f"{panel.names[int(which)]} ({(panel.colours == which).sum()})"
    colour = palette(panel.colours)[max(0, which)]
    return Line2D([], [], linestyle="", marker="o", markersize=6, color=colour, label=label)
