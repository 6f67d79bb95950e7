"""The sky that was looked at, and the share of a profile that falls on it."""

import math

import pytest
import torch
from scipy.stats import multivariate_t

from lightning_modules.clustering.mixture.footprint import (
    Footprint,
    Grid,
    log_profile,
    radius_squared,
)
from tests.lightning_modules.clustering.mixture.drawing import square, tensor


def disc(count: int, hole: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    xy = 2.0 * torch.rand(2 * count, 2, generator=generator, dtype=torch.float64) - 1.0
    radius = xy.norm(dim=1)
    return 0.5 * xy[(radius < 1.0) & (radius > hole)]


def test_two_degrees_of_freedom_are_plummer() -> None:
    a = 0.07
    position = torch.rand(50, 2, dtype=torch.float64)
    shape = tensor([a**2 / 2, 0.0, a**2 / 2])
    squared, log_determinant = radius_squared(position, tensor([0.3, 0.4]), shape)
    r2 = (position - tensor(0.3, 0.4)).square().sum(1)
    plummer = (a**2 / (math.pi * (a**2 + r2) ** 2)).log()
    found = log_profile(squared, log_determinant, tensor(2.0))[:, 0]
    torch.testing.assert_close(found, plummer)


def test_the_profile_is_students() -> None:
    position = torch.rand(50, 2, dtype=torch.float64)
    shape = tensor([0.02, 0.005, 0.01])
    squared, log_determinant = radius_squared(position, tensor([0.3, 0.4]), shape)
    matrix = [[0.02, 0.005], [0.005, 0.01]]
    expected = multivariate_t([0.3, 0.4], matrix, df=3.3).logpdf(position.numpy())
    found = log_profile(squared, log_determinant, tensor(3.3))[:, 0]
    torch.testing.assert_close(found, torch.from_numpy(expected))


@pytest.mark.parametrize("degrees", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.3, -0.2), (0.45, 0.1)])
@pytest.mark.parametrize("kind", ["square", "disc", "ring"])
def test_the_profile_integrates_to_one_inside(
    degrees: float, centre: tuple[float, float], kind: str
) -> None:
    sky = {
        "square": square,
        "disc": lambda: Footprint(Grid.of_stars(disc(15000))),
        "ring": lambda: Footprint(Grid.of_stars(disc(15000, hole=0.5))),
    }[kind]()
    shape = tensor([4e-3, 1e-3, 2e-3])
    log_share = sky.log_share(tensor(centre), shape, tensor(degrees))
    steps = (torch.arange(16, dtype=torch.float64) + 0.5) / 16 - 0.5
    fine = sky.cells[:, None] + torch.cartesian_prod(steps, steps) * sky.grid.cell
    squared, log_determinant = radius_squared(fine.reshape(-1, 2), tensor(centre), shape)
    density = (log_profile(squared, log_determinant, tensor(degrees)) - log_share).exp()
    area = float(sky.grid.cell.prod()) / 16**2
    assert float(density.sum()) * area == pytest.approx(1.0, abs=1e-3)


def test_the_grid_covers_the_stars_and_nothing_else() -> None:
    whole = Footprint(Grid.of_stars(disc(15000)))
    area = math.exp(float(whole.log_integral(torch.zeros(2, dtype=torch.float64))))
    assert area == pytest.approx(math.pi / 4, rel=0.05)
    ring = Footprint(Grid.of_stars(disc(15000, hole=0.5)))
    assert float(ring.cells.norm(dim=1).min()) < 0.05  # a hole is filled: it may be a dense core


def test_the_sky_density_integrates_to_one() -> None:
    sky, slope = square(), tensor(0.8, -0.4)
    exact = 1.0
    for s in slope.tolist():
        exact *= (math.exp(s / 2) - math.exp(-s / 2)) / s
    assert float(sky.log_integral(slope)) == pytest.approx(math.log(exact), abs=1e-4)
