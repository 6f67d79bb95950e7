from typing import Literal

import pytest
import torch
from torch import Tensor

from lightning_modules import StellarAutoencoder
from lightning_modules.clustering.losses import kl_divergence
from lightning_modules.clustering.network import (
    AutoencoderNet,
    VariationalNet,
    soft_assignment,
    target_distribution,
)


def rows(count: int, width: int = 5) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0))


def test_soft_assignment_of_hand_computed_points() -> None:
    # Squared distances 0 and 3: kernels 1 and 1/4 for α = 1; 1 and (1 + 3/2)^-1.5 for α = 2.
    z, centres = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0**0.5, 0.0]])
    torch.testing.assert_close(soft_assignment(z, centres), torch.tensor([[0.8, 0.2]]))
    far = 2.5**-1.5
    expected = torch.tensor([[1 / (1 + far), far / (1 + far)]])
    torch.testing.assert_close(soft_assignment(z, centres, alpha=2.0), expected)


def test_soft_assignment_of_far_points_does_not_underflow() -> None:
    q = soft_assignment(torch.full((1, 2), 1e12), torch.tensor([[0.0, 0.0], [1.0, 1.0]]), 9.0)
    torch.testing.assert_close(q, torch.tensor([[0.5, 0.5]]))


def test_half_precision_latent_gives_single_precision_memberships() -> None:
    assert soft_assignment(rows(4, 2).bfloat16(), rows(3, 2)).dtype == torch.float32


def test_target_distribution_of_hand_computed_memberships() -> None:
    q = torch.tensor([[0.8, 0.2], [0.6, 0.4]])  # F = (1.4, 0.6)
    first = torch.tensor([0.64 / 1.4, 0.04 / 0.6])
    second = torch.tensor([0.36 / 1.4, 0.16 / 0.6])
    expected = torch.stack([first / first.sum(), second / second.sum()])
    torch.testing.assert_close(target_distribution(q), expected)
    free = torch.tensor([[0.64 / 0.68, 0.04 / 0.68], [0.36 / 0.52, 0.16 / 0.52]])
    torch.testing.assert_close(target_distribution(q, balance=False), free)


def test_target_distribution_takes_the_frequencies_of_another_set() -> None:
    q = torch.softmax(rows(50, 3), dim=1)
    whole = target_distribution(q)
    part = target_distribution(q[:7], frequency=q.sum(0))
    torch.testing.assert_close(part, whole[:7])
    torch.testing.assert_close(target_distribution(q[:7], frequency=9 * q.sum(0)), whole[:7])
    assert not torch.allclose(target_distribution(q[:7]), whole[:7])  # a batch is not the whole


def test_a_dead_cluster_does_not_break_the_target() -> None:
    p = target_distribution(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert torch.equal(p, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_gradient_of_the_clustering_loss_is_the_published_formula(alpha: float) -> None:
    # dL/dz_i = (α+1)/α Σ_j (1 + |z_i-μ_j|²/α)^-1 (p_ij - q_ij)(z_i - μ_j); ours is a mean over i.
    z, centres = rows(6, 2).double().requires_grad_(), 2 * rows(3, 2).double()
    q = soft_assignment(z, centres, alpha)
    p = target_distribution(q.detach())
    kl_divergence(p, q).backward()
    difference = z.detach().unsqueeze(1) - centres
    kernel = 1 / (1 + difference.square().sum(-1) / alpha)
    weight = kernel * (p - q.detach())
    expected = (alpha + 1) / alpha * (weight.unsqueeze(-1) * difference).sum(1) / len(z)
    torch.testing.assert_close(z.grad, expected)


def test_permuted_stars_give_permuted_results() -> None:
    z, centres, order = rows(20, 3), rows(4, 3), torch.randperm(20)
    q = soft_assignment(z, centres)
    torch.testing.assert_close(soft_assignment(z[order], centres), q[order])
    torch.testing.assert_close(target_distribution(q[order]), target_distribution(q)[order])


def test_renamed_clusters_give_renamed_results() -> None:
    z, centres, order = rows(20, 3), rows(4, 3), torch.tensor([2, 0, 3, 1])
    q = soft_assignment(z, centres)
    torch.testing.assert_close(soft_assignment(z, centres[order]), q[:, order])


def test_the_papers_network_is_reached_by_arguments() -> None:
    net = AutoencoderNet(64, [500, 500, 2000], 10, batch_norm=False, dropout=0.0)
    shapes = [tuple(p.shape) for p in net.parameters() if p.ndim == 2]
    down = [(500, 64), (500, 500), (2000, 500), (10, 2000)]
    assert shapes == down + [(b, a) for a, b in reversed(down)]
    names = {type(module).__name__ for module in net.modules()}
    assert "BatchNorm" not in names


def test_the_default_network_is_the_guides() -> None:
    net = StellarAutoencoder(5).net
    widths = [p.shape[0] for name, p in net.named_parameters() if name.endswith("linear.weight")]
    assert widths == [128, 64, 32, 32, 64, 128]
    latent = net.encode(rows(8))
    reconstruction = net.decode(latent)
    assert reconstruction.shape == (8, 5)
    assert latent.shape == (8, 16)
    assert (latent < 0).any()  # linear, not behind a ReLU
    assert (reconstruction < 0).any()


@pytest.mark.parametrize("variant", ["plain", "residual", "attention"])
def test_variational_network(variant: Literal["plain", "residual", "attention"]) -> None:
    net = VariationalNet(5, [8], 3, variant=variant)
    x = rows(16)
    reconstruction, mean, log_variance = net(x)
    assert (reconstruction.shape, mean.shape, log_variance.shape) == ((16, 5), (16, 3), (16, 3))
    assert not torch.equal(net(x)[0], net(x)[0])  # sampled in training
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])
    torch.testing.assert_close(net(x)[0], net.decode(net.encode(x)))
