"""Stars drawn from a mixture that is known."""

import torch
from torch import Tensor

from lightning_modules.clustering.mixture.footprint import Footprint, Grid
from lightning_modules.clustering.mixture.likelihood import PAIRS, Parameters, Stars


def tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def mixture(num_clusters: int = 2, num_field: int = 2) -> Parameters:
    """Two clusters in the middle of a square degree, and a field."""
    k, f = num_clusters, num_field
    weight = torch.cat([tensor(0.25, 0.15)[:k], torch.full((f,), 0.6 / f, dtype=torch.float64)])
    return Parameters(
        weight=weight / weight.sum(),
        centre=tensor([0.0, 0.1], [0.2, -0.15])[:k],
        shape=tensor([2e-3, 5e-4, 1e-3], [8e-4, 0.0, 8e-4])[:k],
        degrees=tensor(2.0, 3.0)[:k],
        mean=tensor([0.4, -3.0, 1.0], [0.1, 2.0, 2.0])[:k],
        dispersion=tensor(0.4, 0.15)[:k],
        field_mean=tensor([0.5, 0.0, -2.0], [1.0, -3.0, 0.0], [0.8, 1.0, 1.0])[:f],
        field_covariance=tensor(
            [0.05, 0.1, 0.0, 9.0, 1.0, 4.0], [0.3, 0.0, 0.2, 20.0, -3.0, 30.0],
            [0.1, 0.0, 0.0, 2.0, 0.0, 2.0],
        )[:f],
        error_scale=torch.tensor(1.2, dtype=torch.float64),
        slope=tensor(0.5, -0.3),
    )  # fmt: skip


def full(packed: Tensor) -> Tensor:
    """Return packed matrices (..., 6) as (..., 3, 3)."""
    matrix = packed.new_zeros(*packed.shape[:-1], 3, 3)
    for entry, (i, j) in enumerate(PAIRS):
        matrix[..., i, j] = matrix[..., j, i] = packed[..., entry]
    return matrix


def square(side: int = 40) -> Footprint:
    """Return the footprint -0.5 < x, y < 0.5 degrees."""
    empty = Grid.empty()
    empty.occupied[:side, :side] = True
    return Footprint(Grid(empty.occupied, tensor(-0.5, -0.5), tensor(1 / side, 1 / side)))


def errors(count: int, generator: torch.Generator) -> Tensor:
    """Return covariances (n, 6) of measurement, from good to bad, correlated."""
    scale = 10.0 ** (-1.5 + 1.5 * torch.rand(count, generator=generator, dtype=torch.float64))
    one = full(tensor(1.0, 0.2, -0.1, 1.2, 0.3, 0.9)) * scale[:, None, None].square()
    return torch.stack([one[:, i, j] for i, j in PAIRS], 1)


def draw(p: Parameters, count: int, seed: int = 0) -> tuple[Stars, Tensor]:
    """Return stars inside the square and their components, (n,)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    component = torch.multinomial(p.weight, 3 * count, replacement=True, generator=generator)
    k, n = p.num_clusters, len(component)
    covariance = errors(n, generator)
    grid = torch.rand(20 * n, 2, generator=generator, dtype=torch.float64) - 0.5
    kept = torch.multinomial((grid @ p.slope).exp(), n, generator=generator)
    position, motion = grid[kept], torch.zeros(n, 3, dtype=torch.float64)
    for c in range(len(p.weight)):
        rows = torch.where(component == c)[0]
        if c >= k:
            factor = torch.linalg.cholesky(full(p.field_covariance[c - k]))
            motion[rows] = p.field_mean[c - k] + normal(len(rows), 3) @ factor.T
            continue
        xx, xy, yy = p.shape[c].tolist()
        factor = torch.linalg.cholesky(tensor([xx, xy], [xy, yy]))
        nu = p.degrees[c]
        uniform = torch.rand(len(rows), generator=generator, dtype=torch.float64)
        squared = nu * (uniform ** (-2.0 / nu) - 1.0)  # of a bivariate Student-t
        direction = normal(len(rows), 2)
        direction = direction / direction.norm(dim=1, keepdim=True)
        position[rows] = p.centre[c] + (squared.sqrt()[:, None] * direction) @ factor.T
        spread = p.dispersion[c] * (1.0 + squared / nu) ** -0.25
        motion[rows] = p.mean[c] + spread[:, None] * normal(len(rows), 3) * tensor(0.0, 1.0, 1.0)
    noise = torch.linalg.cholesky(full(covariance)) @ normal(n, 3, 1)
    motion = motion + p.error_scale * noise[..., 0]
    inside = torch.where((position.abs() < 0.5).all(1))[0][:count]
    known = torch.ones(n, 3, dtype=torch.bool)
    return Stars(position, motion, covariance, known).take(inside), component[inside]
