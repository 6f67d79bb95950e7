import math

import numpy as np
import pytest
import torch

from lightning_modules.metrics.information import (
    gaussian_mutual_information,
    mutual_information_of_covariance,
    optimal_shrinkage,
    shrunk_correlation,
    total_correlation,
)


def mixed_covariance(size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.eye(size) + 0.3 * torch.randn(size, size, generator=generator)
    return (root @ root.T).double()


def draw(covariance: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.linalg.cholesky(covariance.double())
    return torch.randn(count, len(covariance), generator=generator, dtype=torch.float64) @ root.T


def test_two_variables_with_a_known_correlation() -> None:
    covariance = torch.tensor([[4.0, 0.6 * 2 * 3], [0.6 * 2 * 3, 9.0]])
    expected = -0.5 * math.log(1 - 0.36)
    assert float(mutual_information_of_covariance(covariance, 1)) == pytest.approx(expected)


def test_estimates_match_closed_form_within_their_error() -> None:
    covariance = mixed_covariance(7)
    truth = float(mutual_information_of_covariance(covariance, 4))
    values = [
        float(gaussian_mutual_information(x[:, :4], x[:, 4:]))
        for x in (draw(covariance, 300, seed) for seed in range(200))
    ]
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values) - truth) < 3 * error
    assert error < 0.01


@pytest.mark.parametrize("count", [60, 150, 1000])
@pytest.mark.parametrize("shrinkage", [0.0, 0.1, None])
def test_independent_blocks_share_nothing_on_average(count: int, shrinkage: float | None) -> None:
    values, biased = [], []
    for seed in range(100):
        x = draw(torch.eye(31), count, seed)
        values.append(float(gaussian_mutual_information(x[:, :28], x[:, 28:], shrinkage)))
        biased.append(float(gaussian_mutual_information(x[:, :28], x[:, 28:], shrinkage, False)))
    error = np.std(values) / math.sqrt(len(values))
    # What is left of the bias is a few percent of it, where a batch is hardly larger than p + q.
    assert abs(np.mean(values)) < 4 * error + 0.05 * np.mean(biased)
    if shrinkage == 0.0 and count == 1000:
        assert np.mean(biased) == pytest.approx(28 * 3 / (2 * count), rel=0.05)


def test_units_and_constant_columns_play_no_role() -> None:
    x = draw(mixed_covariance(5), 500, 1)
    plain = gaussian_mutual_information(x[:, :3], x[:, 3:], 0.05)
    scaled = gaussian_mutual_information(1e3 * x[:, :3] + 5, 1e-4 * x[:, 3:], 0.05)
    assert float(scaled) == pytest.approx(float(plain), abs=1e-9)
    dead = torch.cat([x[:, :3], torch.full((500, 1), 7.0)], 1)
    kwargs = {"shrinkage": 0.05, "bias_correction": False}
    with_dead = gaussian_mutual_information(dead, x[:, 3:], **kwargs)
    without = gaussian_mutual_information(x[:, :3], x[:, 3:], **kwargs)
    assert float(with_dead) == pytest.approx(float(without), abs=1e-9)


def test_gradient_lowers_the_information_and_is_finite_even_when_singular() -> None:
    u = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    z = torch.cat([u, u[:, :1]], 1).requires_grad_()
    information = gaussian_mutual_information(z, u, 0.01)
    information.backward()
    assert math.isfinite(float(information.detach()))
    assert torch.isfinite(z.grad).all()
    moved = (z - 0.5 * z.grad / z.grad.norm() * z.norm()).detach()
    assert float(gaussian_mutual_information(moved, u, 0.01)) < float(information)
    assert math.isfinite(float(gaussian_mutual_information(z.detach(), u)))


def test_total_correlation_of_gaussians() -> None:
    covariance = mixed_covariance(6)
    truth = -0.5 * float(torch.logdet(shrunk_correlation(covariance)))
    for expected, matrix in ((truth, covariance), (0.0, torch.eye(6).double())):
        values = [float(total_correlation(draw(matrix, 120, seed))) for seed in range(200)]
        error = np.std(values) / math.sqrt(len(values))
        assert abs(np.mean(values) - expected) < 3.5 * error + 1e-4


def test_shrinkage_is_strong_for_noise_and_weak_for_signal() -> None:
    noise = torch.cov(draw(torch.eye(20), 50, 0).T)
    signal = torch.cov(draw(mixed_covariance(20), 5000, 0).T)
    assert float(optimal_shrinkage(noise, 50)) > 0.7
    assert float(optimal_shrinkage(signal, 5000)) < 0.02


def test_covariance_of_few_samples_is_allowed() -> None:
    x = draw(torch.eye(31), 20, 0)
    assert math.isfinite(float(gaussian_mutual_information(x[:, :28], x[:, 28:], None)))
