"""Panels that several reports draw: reliability, ranking, confusion, scores side by side."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import LogFormatter
from matplotlib.typing import ColorType
from numpy.typing import NDArray

from callbacks.metrics.calibration import reliability_table
from callbacks.metrics.contingency import contingency
from callbacks.metrics.ranking import Ranking
from callbacks.report.figures import COLOURS
from callbacks.report.scope import NUM_BINS
from callbacks.report.table import Report, Row

Array = NDArray[Any]
GREY = "#888888"


def subject_colours(report: Report) -> dict[str, str]:
    """Return the colour of each subject of a report: the model blue, what none can beat grey."""
    subjects = list(dict.fromkeys(row.subject for row in report.rows))
    plain = [name for name in subjects if name not in ("model", "truth", "signal", "data")]
    others = dict(zip(plain, COLOURS[1:] * (1 + len(plain) // 6), strict=False))
    return {name: COLOURS[0] if name == "model" else others.get(name, GREY) for name in subjects}


def diagonal(panel: Axes, label: str = "") -> None:
    """Draw the diagonal of the unit square and fix the limits to it."""
    panel.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label=label or None)
    panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def logarithmic(panel: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers at its ticks, more of them in few decades."""
    panel.set(**{f"{which}scale": "log"})
    axis = panel.xaxis if which == "x" else panel.yaxis
    axis.set_major_formatter(LogFormatter())
    axis.set_minor_formatter(LogFormatter(labelOnlyBase=False))


def reliability(panel: Axes, p: Array, y: Array, colour: ColorType, label: str) -> None:
    """Draw observed frequency against stated probability, with binomial errors.

    Args:
        panel: Where to draw.
        p: Probability of the event, shape (n,).
        y: Whether it happened, shape (n,).
        colour: Of the line.
        label: In the legend.
    """
    table = reliability_table(y, p, NUM_BINS)
    error = np.sqrt(table.frequency * (1 - table.frequency) / table.num_objects)
    x, y = table.probability, table.frequency
    panel.errorbar(x, y, error, marker="o", markersize=4, color=colour, label=label)


def roc_and_precision(
    roc: Axes, precision: Axes, curves: Mapping[str, tuple[Array, Array]], colours: Sequence[Any]
) -> None:
    """Draw ROC and precision-recall curves.

    Args:
        roc: Left panel.
        precision: Right panel.
        curves: Name to score and whether the event happened, shape (n,) each.
        colours: One a curve.
    """
    diagonal(roc)
    for (name, (p, y)), colour in zip(curves.items(), colours, strict=True):
        curve = Ranking(y, p).curve()
        x, rate = np.insert(curve.false_positive_rate, 0, 0), np.insert(curve.recall, 0, 0)
        roc.plot(x, rate, color=colour, label=name)
        precision.plot(curve.recall, curve.precision, color=colour, label=name)
    roc.set(xlabel="false-positive rate", ylabel="true-positive rate", title="ROC")
    precision.set(xlabel="completeness", ylabel="purity", title="Precision and recall")
    precision.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    precision.legend(loc="lower left")


def confusion(panel: Axes, predicted: Array, true: Array, names: Sequence[str]) -> None:
    """Draw a confusion matrix in shares of the true class.

    Args:
        panel: Where to draw.
        predicted: Classes 0..C-1, shape (n,).
        true: Shape (n,).
        names: Of the C classes.
    """
    count, ticks = len(names), range(len(names))
    table = contingency(true, predicted, count, count)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    heatmap(panel, share, "Blues", (0, 1))
    for (row, column), value in np.ndenumerate(share):
        text = f"{value:.1%}\n{table[row, column]}"
        colour = "white" if value > 0.6 else "black"
        panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    panel.set_xticks(ticks, names)
    panel.set_yticks(ticks, names, rotation=90, va="center")
    panel.set(xlabel="predicted", ylabel="true")


def heatmap(
    panel: Axes, matrix: Array, colours: str, limits: tuple[float, float], **settings: Any
) -> AxesImage:
    """Draw a matrix as an image without grid.

    Args:
        panel: Where to draw.
        matrix: Shape (rows, columns).
        colours: Name of the colour map.
        limits: Values at its ends.
        settings: Of matplotlib's `imshow`.
    """
    low, high = limits
    image = panel.imshow(
        matrix, cmap=colours, vmin=low, vmax=high, interpolation="nearest", **settings
    )
    panel.grid(visible=False)
    return image


def side_by_side(
    panel: Axes,
    rows: Sequence[Row],
    places: Mapping[str, float],
    colours: Mapping[str, str],
    by: str = "slice",
    width: float = 0.0,
    fmt: str = "o-",
) -> None:
    """Draw values with errors, one colour a subject.

    Args:
        panel: Where to draw.
        rows: Of a report.
        places: Value of the field `by` to its x; rows of others are left out.
        colours: Of the subjects.
        by: Field of a row that x stands for: `slice` or `metric`.
        width: Over which the subjects are spread around their x.
        fmt: Marker and line of matplotlib's `errorbar`.
    """
    shown = [row for row in rows if getattr(row, by) in places]
    subjects = list(dict.fromkeys(row.subject for row in shown))
    offsets = np.linspace(-width / 2, width / 2, len(subjects)) if len(subjects) > 1 else [0.0]
    for subject, offset in zip(subjects, offsets, strict=True):
        own = [row for row in shown if row.subject == subject]
        panel.errorbar(
            [places[getattr(row, by)] + offset for row in own],
            [row.value for row in own],
            [row.std or 0.0 for row in own],
            color=colours[subject],
            label=subject,
            fmt=fmt,
            markersize=5,
        )
