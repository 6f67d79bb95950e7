"""Figures of σ/m: posteriors, whether they hold the truth, and what more maps would give."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from callbacks.metrics.calibration import interval_coverage
from callbacks.report.figures import new_figure
from callbacks.report.plots import GREY, diagonal, logarithmic, subject_colours
from callbacks.report.table import Report
from callbacks.sidm.figures.look import UNIT, cross_section_axis, label_of, shown
from callbacks.sidm.populations import MeanOfMaps, Population
from callbacks.sidm.scores import MIN_COVERED
from callbacks.sidm.subjects import Measured

MAX_ROWS = 10
LEVELS = np.linspace(0.05, 0.95, 19)


def posterior_figure(subjects: Sequence[Measured], colours: Mapping[str, str]) -> Figure:
    """Return the posterior of each population, a row each, the model's filled.

    Args:
        subjects: What is said of the populations; the model first.
        colours: Of the subjects.
    """
    model, populations = subjects[0], shown(subjects[0], MAX_ROWS)
    figure, (panel,) = new_figure(panel=(7.4, 1.1 + 0.62 * len(populations)))
    for known in model.model.known:
        u = float(model.model.coordinate.of(known.cross_section))
        panel.axvline(u, color=GREY, linestyle=":", linewidth=1.2, label="known simulations")
    for row, one in enumerate(populations):
        for number, subject in enumerate(subjects):
            _draw_posterior(panel, subject, one, -row, number, colours[subject.subject])
        truth = float(model.model.coordinate.of(one.cross_section))
        panel.plot(2 * [truth], [-row, 0.7 - row], color="black", linewidth=1.5, label="truth")
    labels = [label_of(one, model) for one in populations]
    panel.set_yticks([0.25 - row for row in range(len(labels))], labels)
    panel.set_ylim(-len(labels) + 0.65 - 0.1 * len(subjects), 0.8)
    panel.grid(visible=False)
    panel.tick_params(axis="y", length=0)
    cross_section_axis(panel, model.model.coordinate, "x")
    handles, names = panel.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=4)
    starred = any("*" in label for label in labels)
    panel.set_title(
        "Posterior, bars 68 % interval" + (", * truth unknown" if starred else ""), loc="left"
    )
    return figure


def _draw_posterior(
    panel: Axes, subject: Measured, one: Population, base: float, number: int, colour: str
) -> None:
    """Draw one posterior above a base line and its interval below."""
    posterior, coordinate = subject.posteriors[one.name], subject.model.coordinate
    height = base + 0.62 * posterior.density / posterior.density.max()
    panel.plot(coordinate.grid, height, color=colour, linewidth=1.3, label=subject.subject)
    if number == 0:
        hidden = one.name in subject.populations.hidden
        hatch = None if hidden else "////"
        panel.fill_between(
            coordinate.grid, base, height, hatch=hatch, color=colour, alpha=0.3, linewidth=0
        )
    below = base - 0.08 - 0.09 * number
    ends = coordinate.of(np.array(subject.intervals[one.name][0.68]))
    panel.plot(ends, [below, below], color=colour, linewidth=2.2, solid_capstyle="butt")
    panel.plot(coordinate.of(posterior.median), below, "o", color=colour, markersize=4)


def coverage_figure(subjects: Sequence[Measured], colours: Mapping[str, str]) -> Figure | None:
    """Return how often intervals hold the truth, and medians against it; None if too few are known.

    Args:
        subjects: What is said of the populations; the model first.
        colours: Of the subjects.
    """
    parts = subjects[0].populations
    found = [one for one in parts.measured if one.name in parts.hidden]
    found = [one for one in found if np.isfinite(one.cross_section)]
    if len(found) < MIN_COVERED:
        return None
    figure, (left, *others) = new_figure(1, 1 + len(subjects))
    deviation = np.sqrt(LEVELS * (1 - LEVELS) / len(found))
    band = (LEVELS - deviation, LEVELS + deviation)
    left.fill_between(LEVELS, *band, color="#e0e0e0", label="binomial 68 %")
    diagonal(left)
    for subject, panel in zip(subjects, others, strict=True):
        colour = colours[subject.subject]
        _draw_coverage(left, subject, found, colour)
        _draw_medians(panel, subject, found, colour)
    left.set(xlabel="stated level", ylabel="share of populations held")
    left.set_title(f"Coverage, {len(found)} hidden populations")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_coverage(
    panel: Axes, subject: Measured, populations: Sequence[Population], colour: str
) -> None:
    """Draw the share of truths held against the level, dashed before calibration."""
    truth = np.array([one.cross_section for one in populations])
    calibrated = bool(subject.populations.calibration)
    lines = {"": True, ", uncalibrated": False} if calibrated else {"": False}
    for text, scaled in lines.items():
        shares = []
        for level in LEVELS:
            factor = subject.calibration.factor(level) if scaled else 1.0
            ends = [subject.posteriors[one.name].interval(level, factor) for one in populations]
            low, high = np.array(ends).T
            shares.append(interval_coverage(low, high, truth).mean())
        dashes = "--" if text else "-"
        label = subject.subject + text
        panel.plot(LEVELS, shares, dashes, color=colour, linewidth=1.5, label=label)


def _draw_medians(
    panel: Axes, subject: Measured, populations: Sequence[Population], colour: str
) -> None:
    """Draw medians with 68 % intervals against the truth."""
    coordinate = subject.model.coordinate
    truth = coordinate.of(np.array([one.cross_section for one in populations]))
    middle = coordinate.of(np.array([subject.posteriors[x.name].median for x in populations]))
    ends = coordinate.of(np.array([subject.intervals[x.name][0.68] for x in populations]))
    arms = np.maximum([middle - ends[:, 0], ends[:, 1] - middle], 0)
    panel.plot(coordinate.grid[[0, -1]], coordinate.grid[[0, -1]], ":", color=GREY, linewidth=1.2)
    panel.errorbar(
        truth, middle, arms, fmt="o", color=colour, markersize=3.5, elinewidth=0.9, alpha=0.8
    )
    end = 1.08 * max(truth.max(), ends.max())
    for which in ("x", "y"):
        cross_section_axis(panel, coordinate, which)
    panel.set(xlim=(-0.03 * end, end), ylim=(-0.03 * end, end))
    panel.set(xlabel=rf"true $\sigma/m$ [{UNIT}]", ylabel=rf"median $\sigma/m$ [{UNIT}]")
    panel.set_title(subject.subject)


def survey_figure(subjects: Sequence[Measured], report: Report) -> Figure | None:
    """Return the width of the interval against the number of maps; None if it is not reported.

    Args:
        subjects: What is said of the populations; the model first.
        report: Filled.
    """
    rows = [row for row in report.rows_of("interval_width") if row.slice.startswith("num_maps=")]
    if not rows:
        return None
    figure, (panel,) = new_figure(panel=(5.2, 4.2))
    for subject in subjects:
        own = [row for row in rows if row.subject == subject.subject]
        sizes = np.array([int(row.slice.partition("=")[2]) for row in own])
        widths, stds = (np.array([getattr(row, key) for row in own]) for key in ("value", "std"))
        colour = subject_colours(report)[subject.subject]
        panel.errorbar(sizes, widths, stds, fmt="o-", color=colour, label=subject.subject)
        panel.axhline(width_of_endless(subject), color=colour, linestyle="--", linewidth=1)
        if subject is subjects[0]:
            guide = widths[0] * np.sqrt(sizes[0] / sizes)
            panel.plot(sizes, guide, ":", color=GREY, label=r"$\propto N^{-1/2}$")
    panel.plot([], [], "--", color=GREY, linewidth=1, label="path alone: endless maps")
    logarithmic(panel, "x")
    logarithmic(panel, "y")
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.xaxis.minorticks_off()
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("{x:.2g}")
    panel.set(xlabel="maps of a population", ylabel=f"width of the 68 % interval [{UNIT}]")
    panel.legend()
    return figure


def width_of_endless(subject: Measured) -> float:
    """Return the width of the 68 % interval that no number of maps goes below, in cm^2/g.

    That of a population whose mean stands on the path, without error, at the median of a hidden
    one; the median over these.
    """
    widths = []
    for name in subject.populations.hidden:
        posterior, model = subject.posteriors[name], subject.model
        place = int(np.abs(model.coordinate.grid - posterior.quantile(0.5)).argmin())
        densities = []
        for path in model.paths:
            mean = path.mean[place]
            logs = path.log_likelihood(MeanOfMaps(mean, np.zeros(0), np.zeros((0, len(mean)))))
            densities.append(np.exp(logs - np.logaddexp.reduce(logs)))
        endless = replace(posterior, density=np.mean(densities, axis=0))
        widths.append(np.ptp(subject.calibration.intervals(endless)[0.68]))
    return float(np.median(widths))
