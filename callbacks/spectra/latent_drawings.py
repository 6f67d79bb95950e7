"""The drawings of latents: corner plots with groups and tracks, correlations, KL, traversals."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from callbacks.report.bootstrap import subsample
from callbacks.report.figures import COLOURS, new_figure
from callbacks.report.plots import heatmap
from callbacks.spectra.drawings import target_name
from callbacks.spectra.latents import INFORMED, latent_names
from callbacks.spectra.predictions import Predictions

Array = NDArray[Any]
Columns = Mapping[str, Array]
GROUP_COLOURS = ("#009e73", "#e69f00", "#d55e00")
CORNER_DIMS = 5
MAX_POINTS = 3000
TRACK_STARS, MIN_TRACK_STARS = 50, 5
TRAVERSED, STEPS = 6, (-2, -1, 1, 2)
EDGES: dict[str, tuple[float, float]] = {
    "teff": (4000, 5500),
    "logg": (2.0, 3.5),
    "fe_h": (-0.25, 0.0),
    "snr": (100, 200),
    "o_fe": (0.0, 0.05),
}
"""Column to the edges of its three groups; thirds of the stars if one group has nearly all."""

TRACKS: dict[str, tuple[tuple[float, ...], dict[str, tuple[float, float]]]] = {
    "teff": ((4700, 4800, 4900, 5000, 5100, 5200), {"logg": (3.0, 3.1)}),
    "logg": ((3.0, 3.1, 3.2, 3.3, 3.4, 3.5), {"teff": (4800, 5000)}),
    "fe_h": ((-0.5, -0.4, -0.3, -0.2, -0.1, 0.0), {}),
    "snr": ((50, 100, 150, 200, 300, 1e9), {}),
    "o_fe": ((-0.05, 0.0, 0.05, 0.1, 0.15, 0.2), {"fe_h": (-0.25, 0.25)}),
}
"""Column to edges of its five successive bins, and what else is held."""


def corner_figures(model: Predictions, catalogue: Columns, seed: int) -> dict[str, Figure]:
    """Return corner plots of the most informed latents, one for each way to group the stars.

    Args:
        model: With latents.
        catalogue: Columns of the held-out stars.
        seed: Fixes the stars shown.
    """
    assert model.latent is not None
    dims = np.argsort(-model.kl)[:CORNER_DIMS]
    figures = {}
    for name in EDGES:
        values = np.asarray(catalogue.get(name, catalogue.get(f"true_{name}", ())), np.float64)
        if np.isfinite(values).sum() >= 30:
            groups, labels = make_groups(values, EDGES[name], target_name(name))
            track = make_track(model.latent, catalogue, name)
            rows = subsample(len(values), MAX_POINTS, seed)
            title = f"Latents by {target_name(name)}"
            figures[f"corner_{name}"] = corner_figure(
                model.latent[:, dims][rows], groups[rows], labels, dims, track[:, dims], title
            )
    return figures


def make_groups(values: Array, edges: tuple[float, float], name: str) -> tuple[Array, list[str]]:
    """Return the group of each star (-1 unknown) and the names of the groups, low to high.

    Args:
        values: Shape (n,), NaN where unknown.
        edges: Of the middle group.
        name: Of the quantity.
    """
    known = values[np.isfinite(values)]
    shares = np.bincount(np.digitize(known, edges), minlength=3) / max(len(known), 1)
    if shares.max() > 0.95:
        low, high = np.quantile(known, [1 / 3, 2 / 3])
        edges = float(low), float(high)
    groups = np.where(np.isfinite(values), np.digitize(np.nan_to_num(values), edges), -1)
    first, second = (f"{edge:.4g}" for edge in edges)
    return groups, [f"{name} < {first}", f"{first} to {second}", f"{name} > {second}"]


def make_track(latent: Array, catalogue: Columns, name: str) -> Array:
    """Return the mean latent of up to 50 stars in each of five successive bins, (5, D).

    NaN where a bin has fewer than five stars.
    """
    edges, held = TRACKS[name]
    allowed = np.ones(len(latent), dtype=bool)
    for other, (low, high) in held.items():
        values = np.asarray(catalogue.get(other, np.full(len(latent), np.nan)))
        allowed &= (values >= low) & (values < high)
    own = np.asarray(catalogue.get(name, catalogue.get(f"true_{name}")))
    track = np.full((len(edges) - 1, latent.shape[1]), np.nan)
    for number, (low, high) in enumerate(pairwise(edges)):
        stars = np.flatnonzero(allowed & (own >= low) & (own < high))[:TRACK_STARS]
        if len(stars) >= MIN_TRACK_STARS:
            track[number] = latent[stars].mean(0)
    return track


def corner_figure(
    points: Array, groups: Array, labels: Sequence[str], dims: Array, track: Array, title: str
) -> Figure:
    """Return a corner plot with coloured groups and a numbered track.

    Args:
        points: Latents shown, shape (n, d).
        groups: Of each star, -1 unknown.
        labels: Names of the groups.
        dims: Numbers of the latents.
        track: Means in successive bins, shape (5, d).
        title: Of the figure.
    """
    size = points.shape[1]
    figure, axes = new_figure(size, size, panel=(1.85, 1.85))
    reach = float(np.clip(np.quantile(np.abs(points), 0.997) * 1.1, 1.0, 6.0))
    colours = np.array(["#cccccc", *GROUP_COLOURS])[groups + 1]
    order = np.random.default_rng(0).permutation(len(points))
    for place, panel in enumerate(axes):
        row, column = divmod(place, size)
        if column > row:
            panel.remove()
            continue
        panel.set(xlim=(-reach, reach), xlabel=f"z{dims[column]:02d}")
        if row == column:
            _draw_groups(panel, points[:, row], groups, labels)
        else:
            x, y = points[order, column], points[order, row]
            panel.scatter(x, y, s=2.5, c=colours[order], linewidths=0, alpha=0.6, rasterized=True)
            panel.set(ylim=(-reach, reach), ylabel=f"z{dims[row]:02d}")
            _draw_track(panel, track[:, column], track[:, row])
        panel.grid(visible=False)
        panel.label_outer()
    text = "numbered: means in five bins" if np.isfinite(track).all(1).any() else ""
    figure.legend(*axes[0].get_legend_handles_labels(), title=text, loc="upper right", fontsize=12)
    figure.suptitle(title, fontweight="bold")
    return figure


def correlation_figure(matrices: Mapping[str, Array], names: Sequence[str]) -> Figure:
    """Return the correlations of latents and labels of several subjects side by side.

    Args:
        matrices: Name to the correlations of its latents and then the labels.
        names: Of the labels; without any only the latents are shown.
    """
    heights, count = (4, 1.1) if names else (4,), len(matrices)
    figure, axes = new_figure(len(heights), count, (4.0, sum(heights) / len(heights)), heights)
    texts = list(map(target_name, names))
    for place, (title, matrix) in enumerate(matrices.items()):
        size = len(matrix) - len(names)
        top = axes[place]
        whole = heatmap(top, matrix, "RdBu_r", (-1, 1))
        ticks = [*range(0, size, 5), *range(size, size + len(names))]
        shown = [*latent_names(size)[::5], *texts]
        top.set_xticks(ticks, shown, rotation=90, fontsize=7)
        top.set_yticks(ticks, shown, fontsize=7)
        top.set_title(title)
        if names:
            part = _draw_block(axes[place + count], matrix[size:, :size], texts)
    figure.colorbar(whole, ax=axes[:count], shrink=0.8, label="correlation")
    if names:
        figure.colorbar(part, ax=axes[count:], label="correlation")
    return figure


def _draw_block(panel: Axes, block: Array, names: Sequence[str]) -> AxesImage:
    """Draw the correlations of labels with latents in the reference's range of +-0.2."""
    image = heatmap(panel, block, "RdBu_r", (-0.2, 0.2), aspect="auto")
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.set_xticks(range(0, block.shape[1], 5), latent_names(block.shape[1])[::5], fontsize=7)
    panel.set_title(f"labels: max |r| = {np.abs(block).max(initial=0):.3f}", fontsize=9)
    return image


