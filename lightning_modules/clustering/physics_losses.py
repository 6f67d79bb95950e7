"""What physics says of clusters, as terms of a loss (torch only).

Each term compares the scatter within the columns of memberships q with that of all stars: the
geometric mean over the columns, weighted by their shares π, of the scatter within over the scatter
of all. It is 1 for memberships that say nothing and smaller where compact columns stand beside a
broad one; units and batch size do not matter. The logarithm does: the plain mean of the scatters is
least where the field is cut into equal pieces, as k-means cuts it.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Batch = dict[str, Tensor]
FLOOR = 1e-3
"""Least variance of a column, in variances of all stars: two stars alike are no cluster."""
BANDWIDTH = 0.2
"""Of the colour-magnitude locus, in standard deviations of the magnitude."""


def scatter(q: Tensor, values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return exp Σ_k π_k log(|V_k| / |V|)^(1/d), V_k the covariance of the values in column k.

    Symons 1981 (Biometrics 37, 35) derives the logarithm from Gaussian clusters of unequal
    covariances.

    Args:
        q: Memberships, shape (batch, columns).
        values: Of any unit, shape (batch, d); a star with a NaN does not count.
        weight: Of the stars, of any scale, shape (batch,); likewise.
    """
    weight = torch.ones_like(q[:, 0]) if weight is None else weight
    known = values.isfinite().all(dim=1) & weight.isfinite()
    share = q[known] * weight[known, None]
    whole = share.sum(dim=1, keepdim=True)
    x = values[known].to(q.dtype)
    with torch.no_grad():  # units alone
        mean = (whole * x).sum(dim=0) / _positive(whole.sum())
        scale = ((whole * (x - mean).square()).sum(dim=0) / _positive(whole.sum())).sqrt()
    x = (x - mean) / _positive(scale)
    log_all, log_within = _log_determinant(whole, x), _log_determinant(share, x)
    return _geometric_mean(share, (log_within - log_all) / x.shape[1])


def parallax_scatter(q: Tensor, parallax: Tensor, error: Tensor) -> Tensor:
    """Return exp Σ_k π_k log(χ²_k / χ²), with χ² of parallaxes about one distance, at least 1.

    χ²_k = Σ_i q_ik (ϖ_i - ϖ_k)² / σ_i² / Σ_i q_ik, with ϖ_k the mean weighted by q / σ². A column
    whose parallaxes agree within their errors is at one distance and costs no more than that.

    Args:
        q: Memberships, shape (batch, columns).
        parallax: mas, shape (batch,); a star with a NaN does not count.
        error: σ in mas, shape (batch,).
    """
    known = parallax.isfinite() & error.isfinite()
    share, value = q[known], parallax[known].to(q.dtype)[:, None]
    precision = error[known].to(q.dtype).reciprocal().square()[:, None]

    def log_chi(share: Tensor) -> Tensor:
        mean = (share * precision * value).sum(dim=0) / _positive((share * precision).sum(dim=0))
        squares = (share * precision * (value - mean).square()).sum(dim=0)
        return (squares / _positive(share.sum(dim=0))).clamp_min(1.0).log()

    whole = share.sum(dim=1, keepdim=True)
    return _geometric_mean(share, log_chi(share) - log_chi(whole))


def locus_scatter(q: Tensor, magnitude: Tensor, colour: Tensor) -> Tensor:
    """Return exp Σ_k π_k log(v_k / v), with v_k the variance of the colours about a locus.

    The locus of a column is the mean colour of its other stars of like magnitude (Nadaraya-Watson,
    Gaussian kernel): the isochrone of one population is narrow, the field's is not.

    Args:
        q: Memberships, shape (batch, columns).
        magnitude: Shape (batch,); a star with a NaN does not count.
        colour: Shape (batch,); likewise.
    """
    known = magnitude.isfinite() & colour.isfinite()
    share, g, c = q[known], magnitude[known].to(q.dtype), colour[known].to(q.dtype)[:, None]
    c = (c - c.mean()) / _positive(c.std(correction=0))
    apart = (g[:, None] - g) / _positive(BANDWIDTH * g.std(correction=0))
    kernel = (-0.5 * apart.square()).exp().fill_diagonal_(0.0)

    def log_variance(share: Tensor) -> Tensor:
        locus = (kernel @ (share * c)) / _positive(kernel @ share)
        squares = (share * (c - locus).square()).sum(dim=0)
        return (squares / _positive(share.sum(dim=0)) + FLOOR).log()

    whole = share.sum(dim=1, keepdim=True)
    return _geometric_mean(share, log_variance(share) - log_variance(whole))


