"""What a fitted mixture says in physical units, with its errors (torch only)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from lightning_modules.clustering.mixture.coordinates import coordinates, parameters_at
from lightning_modules.clustering.mixture.likelihood import Parameters

QUANTITIES = (
    "weight", "x", "y", "radius", "ellipticity", "position_angle", "nu", "parallax", "pmra",
    "pmdec", "dispersion",
)  # fmt: skip
"""Of a cluster: share of the stars; centre and scale radius [deg]; 1 - b/a; angle of the long axis
from north to east [deg]; freedom of the profile; parallax [mas]; proper motion and its dispersion
at the centre [mas/yr]."""
MOTION = slice(QUANTITIES.index("pmra"), QUANTITIES.index("pmdec") + 1)
Share = Callable[[Parameters], Tensor]


def rows(
    parameters: Parameters, curvature: Tensor, core: Tensor, share: Share, refits: Tensor
) -> list[dict[str, float]]:
    """Return a dict for each cluster: `cluster` (from 1), `QUANTITIES` with errors, a correlation.

    The error of `<key>` is `<key>_error`, by the chain rule from the coordinates;
    `pmra_pmdec_corr` is the correlation of the errors of the mean proper motion. With refits
    `<key>_bootstrap` is the standard deviation over them.

    Args:
        parameters: Of the mixture.
        curvature: Information on its coordinates, (P, P), see `covariance_of`.
        core: Of each component of a cluster the one that stands for it, itself or another, (K,).
        share: Gives the shares of the stars of the components of clusters, (K,), differentiable.
        refits: Coordinates of fits to resampled stars, (b, P); b may be 0.
    """
    sizes = parameters.num_clusters, len(parameters.field_mean)
    if not sizes[0]:
        return []

    def values(theta: Tensor) -> Tensor:
        p = parameters_at(theta, *sizes)
        return _quantities(p, core, share(p))

    theta = coordinates(parameters)
    slope = jacobian(values, theta, vectorize=True)  # (clusters, quantities, P)
    covariance = covariance_of(curvature)
    spread = slope @ covariance @ slope.transpose(1, 2)
    error = spread.diagonal(dim1=1, dim2=2).clamp_min(0.0).sqrt()
    found = []
    for number, (value, deviation) in enumerate(zip(values(theta), error, strict=True), start=1):
        row: dict[str, float] = {"cluster": number}
        for name, v, e in zip(QUANTITIES, value.tolist(), deviation.tolist(), strict=True):
            row |= {name: v, f"{name}_error": e}
        pair = spread[number - 1, MOTION, MOTION]
        if len(refits):
            row |= _bootstrap(torch.stack([values(again)[number - 1] for again in refits]), value)
        row["pmra_pmdec_corr"] = float(pair[0, 1] / (pair[0, 0] * pair[1, 1]).sqrt())
        found.append(row)
    return found


def covariance_of(curvature: Tensor) -> Tensor:
    """Return the covariance of the coordinates, (P, P), from the information on them.

    What nothing tells of has a deviation of 1000.
    """
    least = 1e-6 * torch.eye(len(curvature), dtype=curvature.dtype, device=curvature.device)
    return torch.linalg.inv(curvature + least)


def _bootstrap(found: Tensor, value: Tensor) -> dict[str, float]:
    """Return the deviations of refits, (b, quantities), angles modulo 180 degrees."""
    apart = found - value
    angle = QUANTITIES.index("position_angle")
    apart[:, angle] = (apart[:, angle] + 90.0).remainder(180.0) - 90.0
    deviation = apart.std(0, correction=0).tolist()
    return {f"{name}_bootstrap": d for name, d in zip(QUANTITIES, deviation, strict=True)}


def _quantities(p: Parameters, core: Tensor, share: Tensor) -> Tensor:
    """Return `QUANTITIES` of each cluster, (clusters, quantities)."""
    own = torch.where(core == torch.arange(len(core), device=core.device))[0]
    together = (core == own[:, None]).double() @ share
    xx, xy, yy = p.shape[own].unbind(-1)
    middle, apart = 0.5 * (xx + yy), 0.5 * ((yy - xx).square() + 4.0 * xy.square() + 1e-24).sqrt()
    ratio = ((middle - apart) / (middle + apart)).sqrt()
    angle = torch.rad2deg(0.5 * torch.atan2(2.0 * xy, yy - xx + 1e-24)).remainder(180.0)
    columns = [
        together, *p.centre[own].unbind(-1), p.radius[own], 1.0 - ratio, angle, p.degrees[own],
        *p.mean[own].unbind(-1), p.dispersion[own],
    ]  # fmt: skip
    return torch.stack(columns, 1)


def lines(found: list[dict[str, float]], field: float, error_scale: float) -> list[str]:
    """Return a line on the field and one on each cluster.

    Args:
        found: Of `rows`.
        field: Share of the stars that the field has.
        error_scale: η.
    """
    text = [f"{len(found)} cluster(s), field {field:.1%} of the stars, errors x {error_scale:.2f}"]
    for row in found:
        value = {name: f"{row[name]:.4g} ± {row[f'{name}_error']:.1g}" for name in QUANTITIES}
        text.append(
            f"cluster {row['cluster']}: {row['weight']:.1%} of the stars, x = {value['x']}, "
            f"y = {value['y']} deg, radius {value['radius']} deg, ellipticity "
            f"{value['ellipticity']}, nu {value['nu']}, parallax {value['parallax']} mas, pm = "
            f"{value['pmra']}, {value['pmdec']} mas/yr, dispersion {value['dispersion']} mas/yr"
        )
    return text
