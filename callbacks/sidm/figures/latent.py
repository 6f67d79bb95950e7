"""Figures of the latent: the path of known simulations, components, corner, what it goes with."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA

from callbacks.metrics.disentanglement import correlations
from callbacks.report.figures import new_figure
from callbacks.report.plots import heatmap
from callbacks.sidm.figures.look import Findings, cross_section_axis, label_of, shown
from callbacks.sidm.path import Path
from callbacks.sidm.populations import Array, Population
from callbacks.sidm.subjects import Measured

MAX_DIMS = 8
NUM_BINS = 40
CONTENT = 0.68
"""Share of a population's maps within its contour."""
LEFT_OUT = ("index", "halo", "projection", "cross_section")
"""Columns of the catalogue that are no physical parameters, or shown as the coordinate u."""


def path_figure(measured: Measured, colours: Mapping[str, str]) -> Figure:
    """Return the path of the known simulations and where populations fall on it, of one member.

    Left, its first discriminants in the plane with the means of populations; then each against
    σ/m: the path with its error, and populations at their median with both errors.

    Args:
        measured: What the model says.
        colours: Of populations.
    """
    path = measured.model.paths[0]
    count = min(2, path.means.shape[1])
    figure, axes = new_figure(1, 1 + count if count > 1 else 1, panel=(4.6, 4.2))
    if count > 1:
        _draw_plane(axes[0], measured, path, colours)
    for number, panel in enumerate(axes[-count:]):
        _draw_component(panel, measured, path, number, colours)
    handles, names = axes[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5)
    return figure


def _draw_plane(panel: Axes, measured: Measured, path: Path, colours: Mapping[str, str]) -> None:
    """Draw the path in the plane of the first two discriminants."""
    step = max(1, len(path.mean) // 60)
    pairs = zip(path.mean[::step], path.error[::step], strict=True)
    discs = [Ellipse(tuple(m[:2]), *(2 * e[:2])) for m, e in pairs]
    panel.add_collection(PatchCollection(discs, facecolor="#d9d9d9", linewidth=0))
    panel.plot(*path.mean[:, :2].T, color="#888888", linewidth=1.2)
    for limits, which in zip(_path_limits(path), ("x", "y"), strict=False):
        panel.set(**{f"{which}lim": limits})
    for one, known in _known_and_shown(measured):
        found = path.mean_of(one.member(0))
        mean, variance = found.mean, found.covariance(found)
        errors = np.sqrt(variance[:2])[:, None]
        _mark(panel, mean[:2], errors, colours[one.name], known)
    panel.set(xlabel="discriminant 1", ylabel="discriminant 2", title="Path of known simulations")


def _draw_component(
    panel: Axes, measured: Measured, path: Path, number: int, colours: Mapping[str, str]
) -> None:
    """Draw one discriminant of the path, and of populations, against σ/m."""
    coordinate = measured.model.coordinate
    middle, error = path.mean[:, number], path.error[:, number]
    panel.fill_between(coordinate.grid, middle - error, middle + error, color="#d9d9d9")
    panel.plot(coordinate.grid, middle, color="#888888", linewidth=1.2)
    panel.set(ylim=_path_limits(path)[number])
    cross_section_axis(panel, coordinate, "x")
    for one, known in _known_and_shown(measured):
        found = path.mean_of(one.member(0))
        mean, variance = found.mean, found.covariance(found)
        value = one.cross_section if known else measured.posteriors[one.name].median
        ends = [value] * 2 if known else measured.intervals[one.name][0.68]
        u, (low, high) = float(coordinate.of(value)), coordinate.of(np.array(ends))
        arms = np.maximum([u - low, high - u], 0)
        errors = np.stack([arms, np.full(2, np.sqrt(variance[number]))])
        at = np.array([u, mean[number]])
        _mark(panel, at, errors, colours[one.name], known, label_of(one, measured))
    panel.set(ylabel=f"discriminant {number + 1}")
    panel.set_title("Known ●, measured ◆ (◇ beyond the panel)", fontsize=9)


def _path_limits(path: Path) -> list[tuple[float, float]]:
    """Return limits of each discriminant that hold the path with a margin."""
    low, high = path.mean.min(0), path.mean.max(0)
    margin = 0.35 * (high - low) + 0.1
    return list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))


