"""The linear Gaussian model that training starts from, fitted by passes over the spectra (torch).

x = b + φ(u) R + z W + noise with each pixel's own error, z ~ N(0, 1). First b and R by weighted
least squares, then W by subspace iteration on the residuals, then all three by expectation
maximisation: principal components that know errors and masks (Tipping & Bishop 1999, J. R. Stat.
Soc. B 61, 611; with errors a pixel: Bailey 2012, PASP 124, 1015). After each pass, z is made
uncorrelated with φ(u), white and ordered by information, which also speeds convergence (Liu,
Rubin & Wu 1998, Biometrika 85, 755).
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.spectra.linear_posterior import linear_posterior, products, unpacked

SUBSPACE_PASSES = 3
EXPECTATION_PASSES = 5
PASSES = 1 + SUBSPACE_PASSES + EXPECTATION_PASSES
OVERSAMPLING = 10
PRIOR = 1.0  # precision of every coefficient in standard units: pixels never good get 0


class Part(NamedTuple):
    """Some of the stars.

    x: Standardised flux, 0 where not good, shape (B, P).
    weight: Its inverse variance, 0 where not good, shape (B, P).
    monomials: φ(u), shape (B, F).
    """

    x: Tensor
    weight: Tensor
    monomials: Tensor


class LinearModel(NamedTuple):
    """The parameters.

    bias: b, shape (P,).
    label_map: R, shape (F, P).
    latent_map: W, shape (D, P).
    """

    bias: Tensor
    label_map: Tensor
    latent_map: Tensor

    def residual(self, part: Part) -> Tensor:
        """Return x - b - φ(u) R, shape (B, P)."""
        return part.x - torch.addmm(self.bias, part.monomials, self.label_map)


Parts = Callable[[], Iterable[Part]]


@torch.no_grad()
def fit_linear_model(
    parts: Parts, latent_dim: int, advance: Callable[[], object] = lambda: None
) -> LinearModel:
    """Fit the model to all stars.

    Args:
        parts: Gives the stars in parts; called once a pass, `PASSES` times.
        latent_dim: D.
        advance: Called after each pass.

    Raises:
        ValueError: If there are no stars.
    """
    model = _regression(parts)
    advance()
    axes: Tensor | None = None
    for _ in range(SUBSPACE_PASSES):
        axes = _subspace(parts, model, latent_dim, axes)
        advance()
    assert axes is not None
    model = model._replace(latent_map=axes[:, :latent_dim].mT.contiguous())
    for _ in range(EXPECTATION_PASSES):
        model = _expectation_maximisation(parts, model)
        advance()
    return model


def _regression(parts: Parts) -> LinearModel:
    """Return b and R by weighted least squares, no latents."""
    sums: list[Tensor] = []
    for part in parts():
        factors = torch.cat([torch.ones_like(part.x[:, :1]), part.monomials], dim=1)
        sums = _added(sums, _sums(part, factors, products(factors.mT).mT))
    solution = _coefficients(sums)
    return LinearModel(solution[0], solution[1:], solution[:0])


def _subspace(parts: Parts, model: LinearModel, latent_dim: int, axes: Tensor | None) -> Tensor:
    """Return vectors (P, K ≥ D) nearer the residuals' principal axes, longest first.

    Their lengths are the standard deviations along them; a masked pixel counts as its mean. A few
    axes more than D speed convergence (Halko, Martinsson & Tropp 2011, SIAM Rev. 53, 217).
    """
    product, basis, count = None, None, 0
    for part in parts():
        residual = model.residual(part).mul_(part.weight > 0)
        if basis is None:
            start = axes if axes is not None else _random_axes(residual, latent_dim)
            basis = torch.linalg.qr(start).Q
        step = residual.mT @ (residual @ basis)
        product, count = step if product is None else product.add_(step), count + len(residual)
    assert product is not None
    assert basis is not None
    values, vectors = torch.linalg.eigh(basis.mT @ product / count)
    values, vectors = values.flip(0).clamp_min(0.0), vectors.flip(1)
    return torch.nn.functional.normalize(product @ vectors, dim=0) * values.sqrt()


def _random_axes(like: Tensor, latent_dim: int) -> Tensor:
    """Return random vectors, always and on every process the same."""
    generator = torch.Generator().manual_seed(0)
    size = min(latent_dim + OVERSAMPLING, like.shape[1])
    return torch.randn(like.shape[1], size, generator=generator).to(like)


def _expectation_maximisation(parts: Parts, model: LinearModel) -> LinearModel:
    """Return the model after one pass, its latents made white."""
    sums: list[Tensor] = []
    for part in parts():
        mean, covariance = linear_posterior(model.residual(part), part.weight, model.latent_map)
        factors = torch.cat([torch.ones_like(mean[:, :1]), part.monomials, mean], dim=1)
        outer = factors.unsqueeze(2) * factors.unsqueeze(1)  # (B, K, K)
        outer[:, -mean.shape[1] :, -mean.shape[1] :] += covariance
        i, j = torch.triu_indices(outer.shape[1], outer.shape[1], device=outer.device)
        own = [*_sums(part, factors, outer[:, i, j]), outer.sum(dim=0).double()]
        sums = _added(sums, own)
    size = len(model.latent_map)
    solution = _coefficients(sums)
    fitted = LinearModel(solution[0], solution[1:-size], solution[-size:])
    weight, total = sums[2:]
    return _whitened(fitted, total, weight / total[0, 0])


def _sums(part: Part, factors: Tensor, pairs: Tensor) -> list[Tensor]:
    """Return the normal equations of each pixel, float64.

    Args:
        part: The stars.
        factors: t, shape (B, K).
        pairs: t tᵀ (or its expectation) as pairs i ≤ j, shape (B, K (K + 1) / 2).

    Returns:
        Σ w t tᵀ as pairs (P, K (K + 1) / 2), Σ w x t (P, K) and Σ w (P,).
    """
    left, right = part.weight.mT @ pairs, (part.weight * part.x).mT @ factors
    return [left.double(), right.double(), part.weight.sum(dim=0).double()]


def _added(sums: list[Tensor], own: list[Tensor]) -> list[Tensor]:
    """Return the sums with those of one more part, in place; the part's own if there are none."""
    return [a.add_(b) for a, b in zip(sums, own, strict=True)] if sums else own


