"""Figures of trust: classes, overlaps, two-sample tests and the rejection of single maps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from callbacks.report.figures import COLOURS, new_figure
from callbacks.report.plots import GREY, confusion, heatmap
from callbacks.report.table import Report
from callbacks.sidm.figures.look import CROSS_SECTION, label_of, shown
from callbacks.sidm.populations import Array
from callbacks.sidm.subjects import Measured

MAX_ROWS = 8


def confusion_figure(measured: Measured, classes: Mapping[str, Array]) -> Figure:
    """Return the confusion of known cross-sections; maps taken for a hidden class are left out.

    Args:
        measured: What the model says.
        classes: Known simulation to the class of each of its maps.
    """
    known = [one for one in measured.populations.known if one.name in classes]
    values = sorted({one.cross_section for one in known})
    true = np.concatenate([np.full(x.num_maps, values.index(x.cross_section)) for x in known])
    found = np.concatenate([classes[one.name] for one in known])
    kept = found >= 0
    figure, (panel,) = new_figure(panel=(1.2 + 0.85 * len(values), 1.2 + 0.85 * len(values)))
    confusion(panel, found[kept], true[kept], [f"{value:g}" for value in values])
    panel.set(xlabel=f"taken for {CROSS_SECTION}", ylabel=f"true {CROSS_SECTION}")
    share = (found[kept] == true[kept]).mean()
    lost = f", {(~kept).sum()} of other classes" if not kept.all() else ""
    panel.set_title(f"Single maps: {share:.0%} right{lost}", fontsize=10)
    return figure


def confidence_figure(subjects: Sequence[Measured], report: Report) -> Figure:
    """Return overlaps with known simulations, two-sample tests, and areas of single-map scores.

    Args:
        subjects: What is said of the populations; the model first.
        report: Filled.
    """
    model = subjects[0]
    count = len(shown(model, MAX_ROWS))
    figure, axes = new_figure(1, 3, panel=(4.6, 1.9 + 0.36 * max(count, 5)))
    _draw_overlaps(axes[0], model, report)
    _draw_two_sample(axes[1], model, report)
    _draw_rejection(axes[2], model, report)
    return figure


def _values(report: Report, metric: str, subject: str) -> dict[str, float]:
    """Return the values of a metric by their slice."""
    return {row.slice: row.value for row in report.rows_of(metric, subject)}


def _draw_overlaps(panel: Axes, measured: Measured, report: Report) -> None:
    """Draw the overlap of each population with each known simulation, and its p-value."""
    overlap = _values(report, "overlap", measured.subject)
    trust = _values(report, "confidence", measured.subject)
    populations, known = shown(measured, MAX_ROWS), measured.anchors
    matrix = np.array(
        [[overlap[f"simulation={a.name}/known={b.name}"] for b in known] for a in populations]
    )
    heatmap(panel, matrix, "Blues", (0, 1), aspect="auto")
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if value > 0.6 else "black"
        panel.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    panel.set_xticks(range(len(known)), [f"{one.cross_section:g}" for one in known])
    labels = [
        f"{label_of(one, measured)}\np = {trust[f'simulation={one.name}']:.2f}"
        for one in populations
    ]
    panel.set_yticks(range(len(labels)), labels, fontsize=8)
    panel.set(xlabel=f"known {CROSS_SECTION}", title="Overlap, p-value of the largest")


def _draw_two_sample(panel: Axes, measured: Measured, report: Report) -> None:
    """Draw the area of the two-sample test of each population; hidden ones in one row if many.

    Those of too few halos for the test are left out.
    """
    auc, limit = (
        _values(report, f"two_sample_{what}", measured.subject) for what in ("auc", "limit")
    )
    panel.set(xlabel="AUC", title="Two-sample test against known maps")
    tested = [one for one in measured.populations.measured if f"simulation={one.name}" in auc]
    if not tested:
        return
    hidden = [one.name for one in tested if one.name in measured.populations.hidden]
    many = len(hidden) > MAX_ROWS // 2
    lines: dict[str, list[str]] = {f"{len(hidden)} hidden": hidden} if many else {}
    for one in tested:
        if not (many and one.name in hidden):
            lines[label_of(one, measured)] = [one.name]
    for row, names in enumerate(lines.values()):
        values = np.array([auc[f"simulation={name}"] for name in names])
        spots = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else 0.0
        limits = [limit[f"simulation={name}"] for name in names]
        colours = ["#d55e00" if v > x else "#0072b2" for v, x in zip(values, limits, strict=True)]
        panel.scatter(values, row + spots, s=18, c=colours, zorder=3)
    panel.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    line = max(limit.values())
    panel.axvline(line, color="#d55e00", linestyle="--", linewidth=1.2)
    panel.text(line, -0.62, " foreign", color="#d55e00", fontsize=8, va="center")
    panel.set_yticks(range(len(lines)), list(lines), fontsize=8)
    panel.set(xlim=(min(0.38, *auc.values()) - 0.02, 1.03), ylim=(len(lines) - 0.4, -0.9))


def _draw_rejection(panel: Axes, measured: Measured, report: Report) -> None:
    """Draw the area under the ROC curve of single foreign maps by domain and score."""
    rows = [row for row in report.rows_of("ood_auc", measured.subject)]
    domains = list(dict.fromkeys(row.slice.split("/score=")[0] for row in rows))
    scores = list(dict.fromkeys(row.slice.split("/score=")[1] for row in rows))
    for marker, colour, score in zip(("o", "s", "^"), COLOURS, scores, strict=False):
        own = {row.slice.split("/score=")[0]: row.value for row in rows if score in row.slice}
        places = [domains.index(name) for name in own]
        panel.plot(
            list(own.values()),
            places,
            marker,
            color=colour,
            alpha=0.8,
            label=score.replace("_", " "),
        )
    panel.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    names = [name.partition("=")[2] for name in domains]
    panel.set_yticks(range(len(names)), names, fontsize=8)
    least = min([0.4, *(row.value for row in rows)])
    panel.set(xlim=(least - 0.03, 1.03), ylim=(len(names) - 0.4, -1.1))
    panel.set(xlabel="AUC", title="Single foreign maps against known")
    if rows:
        panel.legend(loc="upper left", fontsize=8, ncols=3, columnspacing=0.8, handletextpad=0.2)
