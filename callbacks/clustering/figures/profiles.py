"""Radial profiles of clusters side by side: number density, dispersion, rotation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks.clustering.figures.charts import palette
from callbacks.clustering.figures.clusters import ARCMIN, Drawn
from callbacks.clustering.sample import StarSample
from callbacks.clustering.structure import Footprint, density_profile, kinematic_profile
from callbacks.report.figures import new_figure
from callbacks.report.plots import GREY, logarithmic

Array = NDArray[Any]
RADIUS = "distance from the centre [arcmin]"


def profile_figure(drawn: Sequence[Drawn], sample: StarSample, covariance: Array) -> Figure:
    """Return a column of profiles for each cluster, a row if there is but one.

    Args:
        drawn: The clusters, at least one.
        sample: The stars, with their astrometry.
        covariance: Of the proper motions [mas²/yr²], entries xx, xy, yy, shape (n, 3).
    """
    assert sample.astrometry is not None
    place, motion = sample.astrometry[:, :2], sample.astrometry[:, 3:]
    sky = Footprint.of_stars(place[np.isfinite(place).all(1)])
    shape = (3, len(drawn)) if len(drawn) > 1 else (1, 3)
    figure, axes = new_figure(*shape, panel=(4.4, 3.4))
    for column, one in enumerate(drawn):
        density, dispersion, rotation = axes[column :: len(drawn)]
        density_chart(density, one, place, sky)
        kinematics = kinematic_profile(one.cluster, place, motion, covariance)
        dispersion_chart(dispersion, one, kinematics)
        rotation_chart(rotation, one, kinematics)
        for axis in (density, dispersion, rotation):
            logarithmic(axis, "x")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.set(xlabel=RADIUS, xlim=density.get_xlim())
    return figure


def density_chart(axis: Axes, one: Drawn, place: Array, sky: Footprint) -> None:
    """Draw the number density of members with Poisson errors, and the fitted profile.

    Args:
        axis: Where to draw.
        one: The cluster.
        place: x, y [deg], shape (n, 2).
        sky: What was looked at.
    """
    cluster, colour = one.cluster, colour_of(one)
    found = density_profile(cluster, place, sky)
    radius, scale = found["radius"] * ARCMIN, ARCMIN**-2
    axis.plot(radius, found["stars"] * scale, color=GREY, label="all stars")
    axis.errorbar(
        radius,
        found["members"] * scale,
        found["error"] * scale,
        fmt="o",
        markersize=4.5,
        color=colour,
        label="members",
    )
    if cluster.nu is not None and len(radius):
        fine = np.geomspace(0.5 * found["radius"][0], 1.1 * found["radius"][-1], 100)
        edges = np.append(0.0, fine)
        middle = 0.5 * (edges[1:] + edges[:-1])
        share = (cluster.density(middle) * sky.area(cluster, edges)).sum()
        curve = cluster.density(fine) * cluster.probability.sum() / share
        label = rf"fit: $\nu$ = {cluster.nu:.2g}, a = {cluster.radius * ARCMIN:.2g} arcmin"
        axis.plot(fine * ARCMIN, curve * scale, color="black", linewidth=1.4, label=label)
    logarithmic(axis, "y")
    axis.set(title=one.name, ylabel="stars per arcmin²", xscale="log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.legend(loc="lower left")


def dispersion_chart(axis: Axes, one: Drawn, found: dict[str, Array]) -> None:
    """Draw the dispersion of the proper motions, errors taken out, and the fitted one.

    Args:
        axis: Where to draw.
        one: The cluster.
        found: Of `kinematic_profile`.
    """
    radius, sigma = found["radius"], found["dispersion"]
    error = np.stack([sigma - found["low"], found["high"] - sigma])
    axis.errorbar(
        radius * ARCMIN,
        sigma,
        error,
        fmt="o",
        markersize=4.5,
        color=colour_of(one),
        label="members, errors taken out",
    )
    if one.cluster.nu is not None and len(radius):
        fine = np.geomspace(radius.min(), radius.max(), 60)
        curve = one.cluster.dispersion_at(fine)
        axis.plot(fine * ARCMIN, curve, color="black", linewidth=1.4, label="fit")
    axis.set(ylabel=r"dispersion [mas yr$^{-1}$]")
    axis.set_ylim(bottom=0.0)
    axis.legend(loc="best")


def rotation_chart(axis: Axes, one: Drawn, found: dict[str, Array]) -> None:
    """Draw the mean tangential and radial motion: rotation, expansion and perspective.

    Args:
        axis: Where to draw.
        one: The cluster.
        found: Of `kinematic_profile`.
    """
    radius = found["radius"] * ARCMIN
    for name, colour, marker, label in (
        ("tangential", colour_of(one), "o", "tangential (rotation), north to east"),
        ("radial", GREY, "s", "radial, outwards"),
    ):
        shift = 1.0 if name == "tangential" else 1.06  # side by side
        axis.errorbar(
            radius * shift,
            found[name],
            found[f"{name}_error"],
            fmt=marker,
            markersize=4.5,
            color=colour,
            label=label,
        )
    axis.axhline(0, color="black", linewidth=0.8)
    ends = [abs(found[name]) + found[f"{name}_error"] for name in ("tangential", "radial")]
    half = 1.7 * max((float(end.max()) for end in ends if len(end)), default=1.0)  # and a legend
    axis.set(ylabel=r"mean motion [mas yr$^{-1}$]", ylim=(-half, half))
    axis.legend(loc="upper left")


def colour_of(one: Drawn) -> str:
    """Return the cluster's colour."""
    return palette(np.array([one.number]))[one.number]
