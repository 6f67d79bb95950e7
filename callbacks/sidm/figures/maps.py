"""Figures of maps: examples of each simulation, and mean radial profiles."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from callbacks.report.figures import new_figure
from callbacks.report.plots import logarithmic
from callbacks.sidm.baselines import baseline_rings, mean_profiles
from callbacks.sidm.figures.look import Findings, label_of, shown
from callbacks.sidm.populations import Array, Population
from lightning_modules.nn.rings import radius

UNITS = {
    "total": r"M$_\odot$ kpc$^{-2}$",
    "stars": r"M$_\odot$ kpc$^{-2}$",
    "xray": r"$10^{40}$ erg s$^{-1}$ kpc$^{-2}$",
}
BAR = 500.0
"""Length of the scale bar in kpc."""


def map_figure(findings: Findings, populations: Sequence[Population]) -> Figure:
    """Return one map of each simulation, a row a channel.

    Args:
        findings: With example maps.
        populations: Simulations to show.
    """
    data = findings.run.datamodule
    figure, axes = new_figure(len(data.channels), len(populations), panel=(1.9, 2.0))
    found = {one.name: findings.maps_of(one.name, 1) for one in populations}
    for row, channel in enumerate(data.channels):
        line = axes[row * len(populations) :][: len(populations)]
        images = [np.where(good[0], maps[0, row], np.nan) for maps, good in found.values()]
        roles = [data.roles[name] for name in found]
        norm = _log_norm([x for x, r in zip(images, roles, strict=True) if r != "foreign"])
        for panel, image, one in zip(line, images, populations, strict=True):
            shades = panel.imshow(image, norm=norm, cmap="magma", origin="lower")
            panel.set_facecolor("#bbbbbb")
            panel.set(xticks=[], yticks=[])
            panel.grid(visible=False)
            if row == 0:
                panel.set_title(label_of(one, findings.model).replace(" (", "\n("), fontsize=9)
        draw_bar(line[0], images[0].shape[1], data.pixel_scale)
        unit = f"{channel} [{UNITS[channel]}]"
        figure.colorbar(shades, ax=line, label=unit, shrink=0.9, pad=0.01)
    return figure


def _log_norm(images: Sequence[Array]) -> LogNorm:
    """Return logarithmic limits that hold most pixels of some maps."""
    pixels = np.concatenate([image[image > 0] for image in images])
    low, high = np.quantile(pixels, [0.05, 0.9995])
    return LogNorm(max(low, high * 1e-5), high, clip=True)


def draw_bar(panel: Axes, width: int, pixel_scale: float) -> None:
    """Draw a scale bar in the lower left corner, no longer than half of the map.

    Args:
        panel: Showing a map.
        width: Of the map in pixels.
        pixel_scale: In kpc.
    """
    length = min(BAR, 10 ** np.floor(np.log10(width * pixel_scale / 2)))
    x, y = 0.06 * width, 0.08 * width
    panel.plot([x, x + length / pixel_scale], [y, y], color="white", linewidth=2)
    panel.text(x, y * 1.5, f"{length:g} kpc", color="white", fontsize=7, va="bottom")


def profile_figure(findings: Findings, colours: Mapping[str, str]) -> Figure:
    """Return mean radial profiles with the scatter of maps, and their ratio to the lowest σ/m.

    Args:
        findings: With profiles.
        colours: Of populations.
    """
    data, profiles = findings.run.datamodule, findings.profiles
    names = [one.name for one in shown(findings.model)]
    known = sorted(profiles.known, key=lambda one: one.cross_section)
    others = [one for one in profiles.measured if one.name in names]
    count = len(data.channels)
    figure, axes = new_figure(2, count, panel=(5.0, 2.8), heights=(3, 2))
    kpc = ring_radii(*data.sample_shapes["map"][1:]) * data.pixel_scale
    for number, channel in enumerate(data.channels):
        pair = axes[number], axes[number + count]
        reference = mean_profiles(known[0].latent[:, 0], count)[:, number].mean(0)
        pair[0].set(xscale="log", yscale="log", title=f"{channel} / maximum, mean of logarithm")
        logarithmic(pair[1], "x")
        for group, line in ((known, "-"), (others, "--")):
            for one in group:
                logs = mean_profiles(one.latent[:, 0], count)[:, number]
                style = {"color": colours[one.name], "label": label_of(one, findings.model)}
                _draw_profile(pair, kpc, logs, reference, {**style, "linestyle": line})
            for panel in pair:  # foreign ones may leave the limits of the known
                panel.set(xlim=panel.get_xlim(), ylim=panel.get_ylim())
            low, high = pair[1].get_ylim()
            pair[1].set(ylim=(min(low, 0.85), max(high, 1.15)))
        pair[0].tick_params(labelbottom=False)
        pair[1].set(xlabel="radius [kpc]")
    axes[0].set_ylabel("known: band, scatter of maps", fontsize=9)
    axes[count].set_ylabel(f"ratio to {known[0].name}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _draw_profile(
    pair: tuple[Axes, Axes], kpc: Array, logs: Array, reference: Array, style: dict[str, Any]
) -> None:
    """Draw the log profiles (n, K) of one population above, their ratio to the reference below."""
    mean, scatter = logs.mean(0), logs.std(0)
    for panel, values in zip(pair, (mean, mean - reference), strict=True):
        panel.plot(kpc, 10**values, linewidth=1.4, **style)
    if style["linestyle"] == "-":
        low, high = (10 ** (mean + sign * scatter) for sign in (-1, 1))
        pair[0].fill_between(kpc, low, high, color=style["color"], alpha=0.08, linewidth=0)


def ring_radii(height: int, width: int) -> Array:
    """Return the mean radius in pixels of the rings of a profile, at least 0.5, shape (K,).

    Args:
        height: H.
        width: W.
    """
    rings, r = baseline_rings(height, width), radius(height, width).flatten()
    return np.asarray((r @ rings / rings.sum(0)).clamp_min(0.5).numpy())
