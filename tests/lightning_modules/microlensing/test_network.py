import pytest
import torch
from torch import Tensor, nn

from lightning_modules import TimeDistributedCNN
from lightning_modules.microlensing.curves import KeptEpochs, keep_epochs
from lightning_modules.microlensing.network import (
    CausalConv1d,
    DilatedNetwork,
    MaskedBatchNorm,
    ReferenceNetwork,
)
from tests.lightning_modules.microlensing.curves import NAMES, build, light_curves


def kept(batch: dict[str, Tensor]) -> KeptEpochs:
    return keep_epochs(batch["flux"], batch["flux_error"], batch["time"], batch["good"])


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_reference_has_its_number_of_parameters() -> None:
    assert parameters(ReferenceNetwork(2, [128, 64, 32], [5, 3, 3], 64, 0.3)) == 34_274
    assert parameters(TimeDistributedCNN().net) == 28_034


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_the_future_changes_nothing_bit_for_bit(name: str) -> None:
    net, batch = build(name).net, light_curves(4, 80)
    batch["good"][:, :] = True
    batch["flux"], batch["flux_error"] = torch.rand(4, 80) + 0.5, torch.rand(4, 80) + 0.01
    before = net(kept(batch))
    for t in (0, 3, 4, 5, 39, 40, 78):
        other = {key: value.clone() for key, value in batch.items()}
        other["flux"][:, t + 1 :] = 1e4 * torch.rand(4, 79 - t)
        other["flux_error"][:, t + 1 :] = 7.0
        other["time"][:, t + 1 :] += 1000.0
        other["good"][1:, t + 1 :] &= torch.rand(3, 79 - t) > 0.5  # the first keeps the length
        after = net(kept(other))
        assert torch.equal(before[:, : t + 1], after[:, : t + 1])
        assert not torch.equal(before[:, t + 1 :], after[:, t + 1 :])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_the_past_and_the_present_only(name: str) -> None:
    net = build(name).net
    for n in range(0, 23):
        batch = light_curves(1, 23)
        batch["good"][:] = True
        batch["flux"] = (torch.rand(1, 23) + 0.5).requires_grad_()
        batch["flux_error"] = (torch.rand(1, 23) + 0.1).requires_grad_()
        net(kept(batch))[0, n, 0].backward()
        for key in ("flux", "flux_error"):
            gradient = batch[key].grad
            assert gradient is not None
            assert (gradient[0, n + 1 :] == 0).all()
        assert batch["flux"].grad is not None
        assert batch["flux"].grad[0, n] != 0  # each epoch counts as soon as it is there


def test_the_default_network_sees_the_whole_curve() -> None:
    torch.manual_seed(0)
    net = TimeDistributedCNN().net
    reach = sum(conv.reach for conv in net.levels if isinstance(conv, CausalConv1d))
    assert (reach + 1) * 5 == 2555  # epochs through convolutions alone
    flux = (1 + 0.1 * torch.randn(1, 2000)).requires_grad_()
    time = torch.arange(2000.0).double()[None]
    net(keep_epochs(flux, torch.full((1, 2000), 0.1), time, time >= 0))[0, -1, 1].backward()
    assert flux.grad is not None
    assert (flux.grad[0, :50] != 0).any()


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_a_prefix_gives_the_outputs_of_the_whole(name: str) -> None:
    net, batch = build(name).net, light_curves(3, 90)
    whole = net(kept(batch))
    for cut in (1, 4, 20, 33, 61):
        prefix = kept({key: value[:, :cut] for key, value in batch.items() if value.ndim == 2})
        found = net(prefix)
        for row, count in enumerate(prefix.num_epochs.tolist()):
            torch.testing.assert_close(found[row, :count], whole[row, :count], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_a_curve_does_not_depend_on_its_batch(name: str) -> None:
    net, batch = build(name).net, light_curves(6, 70)
    batch["good"][:3, 30:] = False  # short curves beside long ones
    whole, counts = net(kept(batch)), kept(batch).num_epochs
    for row in range(6):
        alone = net(kept({key: value[row : row + 1] for key, value in batch.items()}))
        torch.testing.assert_close(alone[0], whole[row, : counts[row]], atol=1e-5, rtol=1e-5)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = net(kept({key: value[order] for key, value in batch.items()}))
    torch.testing.assert_close(permuted, whole[order], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_a_constant_curve_becomes_stationary() -> None:
    net = build("dilated").net
    assert isinstance(net, DilatedNetwork)
    size = net.epochs_per_token
    tokens = 2 + sum(conv.reach for conv in net.levels if isinstance(conv, CausalConv1d))
    flux, time = torch.full((1, 40 * size), 1.3), torch.arange(40.0 * size).double()[None]
    logits = net(keep_epochs(flux, 0.1 * flux, time, flux > 0))[0].unflatten(0, (-1, size))
    later = logits[tokens:]  # beyond the receptive field only the place in the token matters
    torch.testing.assert_close(later, later[:1].expand_as(later), atol=1e-6, rtol=1e-6)
    assert not torch.allclose(logits[0], logits[tokens])


@torch.no_grad()
def test_the_reference_answers_with_the_mean_of_its_logits() -> None:
    net = build("reference").net
    flux, time = torch.full((1, 30), 1.3), torch.arange(30.0).double()[None]
    logits = net(keep_epochs(flux, 0.1 * flux, time, flux > 0))[0]
    each = logits * torch.arange(1, 31).unsqueeze(-1)
    each = torch.cat([each[:1], each.diff(dim=0)])
    torch.testing.assert_close(each[8:], each[8:9].expand(22, -1), atol=1e-4, rtol=1e-4)


def test_masked_normalisation_is_that_of_the_entries_that_exist() -> None:
    masked, plain = MaskedBatchNorm(3), nn.BatchNorm1d(3)
    x, valid = torch.randn(4, 3, 10), torch.rand(4, 10) > 0.4
    found = masked(torch.where(valid[:, None], x, 1e6), valid)
    expected = plain(x.transpose(1, 2)[valid])
    torch.testing.assert_close(found.transpose(1, 2)[valid], expected)
    assert masked.running_mean is not None
    assert plain.running_mean is not None
    torch.testing.assert_close(masked.running_mean, plain.running_mean)
    assert (found.transpose(1, 2)[~valid] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (2, 1), (3, 1), (3, 4), (5, 2)])
def test_a_convolution_step_by_step_is_the_convolution(kernel_size: int, dilation: int) -> None:
    conv = CausalConv1d(3, 2, kernel_size, dilation)
    x = torch.randn(1, 3, 40)
    history = conv.start()
    steps = [conv.push(history, t, x[0, :, t]) for t in range(40)]
    torch.testing.assert_close(torch.stack(steps, dim=-1), conv(x)[0])
