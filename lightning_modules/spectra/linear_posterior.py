"""The exact posterior of a linear Gaussian model with masks and errors (torch only)."""

import torch
from torch import Tensor

from lightning_modules.spectra.pixels import row_blocks


@torch.no_grad()
def linear_posterior(residual: Tensor, weight: Tensor, latent_map: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of z given r = z W + noise, z ~ N(0, 1).

    A = 1 + W diag(w) Wᵀ, covariance A⁻¹, mean A⁻¹ W (w r): generalised least squares with a unit
    prior (Bishop 2006, Pattern Recognition and Machine Learning, eq. 12.42, with one noise variance
    a pixel and star). A pixel with w = 0 does not exist; a star without pixels gets the prior.

    Args:
        residual: r, shape (B, P).
        weight: w, inverse variances, shape (B, P).
        latent_map: W, shape (D, P).

    Returns:
        Mean (B, D) and covariance (B, D, D), float32 also under autocast.
    """
    with torch.autocast(weight.device.type, enabled=False):
        blocks = row_blocks(weight, residual)
        right = torch.cat([(w * r) @ latent_map.mT for w, r in blocks])  # (B, D)
        return solve(weight @ products(latent_map).mT, right)


def products(rows: Tensor) -> Tensor:
    """Return the products of all pairs of rows i ≤ j: (K, P) to (K (K + 1) / 2, P)."""
    return torch.cat([rows[i:] * rows[i] for i in range(len(rows))])


def unpacked(packed: Tensor, size: int) -> Tensor:
    """Return symmetric matrices (..., K, K) from pairs i ≤ j in the order of `products`."""
    i, j = torch.triu_indices(size, size, device=packed.device)
    full = packed.new_empty(*packed.shape[:-1], size, size)
    full[..., i, j] = packed
    full[..., j, i] = packed
    return full


def solve(packed: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return A⁻¹ b and A⁻¹ for A = 1 + G.

    A is scaled to a unit diagonal first: latents differ by orders of magnitude in what the pixels
    say of them, which float32 would not bear.

    Args:
        packed: G, pairs i ≤ j, shape (B, D (D + 1) / 2).
        right: b, shape (B, D).
    """
    matrix = unpacked(packed, right.shape[-1])
    matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
    scale = matrix.diagonal(dim1=-2, dim2=-1).rsqrt()  # (B, D)
    outer = scale.unsqueeze(-1) * scale.unsqueeze(-2)
    factor, _ = torch.linalg.cholesky_ex(matrix * outer)
    covariance = torch.cholesky_inverse(factor) * outer
    return (covariance @ right.unsqueeze(-1)).squeeze(-1), covariance
