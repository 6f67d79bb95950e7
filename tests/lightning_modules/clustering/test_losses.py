import math

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from lightning_modules.clustering.losses import (
    AdaptiveClusteringLoss,
    gaussian_log_likelihood,
    kl_divergence,
    reconstruction_error,
    weighted_sum,
    zero_from,
)
from lightning_modules.losses.divergence import gaussian_kl


def test_kl_divergence_of_known_distributions() -> None:
    p = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    q = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    expected = (0.5 * math.log(2) + 0.5 * math.log(2 / 3) + math.log(2)) / 2
    assert kl_divergence(p, q).item() == pytest.approx(expected)
    assert kl_divergence(p, p).item() == pytest.approx(0.0, abs=1e-7)


def test_kl_divergence_does_not_depend_on_the_batch_size() -> None:
    p, q = torch.softmax(torch.randn(8, 3), 1), torch.softmax(torch.randn(8, 3), 1)
    torch.testing.assert_close(kl_divergence(p.repeat(5, 1), q.repeat(5, 1)), kl_divergence(p, q))


def test_the_target_carries_no_gradient() -> None:
    p = torch.tensor([[0.3, 0.7]], requires_grad=True)
    q = torch.tensor([[0.5, 0.5]], requires_grad=True)
    kl_divergence(p, q).backward()
    assert p.grad is None
    torch.testing.assert_close(q.grad, torch.tensor([[-0.6, -1.4]]))


def test_reconstruction_error_of_known_values() -> None:
    x, found = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [3.0, 1.0]])
    good = torch.tensor([[True, True], [True, False]])
    assert reconstruction_error(x, found, good).tolist() == [2.5, 0.0]


@pytest.mark.parametrize("masked", [float("nan"), float("inf"), 1e30, 0.0])
def test_masked_features_change_neither_loss_nor_gradient(masked: float) -> None:
    x = torch.tensor([[1.0, masked], [3.0, 4.0]])
    found = torch.tensor([[0.5, 7.0], [2.0, 3.0]], requires_grad=True)
    good = torch.tensor([[True, False], [True, True]])
    reconstruction_error(x, found, good).mean().backward()
    torch.testing.assert_close(found.grad, torch.tensor([[-0.5, 0.0], [-0.5, -0.5]]))
    log_noise = torch.zeros(2, requires_grad=True)
    gaussian_log_likelihood(x, found.detach(), good, log_noise).sum().backward()
    torch.testing.assert_close(log_noise.grad, torch.tensor([0.25 - 1 + 1 - 1, 1.0 - 1]))


def test_a_star_without_good_features_has_no_error() -> None:
    none = torch.zeros(1, 2, dtype=torch.bool)
    assert reconstruction_error(torch.full((1, 2), torch.nan), torch.ones(1, 2), none).item() == 0.0


def test_gaussian_terms_are_those_of_torch_distributions() -> None:
    mean, log_variance = torch.randn(6, 3), torch.randn(6, 3)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    expected = reference_kl(posterior, Normal(torch.zeros(()), torch.ones(()))).sum(1)
    torch.testing.assert_close(gaussian_kl(mean, log_variance).sum(dim=1), expected)
    x, found, log_noise = torch.randn(6, 4), torch.randn(6, 4), torch.randn(4)
    likelihood = Normal(found, log_noise.exp()).log_prob(x).sum(1)
    good = torch.ones(6, 4, dtype=torch.bool)
    torch.testing.assert_close(gaussian_log_likelihood(x, found, good, log_noise), likelihood)


def test_evidence_lower_bound_of_a_linear_gaussian_is_tight() -> None:
    # z ~ N(0, 1), x|z ~ N(z, s²): with the exact posterior the bound is log N(x; 0, 1 + s²).
    s, x = 0.7, torch.tensor([[1.3]])
    mean, variance = x / (1 + s**2), torch.tensor([[s**2 / (1 + s**2)]])
    # E log p(x|z) over the posterior: the value at its mean less ½ Var(z)/s².
    at_mean = gaussian_log_likelihood(
        x, mean, torch.ones(1, 1, dtype=torch.bool), torch.tensor([math.log(s)])
    )
    bound = (
        at_mean - 0.5 * variance.squeeze(1) / s**2 - gaussian_kl(mean, variance.log()).sum(dim=1)
    )
    exact = Normal(torch.zeros(()), torch.tensor((1 + s**2) ** 0.5)).log_prob(x).squeeze(1)
    torch.testing.assert_close(bound, exact)


def test_zero_with_a_gradient_of_zero() -> None:
    parameter = torch.ones(2, requires_grad=True)
    zero = zero_from([parameter])
    zero.backward()
    assert zero.item() == 0.0
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [0.0, 0.0]


def test_learned_weights_start_from_those_given_and_end_at_the_inverse_of_twice_the_loss() -> None:
    first, values = {"a": 2.0, "b": 0.1}, {"a": torch.tensor(0.5), "b": torch.tensor(4.0)}
    loss = AdaptiveClusteringLoss(first)
    found = {name: 0.5 * (-2 * scale).exp().item() for name, scale in loss.log_scale.items()}
    assert found == pytest.approx(first)
    optimizer = torch.optim.LBFGS(loss.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        total: torch.Tensor = loss(first, values)
        total.backward()
        return total.item()

    optimizer.step(closure)
    found = {name: 0.5 * (-2 * scale).exp().item() for name, scale in loss.log_scale.items()}
    assert found == pytest.approx({"a": 1.0, "b": 0.125}, rel=1e-3)


def test_only_the_named_terms_count() -> None:
    values = {"a": torch.tensor(3.0), "b": torch.tensor(math.inf)}
    assert weighted_sum({"a": 2.0}, values).item() == 6.0
    loss = AdaptiveClusteringLoss({"a": 0.5, "b": 0.5})
    assert loss({"a": 0.5}, values).item() == 1.5
    with pytest.raises(ValueError, match=r"raise those of \['a'\]"):
        AdaptiveClusteringLoss({"a": 0.0})
