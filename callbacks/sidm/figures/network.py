"""Figures of the network: what its latents look at, what a decoder makes of them."""

from typing import Any

import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.report.figures import new_figure
from callbacks.sidm.figures.look import Findings
from callbacks.sidm.figures.maps import draw_bar
from callbacks.sidm.members import members_of
from callbacks.sidm.populations import Array

NUM_MAPS = 3
"""Maps of each known simulation whose gradients are taken."""
STEPS = (-2, -1, 0, 1, 2)
"""Deviations by which a latent is moved."""


def saliency_figure(findings: Findings) -> Figure:
    """Return where each latent looks: its mean |change| for a relative change of a pixel.

    Args:
        findings: With example maps and the model.
    """
    data = findings.run.datamodule
    known = findings.model.populations.known
    found = [findings.maps_of(one.name, NUM_MAPS) for one in known]
    maps, good = (np.concatenate(parts) for parts in zip(*found, strict=True))
    slopes = saliency(members_of(findings.run.module)[0], maps, good).mean(0)  # (Z, C, H, W)
    size, channels = slopes.shape[:2]
    figure, axes = new_figure(channels, size, panel=(1.8, 2.0))
    scale = LogNorm(1e-3, 1, clip=True)
    for number, panel in enumerate(axes):
        channel, latent = divmod(number, size)
        image = slopes[latent, channel]
        top = np.quantile(image, 0.999) or 1.0
        shades = panel.imshow(image / top, cmap="magma", origin="lower", norm=scale)
        panel.set(xticks=[], yticks=[])
        panel.grid(visible=False)
        panel.set_title(f"z{latent}, max {top:.1e}", fontsize=8)
        if latent == 0:
            panel.set_ylabel(data.channels[channel])
    draw_bar(axes[0], slopes.shape[-1], data.pixel_scale)
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
    model = members_of(findings.run.module)[0]
    if getattr(model, "decoder", None) is None:
        return None
    values, points = traversed(findings)
    with torch.inference_mode():
        moved = torch.tensor(points, dtype=torch.float32, device=model.device)
        decoded = model.decoder(moved.flatten(0, 1))[:, 0].float().cpu().numpy()
    figure, axes = new_figure(len(points), len(STEPS), panel=(1.6, 1.45))
    reach = float(np.quantile(np.abs(decoded), 0.995))
    titles = [rf"$\sigma/m$ = {value:.2g}" for value in values]
    titles += [f"{step:+d} std" if step else "mean" for step in STEPS]
    for number, (panel, image) in enumerate(zip(axes, decoded, strict=True)):
        row, column = divmod(number, len(STEPS))
        shades = panel.imshow(image, cmap="RdBu_r", origin="lower", vmin=-reach, vmax=reach)
        panel.set(xticks=[], yticks=[])
        panel.grid(visible=False)
        if column == 0:
            panel.set_ylabel("path" if row == 0 else f"z{row - 1}")
        if row < 2:
            panel.set_title(titles[number], fontsize=8)
    text = f"decoded {findings.run.datamodule.channels[0]}, scaled"
    figure.colorbar(shades, ax=axes, label=text, shrink=0.5, pad=0.01)
    return figure


def traversed(findings: Findings) -> tuple[Array, Array]:
    """Return latents along the path, and along each latent about the mean of known maps.

    Args:
        findings: With latents of the known simulations.

    Returns:
        σ/m in cm^2/g of the first row, (S,), and points, shape (1 + Z, S, Z).
    """
    known, coordinate = findings.model.model.known, findings.model.model.coordinate
    anchors = coordinate.of(np.array([one.cross_section for one in known]))
    means = np.stack([one.latent[:, 0].mean(0) for one in known])
    whole = np.concatenate([one.latent[:, 0] for one in known])
    u = np.linspace(anchors[0], anchors[-1], len(STEPS))
    path = np.stack([np.interp(u, anchors, column) for column in means.T], 1)
    moves = np.eye(whole.shape[1])[:, None] * np.array(STEPS)[:, None] * whole.std(0)
    return coordinate.inverse(u), np.concatenate([path[None], whole.mean(0) + moves])