def _mark(
    panel: Axes, at: Array, errors: Array, colour: str, known: bool, label: str | None = None
) -> None:
    """Draw a population with its errors, (2, 1 or 2), hollow at the edge if beyond the limits."""
    box = np.array([panel.get_xlim(), panel.get_ylim()])
    margin = 0.02 * np.ptp(box, axis=1)
    x, y = np.clip(at, box[:, 0] + margin, box[:, 1] - margin)
    beyond = (x, y) != tuple(at)
    bars = {} if beyond else {"xerr": errors[0][:, None], "yerr": errors[1][:, None]}
    bars = {name: np.broadcast_to(bar, (2, 1)) for name, bar in bars.items()}
    panel.errorbar(
        x, y, **bars, fmt="o" if known else "D", color=colour, label=label, markersize=5,
        markerfacecolor="white" if beyond else colour,
    )  # fmt: skip


def _known_and_shown(measured: Measured) -> list[tuple[Population, bool]]:
    """Return the known populations and the measured ones that are shown, and whether known."""
    known = [(one, True) for one in measured.populations.known]
    return known + [(one, False) for one in shown(measured)]


def component_figure(measured: Measured, colours: Mapping[str, str]) -> Figure:
    """Return the principal components of the first member's latent, a contour a population.

    Args:
        measured: What the model says.
        colours: Of populations.
    """
    pairs = _known_and_shown(measured)
    known = np.concatenate([one.latent[:, 0] for one, is_known in pairs if is_known])
    pca = PCA(min(4, known.shape[1])).fit(known)
    planes = max(1, (pca.n_components_ + 1) // 2)
    figure, axes = new_figure(1, planes, panel=(4.8, 4.4))
    for panel, first in zip(axes, range(0, 2 * planes, 2), strict=True):
        columns = [first, min(first + 1, pca.n_components_ - 1)]
        limits = _limits(pca.transform(known)[:, columns])
        for one, is_known in pairs:
            points = pca.transform(one.latent[:, 0])[:, columns]
            panel.scatter(
                points[:, 0], points[:, 1], s=4, c=colours[one.name], linewidths=0, alpha=0.35
            )
            draw_contour(panel, points, limits, colours[one.name], "-" if is_known else "--")
            panel.plot([], [], color=colours[one.name], label=label_of(one, measured),
                       linestyle="-" if is_known else "--")  # fmt: skip
        panel.set(xlim=limits[0], ylim=limits[1])
        names = [f"component {c + 1} ({pca.explained_variance_ratio_[c]:.0%})" for c in columns]
        panel.set(xlabel=names[0], ylabel=names[1])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.suptitle("Latent: contours hold 68 % of the maps", fontweight="bold")
    return figure


def corner_figure(measured: Measured, colours: Mapping[str, str]) -> Figure:
    """Return all pairs of latents: maps of known simulations, contours of each, histograms.

    Args:
        measured: What the model says.
        colours: Of populations.
    """
    known = measured.populations.known
    size = min(MAX_DIMS, known[0].latent.shape[2])
    figure, axes = new_figure(size, size, panel=(1.7, 1.7))
    whole = np.concatenate([one.latent[:, 0, :size] for one in known])
    limits = _limits(whole)
    for (row, column), panel in zip(product(range(size), repeat=2), axes, strict=True):
        if column > row:
            panel.remove()
            continue
        x, y = limits[column], limits[row]
        if row != column:
            pair = whole[:, column], whole[:, row]
            panel.hist2d(pair[0], pair[1], bins=NUM_BINS, range=[x, y], cmap="Greys")
            panel.set(ylim=y)
        for one in known:
            values, colour = one.latent[:, 0], colours[one.name]
            if row == column:
                share = np.full(len(values), 1 / len(values))
                bins = np.linspace(*x, 26).tolist()
                panel.hist(values[:, row], bins, weights=share, histtype="step", color=colour,
                           label=one.name)  # fmt: skip
                panel.set_yticks([])
            else:
                draw_contour(panel, values[:, [column, row]], (x, y), colour, "-")
        panel.set(xlim=x, xlabel=f"z{column}", ylabel=f"z{row}" if column < row else "")
        panel.grid(visible=False)
        panel.label_outer()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="upper right", fontsize=11)
    figure.suptitle("Latent of known simulations, contours 68 %", fontweight="bold")
    return figure