def kl_figure(model: Predictions, texts: Sequence[str]) -> Figure:
    """Return the KL of each dimension, the most informed first, and what it goes with.

    Args:
        model: With KL.
        texts: Meaning of each latent; empty if not known.
    """
    order = np.argsort(-model.kl)
    figure, (panel,) = new_figure(1, 1, panel=(max(6.0, 0.3 * len(order) + 1), 4.0))
    heights = model.kl[order]
    colours = np.where(heights > INFORMED, COLOURS[0], "#b4b4b4")
    panel.bar(range(len(order)), heights, color=colours)
    panel.set_xticks(range(len(order)), [f"z{d:02d}" for d in order], rotation=90, fontsize=7)
    panel.axhline(INFORMED, color="#888888", linestyle=":", linewidth=1)
    panel.set(ylabel="mean KL to the prior [nat]", xlim=(-0.7, len(order) - 0.3))
    panel.set_title(f"KL of each latent: {heights.sum():.1f} nat in all")
    for place, d in enumerate(order):
        if texts:
            height = heights[place] + 0.01 * heights.max()
            panel.text(place, height, texts[d], rotation=90, ha="center", va="bottom", fontsize=6.5)
    panel.set_ylim(0, heights.max() * (1.45 if texts else 1.08))
    panel.grid(visible=False, axis="x")
    return figure


