import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.spectra.moments import RunningMoments, covariance_of, moments_of
from lightning_modules.spectra.separability import SEPARABILITIES, SeparabilityLoss

DIM, LABELS = 4, 2
MEASURING = [name for name in SEPARABILITIES if name != "none"]


def same(values: Tensor) -> Tensor:
    """Sum over one process."""
    return values


def build(name: str, weight: float = 1.0, momentum: float = 0.0) -> SeparabilityLoss:
    torch.manual_seed(0)
    return SEPARABILITIES[name](DIM, LABELS, weight, momentum)


def drawn(num: int, rho: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of which the first has correlation rho with the first label."""
    torch.manual_seed(seed)
    z, u = torch.randn(num, DIM), torch.randn(num, LABELS)
    z[:, 0] = rho * u[:, 0] + math.sqrt(1 - rho**2) * z[:, 0]
    return z, u, torch.ones(num, dtype=torch.bool)


@pytest.mark.parametrize("name", MEASURING)
def test_each_has_gradients_and_sees_dependence(name: str) -> None:
    loss = build(name)
    z, u, counts = drawn(400, 0.9)
    z.requires_grad_()
    value, term = loss(z, u, counts, same)
    term.backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert z.grad.abs().max() > 0
    assert not value.requires_grad
    if name != "adversary":  # which must learn first
        independent = loss.eval()(*drawn(400, 0.0), same)[0]
        assert value > independent + 0.02
        assert abs(independent) < 0.03


def test_information_is_that_of_a_gaussian_and_zero_without_dependence() -> None:
    loss = build("gaussian_mi").eval()
    value, _ = loss(*drawn(20000, 0.7), same)
    assert value.item() == pytest.approx(-0.5 * math.log(1 - 0.49), abs=0.01)
    single = [loss(*drawn(100, 0.0, seed), same)[0].item() for seed in range(100)]
    assert abs(sum(single) / 100) < 0.01


def test_cross_correlation_is_information_where_small() -> None:
    value, _ = build("cross_correlation").eval()(*drawn(20000, 0.2), same)
    assert value.item() == pytest.approx(0.5 * 0.04, abs=0.003)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", ["gaussian_mi", "cross_correlation"])
def test_descent_makes_latents_independent(name: str, momentum: float) -> None:
    loss = build(name, momentum=momentum)
    z, u, counts = drawn(512, 0.9)
    mix = torch.zeros(LABELS, DIM, requires_grad=True)
    optimizer = torch.optim.SGD([mix], lr=0.05)
    for step in range(400):
        rows = torch.arange(512).roll(64 * step)[:64]
        optimizer.zero_grad()
        loss(z[rows] + u[rows] @ mix, u[rows], counts[rows], same)[1].backward()
        optimizer.step()
    left = torch.corrcoef(torch.cat([z + u @ mix.detach(), u], 1).mT)[:DIM, DIM:]
    assert left.abs().max() < 0.2
    assert left[0, 0].abs() < 0.1


def test_adversary_learns_and_the_latents_flee() -> None:
    z, u, counts = drawn(512, 0.95)
    loss = build("adversary", weight=0.0)  # measured, not trained
    mix = torch.zeros(LABELS, DIM, requires_grad=True)
    optimizer = torch.optim.Adam([mix, *loss.parameters()], lr=0.01)

    def train(steps: int) -> float:
        for _ in range(steps):
            optimizer.zero_grad()
            value, term = loss(z + u @ mix, u, counts, same)
            term.backward()
            optimizer.step()
        return float(value)

    assert train(150) > 0.8
    assert mix.abs().max() == 0.0
    loss.weight = 1.0
    train(300)
    left = torch.corrcoef(torch.cat([z + u @ mix.detach(), u], 1).mT)[0, DIM]
    assert abs(left) < 0.5


@pytest.mark.parametrize("name", MEASURING)
def test_weight_scales_the_gradient_of_the_latents(name: str) -> None:
    gradients = []
    for weight in (0.0, 1.0, 5.0):
        z, u, counts = drawn(50, 0.5)
        z.requires_grad_()
        build(name, weight)(z, u, counts, same)[1].backward()
        assert z.grad is not None
        gradients.append(z.grad)
    assert (gradients[0] == 0).all()
    torch.testing.assert_close(gradients[2], 5 * gradients[1])


@pytest.mark.parametrize("name", SEPARABILITIES)
def test_stars_that_do_not_count_have_no_part(name: str) -> None:
    z, u, counts = drawn(60, 0.8)
    counts[40:] = False
    answers: list[Any] = []
    for fill in (0.0, 5.0):
        z[40:] = fill
        latent = z.clone().requires_grad_()
        value, term = build(name)(latent, u, counts, same)
        if term.requires_grad:
            term.backward()
            assert latent.grad is not None
            assert (latent.grad[40:] == 0).all()
        answers.append(value)
    torch.testing.assert_close(answers[0], answers[1])


@pytest.mark.parametrize("name", SEPARABILITIES)
@pytest.mark.parametrize("num", [1, 3])
def test_few_stars_are_no_trouble(name: str, num: int) -> None:
    value, term = build(name)(*drawn(num, 0.5), same)
    assert value.isfinite()
    assert term.isfinite()


def test_moments_of_parts_are_those_of_the_whole() -> None:
    rows = torch.randn(50, 3) + 7
    counts = torch.rand(50) > 0.3
    parts = zip(rows.split(11), counts.split(11), strict=True)
    total = sum((moments_of(*part) for part in parts), torch.zeros(4, 4))
    torch.testing.assert_close(covariance_of(total).float(), rows[counts].mT.cov())


def test_running_moments_forget_at_the_momentum_and_keep_the_slope() -> None:
    running = RunningMoments(1, 0.5)
    first, second = (moments_of(torch.full((10, 1), x), torch.ones(10) > 0) for x in (4.0, 1.0))
    running(first)
    second.requires_grad_()
    moments, number = running(second)
    assert (moments[0, 1] / moments[0, 0]).item() == pytest.approx((0.5 * 4 + 1) / 1.5)
    assert number.item() == pytest.approx(15**2 / 12.5)
    (moments[0, 1] / moments[0, 0].detach()).backward()
    assert second.grad is not None
    assert second.grad[0, 1].item() == pytest.approx(1 / 10)  # that of the batch's own mean