def draw_contour(
    panel: Axes,
    points: Array,
    limits: Sequence[tuple[float, float]],
    colour: str,
    linestyle: str,
) -> None:
    """Draw the contour that holds 68 % of points; none if fewer are within the limits.

    Args:
        panel: Where to draw.
        points: Shape (n, 2).
        limits: Of both axes, on which the density is taken.
        colour: Of the line.
        linestyle: Of the line.
    """
    counts, edges = np.histogramdd(points, bins=NUM_BINS, range=limits)
    density = np.pad(gaussian_filter(counts, 2.0), 1)  # 0 beyond the limits
    cell = [np.searchsorted(e, x) for e, x in zip(edges, points.T, strict=True)]
    level = np.quantile(density[tuple(cell)], 1 - CONTENT)
    if not level > 0:
        return
    middles = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    panel.contour(
        *middles, density[1:-1, 1:-1].T, [level], colors=colour, linestyles=linestyle,
        linewidths=1.5,
    )  # fmt: skip


def parameter_figure(findings: Findings) -> Figure | None:
    """Return correlations of latents with what the catalogue knows of known, held-out maps.

    Args:
        findings: Of the report.

    Returns:
        None if nothing in the catalogue varies.
    """
    run, coordinate = findings.run, findings.model.model.coordinate
    known = [n for n, role in run.datamodule.roles.items() if role == "known"]
    codes = [run.datamodule.simulations.index(name) for name in known]
    rows = np.flatnonzero(findings.held_out & np.isin(run.rows["simulation"], codes))
    table = run.catalogue(rows)
    columns = {r"$\sigma/m$": coordinate.of(run.rows["true_label"][rows])}
    for name in table.colnames[1:]:
        if name not in LEFT_OUT and table[name].dtype.kind in "fiub":
            columns[name.replace("_", " ")] = np.asarray(table[name], np.float64)
    values = {n: x for n, x in columns.items() if np.isfinite(x).all() and np.ptp(x) > 0}
    if not values:
        return None
    latent = run.rows["latent"][rows]
    latent = latent.reshape(len(rows), -1)[:, : findings.model.populations.known[0].latent.shape[2]]
    matrix = correlations(latent, np.stack(list(values.values()), 1))
    figure, (panel,) = new_figure(panel=(1.6 + 0.75 * len(values), 1.6 + 0.42 * len(matrix)))
    image = heatmap(panel, matrix, "RdBu_r", (-1, 1), aspect="auto")
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if abs(value) > 0.6 else "black"
        panel.text(column, row, f"{value:+.2f}", ha="center", va="center", color=colour, fontsize=8)
    panel.set_xticks(range(len(values)), list(values), rotation=35, ha="right")
    panel.set_yticks(range(len(matrix)), [f"z{k}" for k in range(len(matrix))])
    panel.set_title(f"Correlation with latents, {len(rows)} known maps", fontsize=10)
    figure.colorbar(image, ax=panel, label="Pearson r")
    return figure


def _limits(points: Array) -> list[tuple[float, float]]:
    """Return limits of each column that hold nearly all points, with a margin."""
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    margin = 0.2 * (high - low) + 1e-6
    return list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))
