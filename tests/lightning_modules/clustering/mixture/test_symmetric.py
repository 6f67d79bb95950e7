"""The closed forms are those of linear algebra."""

import torch
from torch.distributions import MultivariateNormal

from lightning_modules.clustering.mixture import symmetric
from lightning_modules.clustering.mixture.likelihood import PAIRS
from tests.lightning_modules.clustering.mixture.drawing import full


def matrices(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(7, 4, 3, 3, generator=generator, dtype=torch.float64)
    return root @ root.mT + 0.1 * torch.eye(3, dtype=torch.float64)


def entries(matrix: torch.Tensor) -> list[torch.Tensor]:
    return [matrix[..., i, j] for i, j in PAIRS]


def test_density_inverse_and_products() -> None:
    first, second = matrices(0), matrices(1)
    vector = matrices(2)[..., 0]
    normal = MultivariateNormal(torch.zeros(3, dtype=torch.float64), first)
    found = symmetric.log_normal(vector.unbind(-1), entries(first))
    torch.testing.assert_close(found, normal.log_prob(vector))
    inverse = full(torch.stack(list(symmetric.inverse(entries(first))), -1))
    torch.testing.assert_close(inverse, torch.linalg.inv(first))
    product = torch.stack(list(symmetric.times(entries(first), vector.unbind(-1))), -1)
    torch.testing.assert_close(product, (first @ vector[..., None])[..., 0])
    both = full(torch.stack(list(symmetric.sandwich(entries(first), entries(second))), -1))
    torch.testing.assert_close(both, first @ second @ first)
