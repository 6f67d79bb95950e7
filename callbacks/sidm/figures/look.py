"""How populations look in all figures: which are shown, their colours, the axis of σ/m."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from callbacks.report.base import TestRun
from callbacks.sidm.coordinate import Coordinate
from callbacks.sidm.populations import Array, Population
from callbacks.sidm.subjects import Measured, Populations

UNIT = r"cm$^2$ g$^{-1}$"
CROSS_SECTION = rf"$\sigma/m$ [{UNIT}]"
TICKS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
MAX_SHOWN = 5
MEASURED_COLOURS = ("#d55e00", "#cc79a7", "#e69f00", "#000000", "#56b4e9", "#8c510a")
"""Told apart from each other and from the violet to green of known simulations."""


@dataclass(frozen=True)
class Findings:
    """What the report has found, to be drawn.

    Args:
        run: With the filled report, the model and the data.
        held_out: Which rows are reported.
        subjects: What is said of the populations; the model first.
        profiles: The populations with radial profiles as their latents.
        classes: Known simulation to the class that each of its maps is taken for, as in
            `callbacks.sidm.scores.add_classes`.
    """

    run: TestRun
    held_out: Array
    subjects: Sequence[Measured]
    profiles: Populations
    classes: dict[str, Array]

    @property
    def model(self) -> Measured:
        """What the model says."""
        return self.subjects[0]

    def maps_of(self, name: str, count: int) -> tuple[Array, Array]:
        """Return the first held-out maps of a simulation, and their good pixels.

        Args:
            name: Of the simulation.
            count: Maps at most.

        Returns:
            Shape (n, C, H, W), and (n, H, W) bool.
        """
        data, rows = self.run.datamodule, self.run.rows
        own = (rows["simulation"] == data.simulations.index(name)) & self.held_out
        index = torch.from_numpy(rows["index"][own][:count])
        maps, good = (data.columns[key][index].numpy() for key in ("map", "good"))
        return maps, good


def shown(measured: Measured, most: int = MAX_SHOWN) -> list[Population]:
    """Return measured populations that fit a figure: hidden ones of rising σ/m, then foreign ones.

    Args:
        measured: Of a subject, whose medians choose among too many hidden ones.
        most: How many fit.
    """
    parts = measured.populations
    hidden = [one for one in parts.measured if one.name in parts.hidden]
    foreign = [one for one in parts.measured if one.name not in parts.hidden]
    hidden.sort(key=lambda one: measured.posteriors[one.name].median)
    foreign = foreign[: most - min(len(hidden), most // 2)]
    room = min(len(hidden), most - len(foreign))
    places = np.linspace(0, len(hidden) - 1, room).round().astype(int)
    return [*(hidden[place] for place in places), *foreign]


def colours(measured: Measured, most: int = MAX_SHOWN) -> dict[str, str]:
    """Return the colour of each known simulation, in order of σ/m, and of each that is shown.

    Args:
        measured: Of a subject.
        most: See `shown`.
    """
    known = measured.populations.known
    values = sorted({one.cross_section for one in known})
    ramp = colormaps["viridis"](np.linspace(0.05, 0.85, len(values)))
    found = {one.name: to_hex(ramp[values.index(one.cross_section)]) for one in known}
    names = [one.name for one in shown(measured, most)]
    return found | dict(zip(names, MEASURED_COLOURS * (1 + len(names) // 6), strict=False))


def label_of(one: Population, measured: Measured) -> str:
    """Return the name of a population; an unknown σ/m is starred, a foreign one says so.

    Args:
        one: The population.
        measured: Knows which are hidden.
    """
    parts = measured.populations
    foreign = one.name not in parts.hidden and all(one.name != x.name for x in parts.known)
    star = "" if np.isfinite(one.cross_section) else "*"
    return f"{one.name}{star}{' (foreign)' if foreign else ''}"


def cross_section_axis(panel: Axes, coordinate: Coordinate, which: Literal["x", "y"]) -> None:
    """Make an axis of u show σ/m in cm^2/g, CDM at its beginning.

    Args:
        panel: Whose data are u.
        coordinate: Of u.
        which: Axis.
    """
    end = float(coordinate.grid[-1])
    panel.set(**{f"{which}lim": (-0.03 * end, 1.02 * end)})
    places: dict[float, str] = {}
    for value in TICKS:
        u = float(coordinate.of(value))
        if u <= end and all(u - other > 0.07 * end for other in places):
            places[u] = f"{value:g}"
    axis = panel.xaxis if which == "x" else panel.yaxis
    axis.set_ticks(list(places), list(places.values()))
    axis.set_label_text(CROSS_SECTION)
