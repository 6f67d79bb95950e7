"""The drawings of the report of spectra: residuals, examples, chi^2, recovery."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from callbacks.metrics.ranking import divide
from callbacks.report.figures import COLOURS, new_figure
from callbacks.report.plots import GREY, logarithmic, side_by_side, subject_colours
from callbacks.report.table import Report, Row
from callbacks.spectra.fidelity import in_windows, star_chi2
from callbacks.spectra.predictions import Predictions

Array = NDArray[Any]
Windows = Mapping[str, Sequence[tuple[float, float]]]
MASKED = "#f6c7d4"
WINDOW_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#0072b2")
SMOOTHING = 15
COMPARED = "baseline/labels_pca"
ZOOM = (15720.0, 15800.0)
"""Wavelengths in A of the examples: Fe I, Mg I, Ti I, V I lines."""


def target_name(target: str) -> str:
    """Return a target as astronomers write it."""
    true, plain = target.startswith("true_"), target.removeprefix("true_")
    names = {"teff": "Teff", "logg": "log g", "fe_h": "[Fe/H]", "alpha_m": r"[$\alpha$/M]"}
    names |= {"rv": "radial velocity", "snr": "S/N", "vmacro": "macroturbulence", "lsf": "LSF"}
    text = names.get(plain, plain.replace("_", " ").replace("dib", "DIB"))
    if plain.endswith("_fe") and plain not in names:
        text = f"[{plain.removesuffix('_fe').capitalize()}/Fe]"
    return f"true {text}" if true and plain in ("teff", "logg", "fe_h") else text


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
        for colour, (name, pull) in zip((COLOURS[1], GREY), pulls.items(), strict=False):
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
    figure, axes = new_figure(2 * len(names), 1, (11.0, 1.75), heights=[2, 1] * len(names))
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
            x, flux, np.where(good, error, np.nan), color=GREY, ecolor="#cccccc",
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
        margin = 0.1 * (high - low)
        top.set(title=name, ylabel="flux / continuum", xticklabels=[])
        top.set_ylim(low - margin, high + margin)
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
    left.set(xlabel=r"$\chi^2$ per good pixel", ylabel="held-out stars", title="Stars")
    logarithmic(left, "x")
    left.legend(title="subject (median)", fontsize=8)
    for one in subjects:
        chi2 = np.sort(divide(one.pixels["pull_squared"], one.pixels["count"]))
        chi2 = chi2[np.isfinite(chi2)]
        share = np.arange(1, len(chi2) + 1) / len(chi2)
        right.plot(share, chi2, color=colours[one.subject])
    right.set(xlabel="share of pixels", ylabel=r"mean $\chi^2$ of a pixel at most", title="Pixels")
    logarithmic(right, "y")
    right.set(ylim=(0.7, max(2.0, float(high) * 2)), xlim=(0, 1))
    return figure


def recovery_figure(report: Report, metric: str = "r2_ridge") -> Figure | None:
    """Return R^2 of labels from latents and of abundances from latents and labels, if there is any.

    Values below 0 tell nothing; those below -0.05 are out of view.

    Args:
        report: Filled.
        metric: Which regression.
    """
    panels: dict[str, list[Row]] = {}
    for title, inputs in (
        ("Told from the latents alone (of the labels, the less the better)", ["latents"]),
        ("Told from latents and labels", ["labels", "latents+labels"]),
    ):
        rows = report.rows_of(metric)
        panels[title] = [row for row in rows if row.slice.rpartition("=")[2] in inputs]
    panels = {title: rows for title, rows in panels.items() if rows}
    if not panels:
        return None
    figure, axes = new_figure(len(panels), 1, panel=(10.0, 3.1))
    for panel, (title, rows) in zip(axes, panels.items(), strict=True):
        targets = list(dict.fromkeys(_target(row) for row in rows))
        places = {row.slice: float(targets.index(_target(row))) for row in rows}
        side_by_side(panel, rows, places, subject_colours(report), width=0.6, fmt="o")
        names = [target_name(target) for target in targets]
        panel.set_xticks(range(len(targets)), names, rotation=40, ha="right")
        panel.set(title=title, ylabel=r"$R^2$, " + metric.removeprefix("r2_"))
        panel.set(ylim=(-0.05, 1.03), xlim=(-0.6, len(targets) - 0.4))
    pairs = [pair for a in axes for pair in zip(*a.get_legend_handles_labels(), strict=True)]
    handles = {str(text): handle for handle, text in pairs}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3)
    return figure


def _target(row: Row) -> str:
    """Return what a row of `add_recovery` is about."""
    return row.slice.partition("/")[0].partition("=")[2]


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