def traversal_figure(
    module: Any, model: Predictions, label: Array, wavelength: Array, texts: Sequence[str]
) -> Figure:
    """Return what the decoded flux does along each of the most informed latents.

    Args:
        module: Decodes.
        model: With latents.
        label: Of the held-out stars; their medians are held.
        wavelength: In A, shape (P,).
        texts: Meaning of each latent; empty if not known.
    """
    assert model.latent is not None
    dims = np.argsort(-model.kl)[:TRAVERSED]
    figure, axes = new_figure(len(dims), 1, panel=(11.0, 1.45))
    gaps = np.flatnonzero(np.diff(wavelength) > 5) + 1
    x = np.insert(wavelength, gaps, np.nan)
    shades = colormaps["coolwarm"](np.linspace(0, 1, len(STEPS)))
    for panel, d, own in zip(axes, dims, changes(module, model.latent, label, dims), strict=True):
        for step, shade, values in zip(STEPS, shades, own, strict=True):
            y, text = np.insert(values, gaps, np.nan), f"{step:+.0f} deviations"
            panel.plot(x, y, color=shade, linewidth=0.6, label=text)
        reach = float(np.abs(own).max()) * 1.1 or 1.0
        panel.set(ylim=(-reach, reach), xlim=(wavelength[0], wavelength[-1]), ylabel="Δ flux")
        title = f"z{d:02d}, KL {model.kl[d]:.2f} nat" + (f", {texts[d]}" if texts else "")
        panel.set_title(title, fontsize=9, loc="left")
        panel.label_outer()
    axes[-1].set_xlabel("vacuum wavelength [Å]")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
    return figure


def changes(module: Any, latent: Array, label: Array, dims: Array) -> Array:
    """Return by how much the flux changes along some latents, shape (dims, steps, P).

    Args:
        module: Decodes.
        latent: Of stars, shape (n, D); their mean is left by `STEPS` of their deviations.
        label: Of the same stars, shape (n, L); their medians are held.
        dims: Which latents.
    """
    moved = np.multiply.outer(latent.std(0) * np.eye(latent.shape[1])[dims], [0, *STEPS])
    points = (latent.mean(0)[:, None] + moved).swapaxes(1, 2).reshape(-1, latent.shape[1])
    known = [column[np.isfinite(column)] for column in label.T]
    middle = np.array([np.median(own) if len(own) else np.nan for own in known])
    both = points, np.tile(middle, (len(points), 1))
    with torch.inference_mode():
        flux = module.decode(*(torch.from_numpy(x).float().to(module.device) for x in both))
    flux = flux.float().cpu().numpy().reshape(len(dims), 1 + len(STEPS), -1)
    return np.asarray(flux[:, 1:] - flux[:, :1])


def _draw_groups(panel: Axes, values: Array, groups: Array, labels: Sequence[str]) -> None:
    """Draw the distribution of each group over the width of a panel."""
    low, high = panel.get_xlim()
    bins = np.linspace(low, high, 31).tolist()
    for number, (colour, label) in enumerate(zip(GROUP_COLOURS, labels, strict=True)):
        own = values[groups == number]
        share = np.full(len(own), 1 / max(len(own), 1))
        panel.hist(own, bins, weights=share, histtype="step", color=colour, label=label)
    panel.set_yticks([])


def _draw_track(panel: Any, x: Array, y: Array) -> None:
    """Draw numbered points joined by a line."""
    known = np.isfinite(x)
    panel.plot(x[known], y[known], color="black", linewidth=0.9)
    for number in np.flatnonzero(known):
        panel.plot(x[number], y[number], "o", color="white", markeredgecolor="black", markersize=8)
        panel.text(x[number], y[number], str(number + 1), fontsize=6, ha="center", va="center")
