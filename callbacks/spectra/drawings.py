"""The drawings of the report of spectra: residuals, examples, chi^2, recovery."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from callbacks.report.figures import COLOURS, new_figure
from callbacks.report.plots import subject_colours
from callbacks.report.table import Report
from callbacks.spectra.fidelity import in_windows, star_chi2
from callbacks.spectra.predictions import Predictions
from callbacks.spectra.recovery import target_name

Array = NDArray[Any]
Windows = Mapping[str, Sequence[tuple[float, float]]]
MASKED = "#f6c7d4"
WINDOW_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#0072b2")
SMOOTHING = 15
COMPARED = "baseline/labels_pca"
ZOOM = (15720.0, 15800.0)
"""Wavelengths in A of the examples: Fe I, Mg I, Ti I, V I lines."""


def residual_figure(
    subjects: Sequence[Predictions], wavelength: Array, chips: Sequence[slice], windows: Windows
) -> Figure:
    """Return residuals by wavelength, a row a chip, with the windows of elements.

    Args:
        subjects: The model first; of the others `COMPARED` is compared.
        wavelength: In A, shape (P,).
        chips: Pixels of each chip.
        windows: Element to spans in A.
    """
    model = subjects[0]
    figure, axes = new_figure(len(chips), 1, panel=(11.0, 2.5))
    mean, std = model.pixels.mean("residual"), model.pixels.std("residual")
    shown = [one for one in subjects if one.subject in ("model", COMPARED)]
    pulls = {one.subject: one.pixels.std("pull") for one in shown}
    top = float(np.nanquantile(std, 0.98)) * 1.5
    reach = max(3.0, 1.2 * float(np.nanquantile(pulls["model"], 0.98)))
    for panel, chip in zip(axes, chips, strict=True):
        x = wavelength[chip]
        panel.fill_between(x, -std[chip], std[chip], color="#c6dcec", linewidth=0)
        panel.plot(x, mean[chip], color=COLOURS[0], linewidth=0.9)
        panel.set(ylim=(-top, top), xlim=(x[0], x[-1]), ylabel="flux - model")
        _mark_windows(panel, windows, (float(x[0]), float(x[-1])), top)
        other = panel.twinx()
        for colour, (name, pull) in zip((COLOURS[1], "#888888"), pulls.items(), strict=False):
            other.plot(x, _smooth(pull[chip]), color=colour, linewidth=1.0, label=name)
        other.set(ylim=(0, reach), ylabel="deviation of pulls")
        other.grid(visible=False)
        other.axhline(1, color="black", linewidth=0.6, linestyle=":")
        panel.set_zorder(-1)
    axes[0].set_title(
        "Held-out residuals: mean and deviation of the model (blue), "
        f"deviation of pulls over {SMOOTHING} pixels (right scale)"
    )
    other.legend(loc="lower right", ncols=2)
    axes[-1].set_xlabel("vacuum wavelength [Å]")
    return figure


def example_figure(spectra: Mapping[str, Array], names: Sequence[str], wavelength: Array) -> Figure:
    """Return flux, reconstruction and pulls of a few stars, masked pixels shaded.

    Args:
        spectra: With `reconstruction`.
        names: Titles of the stars.
        wavelength: In A, shape (P,).
    """
    figure, axes = new_figure(2 * len(names), 1, panel=(11.0, 1.75))
    grid = axes[0].get_subplotspec()
    assert grid is not None
    grid.get_gridspec().set_height_ratios([2, 1] * len(names))
    shown = in_windows(wavelength, [ZOOM])
    shown = shown if shown.sum() > 20 else np.arange(len(wavelength)) < 400
    x = wavelength[shown]
    for row, name in enumerate(names):
        top, bottom = axes[2 * row], axes[2 * row + 1]
        good = spectra["good"][row, shown]
        flux = np.where(good, spectra["flux"][row, shown], np.nan)
        model = spectra["reconstruction"][row, shown]
        error = np.where(good, spectra["flux_ivar"][row, shown], 1) ** -0.5
        top.errorbar(
            x, flux, np.where(good, error, np.nan), color="#888888", ecolor="#cccccc",
            elinewidth=0.8, linewidth=0, marker=".", markersize=4, label="observed",
        )  # fmt: skip
        top.plot(x, model, color=COLOURS[0], linewidth=1.3, label="model")
        bottom.plot(x, (flux - model) / error, color=COLOURS[0], linewidth=0.9)
        bottom.axhspan(-1, 1, color="#eeeeee", linewidth=0)
        for panel in (top, bottom):
            _shade(panel, x, ~good)
            panel.set_xlim(x[0], x[-1])
        # Not from the errors: those of a pixel just short of bad would flatten all others.
        low, high = np.nanmin([flux, model]), np.nanmax([flux, model])
        top.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
        top.set_title(name)
        top.set(ylabel="flux / continuum", xticklabels=[])
        bottom.set(ylabel="pull", ylim=(-5, 5))
    axes[-1].set_xlabel("vacuum wavelength [Å]; masked pixels are shaded")
    axes[0].legend(loc="lower right", ncols=2)
    return figure


def chi2_figure(subjects: Sequence[Predictions], colours: Mapping[str, str]) -> Figure:
    """Return the distribution of chi^2 per good pixel over stars, and its map by wavelength.

    Args:
        subjects: The model first.
        colours: Of the subjects.
    """
    figure, (left, right) = new_figure(1, 2, panel=(5.4, 3.8))
    values = {one.subject: star_chi2(one.scores) for one in subjects}
    finite = np.concatenate([v[np.isfinite(v)] for v in values.values()])
    low, high = np.quantile(finite, [0.002, 0.985]) if len(finite) else (0.5, 2.0)
    bins = np.geomspace(max(low, 1e-2) * 0.97, high * 1.03, 60).tolist()
    for name, own in values.items():
        colour = colours[name]
        label = f"{name} ({np.nanmedian(own):.3f})"
        left.hist(own, bins, histtype="step", linewidth=1.6, color=colour, label=label)
    left.set(xlabel=r"$\chi^2$ per good pixel", ylabel="held-out stars", xscale="log")
    ticks = nice_ticks(bins[0], bins[-1])
    left.set_xticks(ticks, [f"{t:g}" for t in ticks])
    left.set_xticks([], minor=True)
    left.legend(title="subject (median)", fontsize=8)
    for one in subjects:
        pixels = one.pixels
        with np.errstate(invalid="ignore", divide="ignore"):
            chi2 = np.sort(pixels["pull_squared"] / pixels["count"])
        chi2 = chi2[np.isfinite(chi2)]
        share = np.arange(1, len(chi2) + 1) / len(chi2)
        right.plot(share, chi2, color=colours[one.subject])
    right.set(xlabel="share of pixels", ylabel=r"mean $\chi^2$ of a pixel at most", yscale="log")
    top = max(2.0, float(high) * 2)
    right.set(ylim=(0.7, top), xlim=(0, 1))
    marks = nice_ticks(0.7, top)
    right.set_yticks(marks, [f"{t:g}" for t in marks])
    right.set_yticks([], minor=True)
    left.set_title("Stars")
    right.set_title("Pixels")
    return figure


def nice_ticks(low: float, high: float) -> list[float]:
    """Return ticks of a logarithmic axis, more in a decade if there are few decades."""
    steps = (1, 1.5, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 300 * low else (1,)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def recovery_figure(report: Report, metric: str = "r2_ridge") -> Figure | None:
    """Return R^2 of labels from latents and of abundances from latents and labels.

    Args:
        report: Filled.
        metric: Which regression.
    """
    rows = [row for row in report.rows if row.metric == metric]
    panels: list[tuple[str, dict[str, dict[str, float]]]] = []
    for inputs, title in (
        ("latents", "Told from the latents alone (of the labels, the less the better)"),
        ("latents+labels", "Told from latents and labels"),
    ):
        found: dict[str, dict[str, float]] = {}
        for row in rows:
            target, own = (part.partition("=")[2] for part in row.slice.split("/"))
            if own == inputs or (own == "labels" and inputs == "latents+labels"):
                found.setdefault(row.subject, {})[target] = row.value
        if found:
            panels.append((title, found))
    if not panels:
        return None
    width = max(6.0, 0.62 * max(len(next(iter(found.values()))) for _, found in panels))
    figure, axes = new_figure(len(panels), 1, panel=(width, 3.1))
    for panel, (title, found) in zip(axes, panels, strict=True):
        _draw_bars(panel, found, subject_colours(report))
        panel.set(title=title, ylabel=r"$R^2$, " + metric.removeprefix("r2_"))
    pairs = [pair for a in axes for pair in zip(*a.get_legend_handles_labels(), strict=True)]
    handles = {str(text): handle for handle, text in pairs}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3)
    return figure


def _draw_bars(
    panel: Axes, found: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]
) -> None:
    """Draw grouped bars: a group a target, a bar a subject."""
    targets = list(dict.fromkeys(target for own in found.values() for target in own))
    width = 0.8 / len(found)
    for place, (subject, own) in enumerate(found.items()):
        x = np.arange(len(targets)) - 0.4 + (place + 0.5) * width
        heights = [max(own.get(target, np.nan), 0.0) for target in targets]
        panel.bar(x, heights, width, color=colours[subject], label=subject)
    panel.set_xticks(
        range(len(targets)), [target_name(t) for t in targets], rotation=40, ha="right"
    )
    panel.set(ylim=(0, 1.02), xlim=(-0.6, len(targets) - 0.4))
    panel.grid(visible=False, axis="x")


def _mark_windows(panel: Axes, windows: Windows, limits: tuple[float, float], top: float) -> None:
    """Draw the windows of elements as bars below the top, with names where there is room."""
    last = -np.inf
    spans = sorted(
        (low, high, element, number)
        for number, (element, own) in enumerate(windows.items())
        for low, high in own
        if high > limits[0] and low < limits[1]
    )
    gap = (limits[1] - limits[0]) / 75
    for low, high, element, number in spans:
        colour = WINDOW_COLOURS[number % len(WINDOW_COLOURS)]
        panel.plot([low, high], [0.8 * top] * 2, color=colour, linewidth=4, solid_capstyle="butt")
        if low - last > gap:
            panel.text(low, 0.84 * top, element, fontsize=6.5, color=colour)
            last = low


def _shade(panel: Axes, x: Array, bad: Array) -> None:
    """Shade runs of masked pixels."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], bad, [False]]).astype(int)))
    half = float(np.median(np.diff(x))) / 2
    for first, end in edges.reshape(-1, 2):
        panel.axvspan(x[first] - half, x[end - 1] + half, color=MASKED, linewidth=0)


def _smooth(values: Array) -> Array:
    """Return a running mean; pixels without stars count as 1."""
    return np.asarray(uniform_filter1d(np.nan_to_num(values, nan=1.0), SMOOTHING))
