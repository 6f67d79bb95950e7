import math

import pytest
import torch

from lightning_modules.losses.divergence import gaussian_kl
from lightning_modules.spectra.structure import (
    STRUCTURES,
    Posterior,
    total_correlation_of_mixture,
)


def posterior(num: int = 500, dim: int = 3, std: float = 0.3, seed: int = 0) -> Posterior:
    """Latents whose aggregate is the standard normal."""
    torch.manual_seed(seed)
    mean = math.sqrt(1 - std**2) * torch.randn(num, dim)
    log_variance = torch.full_like(mean, 2 * math.log(std))
    return Posterior(mean, log_variance, mean + std * torch.randn_like(mean))


@pytest.mark.parametrize("name", STRUCTURES)
def test_each_has_gradients_and_pulls_towards_the_normal(name: str) -> None:
    near = posterior()
    noise = near.latent - near.mean
    far = Posterior(3 * near.mean + 2, near.log_variance, 3 * near.mean + 2 + noise)
    values = []
    for case in (near, far):
        inputs = [t.clone().requires_grad_() for t in case[:2]]
        value = STRUCTURES[name](Posterior(*inputs, inputs[0] + noise), 0.0, 10.0)
        value.backward()
        values.append(value.item())
        assert value.shape == ()
        assert inputs[0].grad is not None
        assert inputs[0].grad.abs().max() > 0
        assert inputs[0].grad.isfinite().all()
    assert values[1] > values[0] > -0.1


def test_kl_is_the_mean_over_stars() -> None:
    case = posterior(10)
    expected = gaussian_kl(case.mean, case.log_variance).sum(dim=1).mean()
    torch.testing.assert_close(STRUCTURES["kl"](case, 0.0, 10.0), expected)


def test_free_bits_leave_a_latent_alone() -> None:
    mean = torch.tensor([[0.1, 2.0], [-0.1, -2.0]], requires_grad=True)
    log_variance = torch.zeros(2, 2)
    value = STRUCTURES["kl"](Posterior(mean, log_variance, mean), 0.5, 10.0)
    assert value.item() == pytest.approx(0.5 + 2.0)
    value.backward()
    assert mean.grad is not None
    assert (mean.grad[:, 0] == 0).all()
    assert (mean.grad[:, 1] != 0).all()


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_single_star_is_no_trouble(name: str) -> None:
    assert STRUCTURES[name](posterior(1), 0.0, 10.0).isfinite()


def correlated(rho: float, std: float = 0.3, num: int = 2000) -> tuple[Posterior, float]:
    """Two latents with correlation rho in the aggregate, and their total correlation."""
    torch.manual_seed(0)
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]]) - std**2 * torch.eye(2)
    mean = torch.randn(num, 2) @ torch.linalg.cholesky(covariance).mT
    log_variance = torch.full_like(mean, 2 * math.log(std))
    case = Posterior(mean, log_variance, mean + std * torch.randn_like(mean))
    return case, -0.5 * math.log(1 - rho**2)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_total_correlation_is_that_of_a_gaussian(rho: float) -> None:
    case, expected = correlated(rho)
    assert total_correlation_of_mixture(case).item() == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("num", [40, 400])
def test_dip_penalises_the_same_at_any_batch_size(num: int) -> None:
    torch.manual_seed(0)
    root = torch.eye(4) + 0.2 * torch.randn(4, 4)
    expected = (root @ root.mT - torch.eye(4)).square().sum()
    gaps = []
    for _ in range(300):
        mean = torch.randn(num, 4) @ root.mT
        case = Posterior(mean, torch.zeros_like(mean), mean)
        gaps.append(STRUCTURES["dip"](case, 0.0, 1.0) - STRUCTURES["kl"](case, 0.0, 1.0))
    assert torch.stack(gaps).mean().item() == pytest.approx(expected.item(), rel=0.1)
