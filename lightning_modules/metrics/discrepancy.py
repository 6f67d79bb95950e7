"""Distances between distributions by kernels: MMD to the standard normal, HSIC (torch)."""

import math

import torch
from torch import Tensor

LEVELS = 5
"""Kernels of a sum; the squared width falls from 4 to 1/4 of the dimension by factors of 2."""
BLOCK = 1024


def mmd_to_normal(x: Tensor) -> Tensor:
    """Return the unbiased squared maximum mean discrepancy between samples and N(0, 1).

    The kernel is the mean of Gaussians exp(-|a - b|^2 / (2 w)) with w = d * (4, 2, 1, 1/2, 1/4).
    Expectations over the normal are exact, so that only the samples bring noise: the mean over
    samples of the normal is zero, single values may be negative (Gretton et al. 2012, eq. 3).

    Args:
        x: Shape (N, d), N > 1.

    Returns:
        A float64 scalar, differentiable.

    Raises:
        ValueError: If there are fewer than two rows.
    """
    x = x.double()
    count = len(x)
    if count < 2:
        raise ValueError(f"MMD needs at least two rows, got {count}")
    pairs = sum(_kernel(_squared_distances(part, x)).sum() for part in x.split(BLOCK))
    within = (pairs - count) / (count * (count - 1))
    return within - 2 * _normal_embedding(x).mean() + _normal_constant(x.shape[1])


def mmd_noise_level(num_samples: int, dim: int) -> float:
    """Return the standard deviation of `mmd_to_normal` for samples of the normal itself.

    sqrt(2 E[k'(a, b)^2] / (N (N - 1))) with k' the kernel less its means, from 20,000 independent
    pairs, always the same.

    Args:
        num_samples: N.
        dim: d.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 20_000, dim, generator=generator, dtype=torch.float64)
    centred = _kernel((a - b).square().sum(1) / dim) + _normal_constant(dim)
    centred = centred - _normal_embedding(a) - _normal_embedding(b)
    variance = 2 * centred.square().mean() / (num_samples * (num_samples - 1))
    return float(variance.sqrt())


def hsic(x: Tensor, y: Tensor) -> Tensor:
    """Return the unbiased Hilbert-Schmidt independence criterion of two blocks of variables.

    Gaussian kernels on standardised columns, squared width the number of columns; zero in the mean
    if and only if the blocks are independent (Song et al. 2012, eq. 4).

    Args:
        x: Shape (N, p), N > 3.
        y: Shape (N, q).

    Returns:
        A float64 scalar, differentiable.
    """
    return _hsic_of_kernels(_zero_diagonal_kernel(x), _zero_diagonal_kernel(y))


def hsic_noise_level(x: Tensor, y: Tensor, num_permutations: int = 20, seed: int = 0) -> float:
    """Return the standard deviation of `hsic` when the rows of one block are permuted.

    Args:
        x: Shape (N, p).
        y: Shape (N, q).
        num_permutations: Permutations drawn.
        seed: Fixes them.
    """
    generator = torch.Generator().manual_seed(seed)
    first, second = _zero_diagonal_kernel(x), _zero_diagonal_kernel(y)
    values = []
    for _ in range(num_permutations):
        order = torch.randperm(len(x), generator=generator)
        values.append(_hsic_of_kernels(first, second[order][:, order]))
    return float(torch.stack(values).std())


def _hsic_of_kernels(first: Tensor, second: Tensor) -> Tensor:
    """Return the unbiased estimate from two kernel matrices with zero diagonal, shape (N, N)."""
    count = len(first)
    if count < 4:
        raise ValueError(f"HSIC needs at least four rows, got {count}")
    rows_first, rows_second = first.sum(1), second.sum(1)
    trace = (first * second).sum()
    means = rows_first.sum() * rows_second.sum() / ((count - 1) * (count - 2))
    cross = 2 * (rows_first @ rows_second) / (count - 2)
    return (trace + means - cross) / (count * (count - 3))


def _zero_diagonal_kernel(x: Tensor) -> Tensor:
    """Return the Gaussian kernel of standardised rows, its diagonal set to 0, shape (N, N)."""
    x = x.double()
    scale = x.var(0).clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    standard = (x - x.mean(0)) / scale
    kernel = torch.exp(-0.5 * _squared_distances(standard, standard))
    return kernel * (1 - torch.eye(len(x), dtype=kernel.dtype, device=kernel.device))


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return |a_i - b_j|^2 / d, shape (len(a), len(b))."""
    whole = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.mT
    return whole.clamp_min(0.0) / a.shape[1]


def _kernel(squared: Tensor) -> Tensor:
    """Return the mean of the kernels; the narrower ones are powers of the widest."""
    values = torch.exp(-squared / 8)
    total = values
    for _ in range(LEVELS - 1):
        values = values * values
        total = total + values
    return total / LEVELS


def _widths(dim: int) -> list[float]:
    """Return the squared widths w of the kernels."""
    return [4 * dim / 2**level for level in range(LEVELS)]


def _normal_embedding(x: Tensor) -> Tensor:
    """Return E k(x, b) over b of N(0, 1), shape (N,)."""
    dim, squared = x.shape[1], x.square().sum(1)
    parts = [
        math.exp(-0.5 * dim * math.log1p(1 / width)) * torch.exp(-squared / (2 * (width + 1)))
        for width in _widths(dim)
    ]
    return torch.stack(parts).mean(0)


def _normal_constant(dim: int) -> float:
    """Return E k(a, b) over a and b of N(0, 1)."""
    parts = [math.exp(-0.5 * dim * math.log1p(2 / width)) for width in _widths(dim)]
    return sum(parts) / LEVELS