def spatial(q: Tensor, batch: Batch) -> Tensor:
    """Return the scatter of the positions on the sky, see `scatter`."""
    return scatter(q, batch["features"][:, :2])


def kinematic(q: Tensor, batch: Batch) -> Tensor:
    """Return the scatter of the proper motions, see `scatter`.

    Stars weigh 1 / (σ² + median σ²), so that faint ones with large errors do not dominate.
    """
    variance = 0.5 * (batch["covariance"][:, 3, 3] + batch["covariance"][:, 4, 4])
    weight = (variance + variance.nanmedian()).reciprocal()
    return scatter(q, batch["features"][:, 3:5], weight)


def distance(q: Tensor, batch: Batch) -> Tensor:
    """Return the scatter of the parallaxes beyond their errors, see `parallax_scatter`."""
    return parallax_scatter(q, batch["features"][:, 2], batch["covariance"][:, 2, 2].sqrt())


def locus(q: Tensor, batch: Batch) -> Tensor:
    """Return the width of the colour-magnitude locus, see `locus_scatter`."""
    return locus_scatter(q, batch["magnitude"], batch["colour"])


def age(q: Tensor, batch: Batch) -> Tensor:
    """Return the scatter of the ages in the batch, see `scatter`."""
    return scatter(q, batch["age"][:, None])


def metallicity(q: Tensor, batch: Batch) -> Tensor:
    """Return the scatter of the metallicities in the batch, see `scatter`."""
    return scatter(q, batch["metallicity"][:, None])


TERMS: Mapping[str, Callable[[Tensor, Batch], Tensor]] = {
    term.__name__: term for term in (spatial, kinematic, distance, locus, age, metallicity)
}
"""Name of a term to it, a function of memberships (batch, columns) and the batch."""

NEEDS: Mapping[str, tuple[str, ...]] = {
    "spatial": (), "kinematic": ("covariance",), "distance": ("covariance",),
    "locus": ("magnitude", "colour"), "age": ("age",), "metallicity": ("metallicity",),
}  # fmt: skip
"""Name of a term to the keys of the batch that it reads beside `features`."""

ASTROMETRIC = ("spatial", "kinematic", "distance")
"""Terms that read columns of `features` by their position."""


def check_terms(weights: Mapping[str, float]) -> None:
    """Refuse a weight of no term, or one that is not positive.

    Args:
        weights: Name of a term to its weight.

    Raises:
        ValueError: If there is one.
    """
    bad = {name: weight for name, weight in weights.items() if name not in TERMS or not weight > 0}
    if bad:
        raise ValueError(
            f"model.physics={bad}: give positive weights, and names among {sorted(TERMS)}"
        )


def _positive(values: Tensor) -> Tensor:
    """Return values that may be divided by."""
    return values.clamp_min(torch.finfo(values.dtype).tiny)


def _log_determinant(share: Tensor, x: Tensor) -> Tensor:
    """Return log |V_k + floor| of values (n, d) of unit variance under each column, (columns,)."""
    count = _positive(share.sum(dim=0))
    mean = share.T @ x / count[:, None]
    centred = x[:, None] - mean  # (n, columns, d)
    covariance = torch.einsum("nk,nki,nkj->kij", share / count, centred, centred)
    least = FLOOR * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return torch.linalg.slogdet(covariance + least).logabsdet


def _geometric_mean(share: Tensor, logs: Tensor) -> Tensor:
    """Return exp of the mean of logs (columns,), weighted by the columns' shares, ()."""
    count = share.sum(dim=0)
    return ((count * logs).sum() / _positive(count.sum())).exp()
