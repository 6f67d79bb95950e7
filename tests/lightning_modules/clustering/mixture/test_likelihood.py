"""The density of a star: errors convolved, gaps marginalised."""

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from lightning_modules.clustering.mixture.likelihood import (
    Integrals,
    Stars,
    components,
    log_terms,
)
from tests.lightning_modules.clustering.mixture.drawing import draw, full, mixture, square, tensor


def test_errors_are_convolved_with_the_distribution_of_true_motions() -> None:
    p = mixture(0, 1)
    stars, _ = draw(p, 5)
    found = log_terms(p, Integrals.of(p, square()), stars)[:, 0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    nodes, weights = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    # The integral over true motions, taken where the errors are: exact for the smooth prior.
    unit = torch.cartesian_prod(nodes, nodes, nodes)
    weight = torch.cartesian_prod(weights, weights, weights).prod(1)
    prior = MultivariateNormal(p.field_mean[0], full(p.field_covariance[0]))
    for i in range(len(stars.motion)):
        factor = torch.linalg.cholesky(full(stars.covariance[i])) * p.error_scale
        true = stars.motion[i] + unit @ factor.T
        integral = (weight * prior.log_prob(true).exp()).sum().log()
        sky = stars.position[i] @ p.slope - square().log_integral(p.slope)
        torch.testing.assert_close(found[i], integral + sky, rtol=1e-6, atol=1e-6)


def test_a_cluster_is_profile_times_normal_of_falling_dispersion_and_depth() -> None:
    p = mixture()
    stars, _ = draw(p, 200)
    integrals = Integrals.of(p, square())
    found = log_terms(p, integrals, stars)
    xx, xy, yy = p.shape[0].tolist()
    offset = stars.position - p.centre[0]
    r2 = (offset @ torch.linalg.inv(tensor([xx, xy], [xy, yy])) * offset).sum(1)
    variance = p.dispersion[0] ** 2 / (1 + r2 / 2).sqrt()
    depth = np.radians(1.0) ** 2 * (xx * yy - xy**2) ** 0.5 * (1 + r2 / 2)
    spread = torch.diag_embed(variance[:, None] * tensor(0.0, 1.0, 1.0))
    spread = spread + depth[:, None, None] * torch.outer(p.mean[0], p.mean[0])
    matrix = full(stars.covariance) * p.error_scale**2 + spread
    kinematic = MultivariateNormal(p.mean[0], matrix).log_prob(stars.motion)
    plummer = -np.log(2 * np.pi) - 0.5 * np.log(xx * yy - xy**2) - 2 * (1 + r2 / 2).log()
    expected = p.weight[0].log() + plummer - integrals.log_share[0] + kinematic
    torch.testing.assert_close(found[:, 0], expected)


def test_the_depth_is_that_of_a_sphere() -> None:
    """A Plummer sphere of radius a has <z²> = (a² + R²) / 2 along the line of sight at R."""
    generator = torch.Generator().manual_seed(0)
    mass = torch.rand(2_000_000, generator=generator, dtype=torch.float64)
    radius = (mass ** (-2.0 / 3.0) - 1.0) ** -0.5
    cosine = 2.0 * torch.rand(len(radius), generator=generator, dtype=torch.float64) - 1.0
    projected = radius * (1.0 - cosine.square()).sqrt()
    ring = (projected > 0.95) & (projected < 1.05)
    line_of_sight = (radius * cosine)[ring]
    a = 0.3  # degrees: r²/ν = R²/a², √|A| = a²/2
    p = mixture(1)._replace(shape=tensor([a**2 / 2, 0.0, a**2 / 2]), dispersion=tensor(0.0))
    star, _ = draw(p, 1)
    star = star._replace(position=p.centre + tensor([0.0, a]))
    found = components(p, Integrals.of(p, square()), star).covariance[0][0, 0]
    spread = (found - p.error_scale**2 * star.covariance[0, 0]).sqrt() / p.mean[0, 0]
    expected = np.radians(a) * line_of_sight.square().clamp(max=100.0).mean().sqrt()
    assert float(spread) == pytest.approx(float(expected), rel=0.05)


@pytest.mark.parametrize("gaps", [(0, 1, 2), (0,), (2,)])
def test_what_is_unknown_is_marginalised(gaps: tuple[int, ...]) -> None:
    p = mixture()
    stars, _ = draw(p, 400)
    broad = stars.covariance[:, 3] > 0.1  # so that a grid resolves every component
    one = stars.take(torch.where(broad)[0][:1])
    unknown = torch.ones(1, 3, dtype=torch.bool)
    unknown[:, list(gaps)] = False
    features = torch.cat([one.position, torch.where(unknown, one.motion, torch.nan)], 1)
    covariance = torch.zeros(1, 5, 5, dtype=torch.float64)
    covariance[:, 2:, 2:] = full(one.covariance)
    covariance[:, [2 + g for g in gaps]] = torch.nan
    blind = Stars.of_batch(features, covariance)
    good = torch.cat([torch.ones(1, 2, dtype=torch.bool), unknown], 1)
    filled = features.nan_to_num(7.0), covariance.nan_to_num(7.0)
    for found, expected in zip(Stars.of_batch(*filled, good), blind, strict=True):
        assert torch.equal(found, expected)
    integrals = Integrals.of(p, square())
    found = log_terms(p, integrals, blind).exp()[0]
    axes = [
        torch.linspace(-12, 14, 66),
        torch.linspace(-45, 40, 132),
        torch.linspace(-45, 45, 139),
    ]
    used = [axes[g].double() if g in gaps else one.motion[0, g : g + 1] for g in range(3)]
    grid = torch.cartesian_prod(*used)
    many = Stars(
        one.position.expand(len(grid), 2), grid, one.covariance.expand(len(grid), 6),
        torch.ones(len(grid), 3, dtype=torch.bool),
    )  # fmt: skip
    step = torch.tensor([float(used[g][1] - used[g][0]) for g in gaps]).prod()
    total = log_terms(p, integrals, many).exp().sum(0) * step
    torch.testing.assert_close(found, total, rtol=2e-3, atol=0.0)
