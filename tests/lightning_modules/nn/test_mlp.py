import copy
from typing import Literal

import pytest
import torch
from torch import Tensor

from lightning_modules.nn.mlp import MLP, BatchNorm, Block, FeatureAttention

VARIANTS: list[Literal["plain", "residual", "attention"]] = ["plain", "residual", "attention"]


def random_rows(rows: int, width: int = 5) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_and_gradients_of_every_parameter(
    variant: Literal["plain", "residual", "attention"],
) -> None:
    net = MLP(5, [8, 6], 3, dropout=0.1, variant=variant)
    output = net(random_rows(16))
    assert output.shape == (16, 3)
    output.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_permuted_rows_give_permuted_outputs(
    variant: Literal["plain", "residual", "attention"],
) -> None:
    net = MLP(5, [8, 6], 3, variant=variant).eval()
    x, order = random_rows(16), torch.randperm(16)
    torch.testing.assert_close(net(x[order]), net(x)[order])


def test_plain_block_is_linear_norm_relu() -> None:
    block = Block(5, 4, batch_norm=True, dropout=0.0, residual=False).train()
    x = random_rows(32)
    y = block.linear(x)
    expected = torch.relu((y - y.mean(0)) / (y.var(0, unbiased=False) + 1e-5).sqrt())
    torch.testing.assert_close(block(x), expected)


def test_residual_block_adds_its_input() -> None:
    block = Block(5, 5, batch_norm=False, dropout=0.0, residual=True)
    x = random_rows(4)
    torch.testing.assert_close(block(x), torch.relu(block.linear(x)) + x)


def test_attention_mixes_features() -> None:
    attention = FeatureAttention(5)
    x = random_rows(1).requires_grad_()
    attention(x)[0, 0].backward()
    assert x.grad is not None
    assert (x.grad.abs() > 0).all()


def test_a_batch_of_one_is_normalised_by_running_statistics() -> None:
    norm = BatchNorm(3)
    norm(random_rows(64, 3) * 2 + 1)
    mean, count = norm.running_mean, norm.num_batches_tracked
    assert mean is not None
    assert count is not None
    before, seen = mean.clone(), int(count)
    one = random_rows(1, 3)
    trained = norm(one)
    torch.testing.assert_close(mean, before)
    assert int(count) == seen
    torch.testing.assert_close(trained, norm.eval()(one))


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_checkpointing_changes_nothing(
    variant: Literal["plain", "residual", "attention"],
) -> None:
    plain = MLP(5, [8, 6], 3, dropout=0.3, variant=variant)
    saving = copy.deepcopy(plain)
    saving.gradient_checkpointing = True
    for net in (plain, saving):
        torch.manual_seed(1)
        for _ in range(2):
            net(random_rows(16)).square().mean().backward()
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    for (name, a), b in zip(plain.state_dict().items(), saving.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
