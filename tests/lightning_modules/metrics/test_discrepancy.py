import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.metrics.discrepancy import (
    hsic,
    hsic_noise_level,
    mmd_noise_level,
    mmd_to_normal,
)


def normal(count: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=generator, dtype=torch.float64)


def closed_form(mean: float, scale: float, dim: int) -> float:
    """MMD^2 of N(mean, scale^2) in each dimension to N(0, 1), by Gaussian integrals."""

    def overlap(width: float, variance: float, shift: float) -> float:
        factor = (1 + variance / width) ** (-dim / 2)
        return factor * math.exp(-dim * shift**2 / (2 * (width + variance)))

    parts = []
    for level in range(5):
        width = 4 * dim / 2**level
        own, prior = overlap(width, 2 * scale**2, 0), overlap(width, 2, 0)
        parts.append(own + prior - 2 * overlap(width, 1 + scale**2, mean))
    return float(np.mean(parts))


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (0.3, 1.0), (0.0, 0.7), (0.2, 1.3)])
def test_mmd_matches_closed_form_within_its_error(mean: float, scale: float) -> None:
    values = [float(mmd_to_normal(mean + scale * normal(200, 8, seed))) for seed in range(150)]
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values) - closed_form(mean, scale, 8)) < 3.5 * error


def test_mmd_noise_level_is_the_scatter_of_the_prior() -> None:
    values = [float(mmd_to_normal(normal(300, 5, seed))) for seed in range(300)]
    assert mmd_noise_level(300, 5) == pytest.approx(np.std(values), rel=0.12)
    assert abs(np.mean(values)) < 3.5 * np.std(values) / math.sqrt(300)


def test_mmd_blocks_do_not_matter_and_gradient_pulls_to_the_prior() -> None:
    x = normal(2500, 3, 0)
    halves = torch.cat([x[1000:], x[:1000]])
    assert float(mmd_to_normal(x)) == pytest.approx(float(mmd_to_normal(halves)), abs=1e-12)
    shifted = (x[:300] + 1).requires_grad_()
    mmd_to_normal(shifted).backward()
    assert (shifted.grad.sum(0) > 0).all()


def test_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="two rows"):
        mmd_to_normal(torch.zeros(1, 3))


def test_hsic_is_zero_without_and_large_with_nonlinear_dependence() -> None:
    values = [float(hsic(normal(100, 4, seed), normal(100, 2, seed + 1000))) for seed in range(200)]
    assert abs(np.mean(values)) < 3.5 * np.std(values) / math.sqrt(200)
    x = normal(400, 2, 1)
    y = x[:, :1].square() + 0.1 * normal(400, 1, 2)  # no linear correlation
    assert float(hsic(x, y)) > 10 * hsic_noise_level(x, y)
