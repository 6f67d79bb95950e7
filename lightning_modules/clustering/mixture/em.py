"""Expectation maximisation of the mixture, in closed form, on stars held in memory (torch only)."""

import torch
from torch import Tensor

from lightning_modules.clustering.mixture import symmetric
from lightning_modules.clustering.mixture.footprint import Footprint
from lightning_modules.clustering.mixture.likelihood import (
    PAIRS,
    Components,
    Integrals,
    Parameters,
    Stars,
    components,
)

MIN_VARIANCE = 1e-7
"""Of a cluster's motions, (mas/yr)²."""
MIN_RADIUS = 1e-3
"""Of a cluster, in radii of the footprint: a close pair of stars is none."""


def fit(
    start: Parameters, stars: Stars, footprint: Footprint, steps: int, tolerance: float = 1e-6
) -> tuple[Parameters, float]:
    """Improve a mixture by EM; return it with the mean log likelihood a star.

    η, ν and the slope of the sky stay as they are: they have no step in closed form.

    Args:
        start: First parameters.
        stars: n of them.
        footprint: The sky that was looked at.
        steps: At most.
        tolerance: Gain in mean log likelihood at which it ends, after six steps.
    """
    parameters, last = start, -torch.inf
    for step in range(steps):
        share, parts, likelihood = expect(parameters, stars, footprint)
        if step > 5 and likelihood - last < tolerance:
            return parameters, likelihood
        last = likelihood
        parameters = maximise(parameters, share, parts, stars, footprint)
    return parameters, expect(parameters, stars, footprint)[2]


def expect(
    parameters: Parameters, stars: Stars, footprint: Footprint
) -> tuple[Tensor, Components, float]:
    """Return responsibilities (n, C), parts of the densities and the mean log likelihood.

    Args:
        parameters: Of the mixture.
        stars: n of them.
        footprint: The sky that was looked at.
    """
    parts = components(parameters, Integrals.of(parameters, footprint), stars)
    log_weight = parameters.weight.clamp_min(1e-300).log()
    joint = log_weight + parts.log_sky + symmetric.log_normal(parts.residual, parts.covariance)
    total = joint.logsumexp(1)
    return (joint - total[:, None]).exp(), parts, float(total.mean())


def error_of_motion(parameters: Parameters, stars: Stars, footprint: Footprint) -> Tensor:
    """Return the error of each cluster's mean proper motion in mas/yr, an axis, (K,).

    It is that of the mean over members weighted by the inverse of their variance.

    Args:
        parameters: Of the mixture.
        stars: n of them.
        footprint: The sky that was looked at.
    """
    share, parts, _ = expect(parameters, stars, footprint)
    members = share[:, : parameters.num_clusters] * stars.known[:, 1:].all(1, keepdim=True)
    variance = 0.5 * (parts.covariance[3] + parts.covariance[5])[:, : parameters.num_clusters]
    return (members / variance).sum(0).clamp_min(1e-9) ** -0.5


def maximise(
    parameters: Parameters, share: Tensor, parts: Components, stars: Stars, footprint: Footprint
) -> Parameters:
    """Return the parameters that the responsibilities imply.

    Clusters: the mean by generalised least squares, m = (Σ q T⁻¹)⁻¹ Σ q T⁻¹ u with T = η² C + Σ,
    since the usual step of extreme deconvolution leaves the parallax at its seed where Σ is 0; the
    dispersion from the expected intrinsic motions; centre and shape of the Student-t with weights
    (ν + 2) / (ν + r²). Field: extreme deconvolution (Bovy, Hogg & Roweis 2011, arXiv:0905.2979).

    Args:
        parameters: Of before.
        share: Responsibilities, (n, C).
        parts: Of the densities, from `expect`.
        stars: n of them.
        footprint: The sky that was looked at.
    """
    count, k = share.sum(0).clamp_min(1e-9), parameters.num_clusters
    precision = symmetric.inverse(parts.covariance)
    if not bool(stars.known.all()):
        precision = [
            entry * (stars.known[:, i] & stars.known[:, j])[:, None]
            for (i, j), entry in zip(PAIRS, precision, strict=True)
        ]
    renewed = parameters._replace(weight=count / count.sum())
    first = Components(
        parts.log_sky,
        [r[:, :k] for r in parts.residual],
        [p[:, :k] for p in precision],
        parts.squared,
    )
    second = first._replace(
        residual=[r[:, k:] for r in parts.residual], covariance=[p[:, k:] for p in precision]
    )
    renewed = _maximise_field(renewed, share[:, k:], count[k:], second)
    if not k:
        return renewed
    least = (MIN_RADIUS * footprint.radius) ** 2
    return _maximise_clusters(renewed, share[:, :k], count[:k], first, stars.position, least)


def _maximise_clusters(
    p: Parameters,
    share: Tensor,
    count: Tensor,
    parts: Components,
    position: Tensor,
    least: float,
) -> Parameters:
    """Return new centres, shapes, means and dispersions; `parts.covariance` holds T⁻¹."""
    precision = parts.covariance
    least_known = 1e-9  # of an entry that no star knows, whose mean stays
    information = [
        (share * entry).sum(0) + (least_known if i == j else 0.0)
        for (i, j), entry in zip(PAIRS, precision, strict=True)
    ]
    pull = [(share * v).sum(0) for v in symmetric.times(precision, parts.residual)]
    step = symmetric.times(symmetric.inverse(information), pull)  # of the mean
    residual = [r - s for r, s in zip(parts.residual, step, strict=True)]
    white = symmetric.times(precision, residual)
    falling = (1.0 + parts.squared / p.degrees) ** -0.5
    prior = p.dispersion.square() * falling
    spread = prior.square() * (white[1].square() + white[2].square() - precision[3] - precision[5])
    variance = (share * (spread + 2.0 * prior) / falling).sum(0) / (2.0 * count)
    pulled = share * (p.degrees + 2.0) / (p.degrees + parts.squared)
    centre = (pulled.T @ position) / pulled.sum(0)[:, None]
    dx, dy = (position[:, None, i] - centre[:, i] for i in (0, 1))
    shape = torch.stack([(pulled * product).sum(0) for product in (dx * dx, dx * dy, dy * dy)], 1)
    return p._replace(
        centre=centre,
        shape=shape / count[:, None] + least * shape.new_tensor([1.0, 0.0, 1.0]),
        mean=p.mean + torch.stack(list(step), 1),
        dispersion=variance.clamp_min(MIN_VARIANCE).sqrt(),
    )


def _maximise_field(p: Parameters, share: Tensor, count: Tensor, parts: Components) -> Parameters:
    """Return new means and covariances of the field; `parts.covariance` holds T⁻¹."""
    precision, old = parts.covariance, p.field_covariance.unbind(-1)
    moved = symmetric.times(old, symmetric.times(precision, parts.residual))  # expected offset
    step = [(share * b).sum(0) / count for b in moved]
    shrunk = symmetric.sandwich(old, precision)
    centred = [b - s for b, s in zip(moved, step, strict=True)]
    entries = []
    for (i, j), before, less in zip(PAIRS, old, shrunk, strict=True):
        second = share * (centred[i] * centred[j] + before - less)
        entries.append(second.sum(0) / count + (1e-6 if i == j else 0.0))
    return p._replace(
        field_mean=p.field_mean + torch.stack(step, 1), field_covariance=torch.stack(entries, 1)
    )
