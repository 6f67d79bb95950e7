import math

import numpy as np
import pytest
import torch

from lightning_modules.losses.divergence import gaussian_kl
from lightning_modules.spectra.losses import (
    negative_log_likelihood,
    scattered_negative_log_likelihood,
    with_scatter,
)


def inputs(seed: int = 0) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(seed)
    y, x = torch.randn(2, 4, 30, dtype=torch.float64).float()
    weight = torch.rand(4, 30) * (torch.rand(4, 30) > 0.3)
    return y.requires_grad_(), x, weight


def test_likelihood_is_that_of_gaussian_errors() -> None:
    y, x, weight = inputs()
    good = weight > 0
    sigma = weight.clamp_min(1e-9).rsqrt()
    normal = torch.distributions.Normal(y, sigma)
    at_best = torch.distributions.Normal(x, sigma).log_prob(x)
    expected = -torch.where(good, normal.log_prob(x) - at_best, 0.0).sum(dim=1)
    torch.testing.assert_close(negative_log_likelihood(y, x, weight), expected)


def test_likelihood_gradient_is_that_of_the_formula() -> None:
    y, x, weight = inputs()
    stars = torch.rand(4)
    (stars * negative_log_likelihood(y, x, weight)).sum().backward()
    torch.testing.assert_close(y.grad, stars[:, None] * weight * (y.detach() - x))
    assert (y.grad[weight == 0] == 0).all()  # type: ignore[index]


def test_likelihood_with_scatter_adds_in_quadrature() -> None:
    y, x, weight = inputs()
    scatter = torch.linspace(0.1, 2.0, 30)
    found = scattered_negative_log_likelihood(y, x, weight, scatter.log())
    good = weight > 0
    total = (1 / weight.clamp_min(1e-9) + scatter.square()).sqrt()
    log_prob = torch.distributions.Normal(y, total).log_prob(x)
    noise_alone = torch.distributions.Normal(x, weight.clamp_min(1e-9).rsqrt()).log_prob(x)
    expected = torch.where(good, noise_alone - log_prob, 0.0).sum(dim=1)
    torch.testing.assert_close(found, expected)
    expected_weight = torch.where(good, total**-2, 0.0)
    torch.testing.assert_close(with_scatter(weight, scatter.log()), expected_weight)


def test_scatter_that_fits_best_is_the_one_simulated() -> None:
    torch.manual_seed(0)
    error, scatter = 0.5 + torch.rand(4000, 3), torch.tensor([0.3, 1.0, 3.0])
    x = (error.square() + scatter.square()).sqrt() * torch.randn(4000, 3)
    log_scatter = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([log_scatter], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss = scattered_negative_log_likelihood(torch.zeros(4000, 3), x, error**-2, log_scatter)
        loss.mean().backward()
        optimizer.step()
    np.testing.assert_allclose(log_scatter.detach().exp(), scatter, rtol=0.15)


def test_no_scatter_is_the_plain_likelihood() -> None:
    y, x, weight = inputs()
    found = scattered_negative_log_likelihood(y, x, weight, torch.full((30,), -20.0))
    torch.testing.assert_close(found, negative_log_likelihood(y, x, weight))


@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 1.0), (1.5, 0.2), (-3.0, 2.0)])
def test_kl_is_the_closed_form(mean: float, sigma: float) -> None:
    q, prior = torch.distributions.Normal(mean, sigma), torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(q, prior)
    found = gaussian_kl(torch.tensor(mean), torch.tensor(2 * math.log(sigma)))
    torch.testing.assert_close(found, torch.as_tensor(expected))
