"""Unconstrained coordinates of a mixture's parameters: any step is allowed there (torch only)."""

import torch
from torch import Tensor

from lightning_modules.clustering.mixture.likelihood import Parameters


def coordinates(parameters: Parameters) -> Tensor:
    """Return unconstrained coordinates (P,) of the parameters.

    Logs of the shares over the last one, of ν, σ and η; a covariance is D U Uᵀ D with D diagonal,
    in logs, and U unit lower triangular; the rest is as it is.
    """
    p = parameters
    xx, xy, yy = p.shape.unbind(-1)
    lean = xy / (xx * yy - xy * xy).sqrt()
    parts = [
        (p.weight[:-1].clamp_min(1e-12) / p.weight[-1]).log(), p.centre,
        0.5 * xx.log(), lean, 0.5 * (yy - xy * xy / xx).log(),
        p.degrees.log(), p.mean, p.dispersion.log(), p.field_mean,
        _unpack(p.field_covariance), p.error_scale.log(), p.slope,
    ]  # fmt: skip
    return torch.cat([part.reshape(-1) for part in parts])


def parameters_at(theta: Tensor, num_clusters: int, num_field: int) -> Parameters:
    """Return the parameters at coordinates, the inverse of `coordinates`.

    Args:
        theta: (P,).
        num_clusters: K.
        num_field: F.
    """
    k, f = num_clusters, num_field
    sizes = _sizes(k, f)
    ratio, centre, a, lean, b, nu, mean, sigma, field_mean, field, eta, slope = theta.split(sizes)
    xx, height = (2.0 * a).exp(), b.exp()
    xy = lean * a.exp() * height
    return Parameters(
        torch.cat([ratio, ratio.new_zeros(1)]).softmax(0),
        centre.view(k, 2),
        torch.stack([xx, xy, height.square() * (1.0 + lean.square())], 1),
        nu.exp(),
        mean.view(k, 3),
        sigma.exp(),
        field_mean.view(f, 3),
        _pack(field.view(f, 6)),
        eta[0].exp(),
        slope,
    )


def of_means(theta: Tensor, num_clusters: int, num_field: int) -> Tensor:
    """Return the coordinates that are the means of the clusters, as they are, (K, 3).

    Args:
        theta: (P,), or anything of one number a coordinate.
        num_clusters: K.
        num_field: F.
    """
    return theta.split(_sizes(num_clusters, num_field))[6].view(num_clusters, 3)


def count_coordinates(num_clusters: int, num_field: int) -> int:
    """Return P.

    Args:
        num_clusters: K.
        num_field: F.
    """
    return sum(_sizes(num_clusters, num_field))


def _sizes(k: int, f: int) -> list[int]:
    """Return how many coordinates each part has."""
    return [k + f - 1, 2 * k, k, k, k, k, 3 * k, k, 3 * f, 6 * f, 1, 2]


def _unpack(covariance: Tensor) -> Tensor:
    """Return logs of D and the three entries of U of packed covariances D U Uᵀ D, (F, 6)."""
    xx, xy, xz, yy, yz, zz = covariance.unbind(-1)
    a = xx.sqrt()
    b, d = xy / a, xz / a
    c = (yy - b * b).sqrt()
    e = (yz - d * b) / c
    f = (zz - d * d - e * e).sqrt()
    return torch.stack([a.log(), c.log(), f.log(), b / c, d / f, e / f], -1)


def _pack(free: Tensor) -> Tensor:
    """Return packed covariances (F, 6), the inverse of `_unpack`."""
    a, c, f = free[:, :3].exp().unbind(-1)
    b, d, e = free[:, 3] * c, free[:, 4] * f, free[:, 5] * f
    entries = [a * a, a * b, a * d, b * b + c * c, b * d + c * e, d * d + e * e + f * f]
    return torch.stack(entries, -1)
