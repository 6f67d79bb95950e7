"""Clusters side by side: sky, proper motions with the model's contours, colours and magnitudes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from callbacks.clustering.figures.charts import blend, draw_stars
from callbacks.clustering.sample import StarSample
from callbacks.clustering.structure import Cluster
from callbacks.report.bootstrap import subsample
from callbacks.report.figures import new_figure

Array = NDArray[Any]
SHARES = (0.9, 0.5)
"""Shares of the members that the contours of the proper motions enclose."""
CELLS = 90
"""Of a side of the grid on which the contours are found."""
ARCMIN = 60.0
BOXED: Any = {"frameon": True, "framealpha": 0.85, "edgecolor": "none", "fontsize": 8}
"""Style of a legend over stars."""


@dataclass(frozen=True)
class Drawn:
    """A cluster as figures show it.

    Args:
        cluster: Where it is, how it moves, who is in it.
        name: Its title.
        number: Of its colour.
    """

    cluster: Cluster
    name: str
    number: int

    def stars(self, axis: Axes, points: Array) -> None:
        """Draw stars in shades of their probability to be in this cluster, points of (n, 2)."""
        numbers = np.full(len(points), self.number)
        draw_stars(axis, points, numbers, self.cluster.probability)


def cluster_figure(drawn: Sequence[Drawn], sample: StarSample, covariance: Array) -> Figure:
    """Return a column of charts for each cluster, a row if there is but one.

    Args:
        drawn: The clusters, at least one.
        sample: The stars, with their astrometry.
        covariance: Of the proper motions [mas²/yr²], entries xx, xy, yy, shape (n, 3).
    """
    assert sample.astrometry is not None
    photometry = [x for x in (sample.colour, sample.magnitude) if x is not None]
    diagram = np.stack(photometry, 1) if len(photometry) == 2 else np.zeros((0, 2))
    rows = 3 if np.isfinite(diagram).all(1).any() else 2
    shape = (rows, len(drawn)) if len(drawn) > 1 else (1, rows)
    figure, axes = new_figure(*shape, panel=(4.2, 4.0))
    place, motion = sample.astrometry[:, :2], sample.astrometry[:, 3:]
    for column, one in enumerate(drawn):
        sky_chart(axes[column], one, place)
        total = covariance + one.cluster.motion_scatter(place)
        motion_chart(axes[len(drawn) + column], one, motion, total)
        if rows == 3:
            colour_chart(axes[2 * len(drawn) + column], one, diagram)
    return figure


def sky_chart(axis: Axes, one: Drawn, place: Array) -> None:
    """Draw the sky around a cluster in arcminutes from its centre, with its scale ellipse.

    Args:
        axis: Where to draw.
        one: The cluster.
        place: x, y [deg], shape (n, 2).
    """
    cluster = one.cluster
    one.stars(axis, (place - cluster.centre) * ARCMIN)
    angles = np.linspace(0, 2 * np.pi, 120)
    scale = (cluster.ellipse(np.array([cluster.radius]), angles)[0] - cluster.centre) * ARCMIN
    label = "scale radius" if cluster.nu is not None else "half of the members"
    axis.plot(*scale.T, color="black", linewidth=1.2, label=label)
    farthest = np.nanmax(np.abs(place - cluster.centre))
    half = min(6.0 * cluster.radius, 1.03 * farthest) * ARCMIN
    axis.set(xlim=(half, -half), ylim=(-half, half), aspect="equal", title=one.name)
    axis.set(xlabel="east of the centre [arcmin]", ylabel="north of the centre [arcmin]")
    shades = [0.1, 0.5, 0.9]
    colours = blend(np.full(3, one.number), np.array(shades))
    dots = [
        Line2D([], [], linestyle="", marker="o", markersize=5, color=colour, label=f"p = {p:g}")
        for p, colour in zip(shades, colours, strict=True)
    ]
    handles = [*dots, axis.lines[-1]]
    axis.legend(handles=handles, loc="upper left", handletextpad=0.2, **BOXED)


def motion_chart(axis: Axes, one: Drawn, motion: Array, total: Array) -> None:
    """Draw the vector point diagram with the model, convolved with the members' errors.

    Args:
        axis: Where to draw.
        one: The cluster.
        motion: Proper motion [mas/yr], shape (n, 2).
        total: Covariance of a member's motion at each star's place with the star's errors, entries
            xx, xy, yy, shape (n, 3).
    """
    cluster = one.cluster
    one.stars(axis, motion)
    total = total[members_of(cluster, motion, total)]
    half = 3.5 * float(np.sqrt(np.median(total[:, [0, 2]]))) if len(total) else 1.0
    steps = np.linspace(-half, half, CELLS)
    density = convolved_density(total, steps)
    levels = enclosing_levels(density, SHARES)
    (x, y) = cluster.mean
    if len(np.unique(levels)) == len(levels) and levels[0] > 0:
        axis.contour(x + steps, y + steps, density, levels, colors="black", linewidths=(0.9, 1.5))
    axis.plot(*intrinsic_ellipse(cluster).T, color="black", linewidth=1.0, linestyle=":")
    entries = [
        Line2D([], [], color="black", linewidth=1.5, label="model and errors, 50 %"),
        Line2D([], [], color="black", linewidth=0.9, label="model and errors, 90 %"),
        Line2D([], [], color="black", linewidth=1.0, linestyle=":", label="true motions, centre"),
    ]
    axis.legend(handles=entries, loc="upper left", **BOXED)
    axis.set(xlim=(x - half, x + half), ylim=(y - half, y + half), aspect="equal")
    axis.set(xlabel=r"$\mu_x$ (east) [mas yr$^{-1}$]", ylabel=r"$\mu_y$ (north) [mas yr$^{-1}$]")


def intrinsic_ellipse(cluster: Cluster) -> Array:
    """Return the ellipse of one deviation of the true motions at the centre [mas/yr], (80, 2)."""
    xx, xy, yy = cluster.motion_scatter(cluster.centre[None])[0]
    variance, axes = np.linalg.eigh(np.array([[xx, xy], [xy, yy]]))
    angles = np.linspace(0, 2 * np.pi, 80)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.asarray(cluster.mean + circle * np.sqrt(variance.clip(0)) @ axes.T)


def colour_chart(axis: Axes, one: Drawn, diagram: Array) -> None:
    """Draw the colour-magnitude diagram, bright stars on top.

    Args:
        axis: Where to draw.
        one: The cluster.
        diagram: Colour and magnitude, shape (n, 2).
    """
    one.stars(axis, diagram)
    shown = diagram[np.isfinite(diagram).all(1)]
    (left, bright), (right, faint) = np.percentile(shown, [0.1, 99.9], axis=0)
    axis.set(xlim=(left - 0.1, right + 0.1), ylim=(faint + 0.3, bright - 0.3))
    axis.set(xlabel="$G_{BP} - G_{RP}$ [mag]", ylabel="$G$ [mag]")


def members_of(cluster: Cluster, motion: Array, covariance: Array, size: int = 300) -> Array:
    """Return a subsample of members of known motion, by position, shape (m,).

    Args:
        cluster: Whose members, of probability above 0.5.
        motion: Shape (n, 2).
        covariance: Shape (n, 3).
        size: Members at most.
    """
    known = np.isfinite(motion).all(1) & np.isfinite(covariance).all(1)
    found = np.flatnonzero(known & (cluster.probability > 0.5))
    return np.asarray(found[subsample(len(found), size, seed=0)])


def convolved_density(total: Array, steps: Array) -> Array:
    """Return the mean over stars of N(v; 0, Σ_i), the density of motions about the mean motion.

    Args:
        total: Σ_i, of errors and cluster, entries xx, xy, yy, shape (m, 3).
        steps: Of the grid, from the mean motion [mas/yr], shape (g,).

    Returns:
        Shape (g, g), first axis y.
    """
    xx, xy, yy = total.T
    determinant = xx * yy - xy * xy
    x, y = steps[None, :, None], steps[:, None, None]
    squared = (yy * x * x - 2 * xy * x * y + xx * y * y) / determinant
    return np.asarray((np.exp(-0.5 * squared) / (2 * np.pi * determinant**0.5)).sum(-1)) / max(
        len(xx), 1
    )


def enclosing_levels(density: Array, shares: Sequence[float]) -> Array:
    """Return the densities above which the given shares of the whole lie, rising.

    Args:
        density: On a grid of equal cells.
        shares: In (0, 1), falling.
    """
    falling = np.sort(density.ravel())[::-1]
    enclosed = np.cumsum(falling) / max(falling.sum(), 1e-300)
    return falling[np.minimum(np.searchsorted(enclosed, shares), falling.size - 1)]
