"""Figures of maps: examples, profiles, what latents look at, what a decoder makes of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.report.figures import new_figure
from callbacks.report.plots import logarithmic
from callbacks.sidm.baselines import NUM_RINGS, mean_profiles
from callbacks.sidm.figures.look import Findings, label_of, shown
from callbacks.sidm.populations import Array, Population
from callbacks.sidm.subjects import Populations
from lightning_modules.nn.rings import profile_rings, radius

UNITS = {
    "total": r"M$_\odot$ kpc$^{-2}$",
    "stars": r"M$_\odot$ kpc$^{-2}$",
    "xray": r"erg s$^{-1}$ kpc$^{-2}$",
}
BAR = 500.0
"""Length of the scale bar in kpc."""
SALIENCY_MAPS = 3
"""Of each known simulation."""
STEPS = (-2, -1, 0, 1, 2)
"""Deviations by which a latent is moved."""


def map_figure(findings: Findings, populations: Sequence[Population]) -> Figure:
    """Return one map of each simulation, a row a channel.

    Args:
        findings: With example maps.
        populations: Simulations to show.
    """
    data = findings.run.datamodule
    figure, axes = new_figure(len(data.channels), len(populations), panel=(1.9, 2.0))
    found = {one.name: findings.maps_of(one.name) for one in populations}
    for row, channel in enumerate(data.channels):
        line = axes[row * len(populations) :][: len(populations)]
        images = [np.where(good[0], maps[0, row], np.nan) for maps, good in found.values()]
        norm = _log_norm(images[: len(findings.model.populations.known)])
        for panel, image, one in zip(line, images, populations, strict=True):
            shades = panel.imshow(image, norm=norm, cmap="magma", origin="lower")
            panel.set_facecolor("#bbbbbb")
            panel.set(xticks=[], yticks=[])
            panel.grid(visible=False)
            if row == 0:
                panel.set_title(label_of(one, findings.model).replace(" (", "\n("), fontsize=9)
        _draw_bar(line[0], images[0].shape[1], data.pixel_scale)
        unit = f"{channel} [{UNITS[channel]}]"
        figure.colorbar(shades, ax=line, label=unit, shrink=0.9, pad=0.01)
    return figure


def _log_norm(images: Sequence[Array]) -> LogNorm:
    """Return logarithmic limits that hold most pixels of some maps."""
    pixels = np.concatenate([image[image > 0] for image in images])
    low, high = np.quantile(pixels, [0.05, 0.9995])
    return LogNorm(max(low, high * 1e-5), high, clip=True)


def _draw_bar(panel: Axes, width: int, pixel_scale: float) -> None:
    """Draw a scale bar in the lower left corner, no longer than half of the map."""
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
    known = sorted(profiles.known, key=lambda one: one.cross_section)
    names = [one.name for one in shown(findings.model)]
    others = [one for one in profiles.measured if one.name in names]
    count = len(data.channels)
    figure, axes = new_figure(2, count, panel=(5.0, 2.8), heights=(3, 2))
    kpc = ring_radii(*data.sample_shapes["map"][1:]) * data.pixel_scale
    reference = mean_profiles(known[0].latent[:, 0], count).mean(0)
    for one in (*known, *others):
        found = mean_profiles(one.latent[:, 0], count)
        mean, scatter = found.mean(0), found.std(0)
        line = "-" if one in known else "--"
        for number in range(count):
            top, bottom = axes[number], axes[number + count]
            style: Any = {"color": colours[one.name], "linestyle": line, "linewidth": 1.4}
            top.plot(kpc, 10 ** mean[number], label=label_of(one, findings.model), **style)
            if one in known:
                low, high = (10 ** (mean[number] + s * scatter[number]) for s in (-1, 1))
                top.fill_between(kpc, low, high, color=colours[one.name], alpha=0.08, linewidth=0)
            bottom.plot(kpc, 10 ** (mean[number] - reference[number]), **style)
    for number, channel in enumerate(data.channels):
        top, bottom = axes[number], axes[number + count]
        top.set(yscale="log", xscale="log", title=f"{channel} over its maximum")
        top.label_outer()
        bottom.set(ylim=_ratio_limits(profiles, count, number), xlabel="radius [kpc]")
        logarithmic(bottom, "x")
    axes[0].set_ylabel("exp. mean of logarithm")
    axes[count].set_ylabel(f"ratio to {known[0].name}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def ring_radii(height: int, width: int) -> Array:
    """Return the mean radius in pixels of the rings of a profile, shape (K,).

    Args:
        height: H.
        width: W.
    """
    rings, r = profile_rings(height, width, NUM_RINGS), radius(height, width).flatten()
    return np.asarray((r @ rings / rings.sum(0)).numpy())


def _ratio_limits(profiles: Populations, count: int, channel: int) -> tuple[float, float]:
    """Return limits of the ratio that hold the known simulations, which foreign ones may leave."""
    means = np.stack(
        [mean_profiles(x.latent[:, 0], count).mean(0)[channel] for x in profiles.known]
    )
    ratio = 10 ** (means - means[0])
    return float(ratio.min()) * 0.8 - 0.05, float(ratio.max()) * 1.2 + 0.05


def saliency_figure(findings: Findings) -> Figure:
    """Return where each latent looks: its mean |change| for a relative change of a pixel.

    Args:
        findings: With example maps and the model.
    """
    data = findings.run.datamodule
    known = findings.model.populations.known
    found = [findings.maps_of(one.name) for one in known]
    maps, good = (np.concatenate([one[k][:SALIENCY_MAPS] for one in found]) for k in (0, 1))
    slopes = saliency(first_model(findings.run.module), maps, good).mean(0)  # (Z, C, H, W)
    size, channels = slopes.shape[:2]
    figure, axes = new_figure(channels, size, panel=(1.8, 2.0))
    for number, panel in enumerate(axes):
        channel, latent = divmod(number, size)
        image = slopes[latent, channel]
        top = np.quantile(image, 0.999) or 1.0
        shades = panel.imshow(image / top, cmap="magma", origin="lower", vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
        panel.grid(visible=False)
        panel.set_title(f"z{latent}, max {top:.1e}", fontsize=8)
        if latent == 0:
            panel.set_ylabel(data.channels[channel])
    _draw_bar(axes[0], slopes.shape[-1], data.pixel_scale)
    text = r"|$\partial z/\partial\,\ln$ pixel| / max"
    figure.colorbar(shades, ax=axes, label=text, shrink=0.9, pad=0.01)
    return figure


def saliency(module: Any, maps: Array, good: Array) -> Array:
    """Return the mean |∂z/∂ln(pixel)| over maps of one model, shape (n, Z, C, H, W).

    The model is left as it was: gradients are of the maps alone.

    Args:
        module: With `encode`.
        maps: Shape (n, C, H, W).
        good: Shape (n, H, W) bool.
    """
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.tensor(maps, device=module.device).requires_grad_()
            batch = {"map": x, "good": torch.tensor(good, device=module.device)}
            latent: Tensor = module.encode(batch)
            slopes = [
                torch.autograd.grad(column.sum(), x, retain_graph=True)[0]
                for column in latent.unbind(1)
            ]
            whole = torch.stack(slopes, 1) * x.detach().unsqueeze(1)
            return np.asarray(whole.nan_to_num(0.0).abs().float().cpu().numpy())
    finally:
        module.train(was_training)


def traversal_figure(findings: Findings) -> Figure | None:
    """Return decoded maps along the path of the known simulations and along each latent.

    Args:
        findings: With latents and the model.

    Returns:
        None if the model has no decoder.
    """
    model = first_model(findings.run.module)
    if getattr(model, "decoder", None) is None:
        return None
    known = findings.model.model.known
    means = np.stack([one.latent[:, 0].mean(0) for one in known])
    whole = np.concatenate([one.latent[:, 0] for one in known])
    moved = np.eye(whole.shape[1])[:, None] * np.array(STEPS)[:, None] * whole.std(0)
    rows = [means[np.linspace(0, len(means) - 1, len(STEPS)).round().astype(int)]]
    rows += list(whole.mean(0) + moved)  # (Z, steps, Z)
    with torch.inference_mode():
        points = torch.tensor(np.concatenate(rows), dtype=torch.float32, device=model.device)
        decoded = model.decoder(points)[:, 0].float().cpu().numpy()
    figure, axes = new_figure(len(rows), len(STEPS), panel=(1.5, 1.4))
    reach = float(np.quantile(np.abs(decoded), 0.995))
    for number, (panel, image) in enumerate(zip(axes, decoded, strict=True)):
        row, column = divmod(number, len(STEPS))
        shades = panel.imshow(image, cmap="RdBu_r", origin="lower", vmin=-reach, vmax=reach)
        panel.set(xticks=[], yticks=[])
        panel.grid(visible=False)
        if column == 0:
            panel.set_ylabel("path" if row == 0 else f"z{row - 1}")
        if row == 1:
            panel.set_title(f"{STEPS[column]:+d} std", fontsize=8)
    text = f"decoded {findings.run.datamodule.channels[0]}, scaled"
    figure.colorbar(shades, ax=axes, label=text, shrink=0.5, pad=0.01)
    return figure


def first_model(module: Any) -> Any:
    """Return a model, or the first of an `Ensemble`."""
    members = getattr(module, "members", None)
    return module if members is None else members[0]