def _coefficients(sums: list[Tensor]) -> Tensor:
    """Return the solution of the normal equations, shape (K, P), float32.

    Raises:
        ValueError: If there were no stars.
    """
    if not sums:
        raise ValueError("the warm start found no star with labels in the training split")
    left, right = sums[:2]
    matrix = unpacked(left, right.shape[1])
    matrix.diagonal(dim1=-2, dim2=-1).add_(PRIOR)
    factor = torch.linalg.cholesky(matrix)
    return torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1).mT.float()


def _whitened(model: LinearModel, total: Tensor, weight: Tensor) -> LinearModel:
    """Return the same model with z uncorrelated with φ(u), white and ordered by information.

    Args:
        model: As fitted.
        total: Σ of E[t tᵀ] over the stars, t = [1, φ(u), z], shape (K, K).
        weight: Mean inverse variance of each pixel, shape (P,).
    """
    size = len(model.latent_map)
    known, cross, own = total[:-size, :-size], total[:-size, -size:], total[-size:, -size:]
    slopes = torch.linalg.lstsq(known, cross).solution  # z = [1, φ(u)] slopes + z'
    covariance = (own - cross.mT @ slopes) / total[0, 0]
    latent_map = model.latent_map.double()
    moved = slopes @ latent_map
    values, vectors = torch.linalg.eigh(covariance)
    latent_map = (vectors * values.clamp_min(0.0).sqrt()).mT @ latent_map
    rotation = torch.linalg.eigh((latent_map * weight) @ latent_map.mT).eigenvectors
    latent_map = rotation.flip(1).mT @ latent_map
    label_map = model.label_map + moved[1:]
    return LinearModel((model.bias + moved[0]).float(), label_map.float(), latent_map.float())
