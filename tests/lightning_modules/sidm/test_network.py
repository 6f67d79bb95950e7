from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules import CompactClustering
from lightning_modules.sidm.network import (
    Classifier,
    Decoder,
    Encoder,
    NetworkName,
    bottleneck,
)
from lightning_modules.sidm.trunks import Inception, ReducedTrunk
from tests.lightning_modules.sidm.plain import (
    PlainInception,
    PlainNetwork,
    give_weights,
    plain_full,
    plain_reduced,
)

PLAIN: dict[NetworkName, tuple[Callable[[float], PlainNetwork], int]] = {
    "reduced": (plain_reduced, 232_139),
    "full": (plain_full, 3_443_091),
}


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize("network", PLAIN)
def test_the_papers_networks_have_the_papers_parameters(network: NetworkName) -> None:
    make, expected = PLAIN[network]
    assert parameters(CompactClustering(network=network, profile_rings=0)) == expected
    assert parameters(make(0.1)) == expected


def test_the_fast_reduced_network_is_the_plain_one() -> None:
    """Output and gradient, without dropout, whose masks are drawn for other shapes."""
    plain, ours = plain_reduced(0.0), Encoder("reduced", 1, 100, 7, dropout=0.0)
    head = Classifier(7, 64, 4, 0.0)
    give_weights(plain, ours, head)
    x = torch.randn(3, 1, 100, 100)
    good = torch.ones(3, 100, 100, dtype=torch.bool)
    latent = ours(x, x, x.new_zeros(3, 1), good)
    expected, logits = plain(x)
    torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head(latent), logits, rtol=1e-4, atol=1e-5)
    head(latent).square().sum().backward()
    logits.square().sum().backward()
    for a, b in ((ours.trunk.stages[0][0], plain.features[0][0]), (ours.hidden, plain.hidden[0])):
        torch.testing.assert_close(a.weight.grad, b.weight.grad, rtol=1e-3, atol=1e-5)


def test_the_fast_full_network_is_the_plain_one() -> None:
    plain, ours = plain_full(0.0, 32), Encoder("full", 1, 32, 7, dropout=0.0)
    head = Classifier(7, 64, 4, 0.0)
    give_weights(plain, ours, head)
    x = torch.randn(2, 1, 32, 32)
    latent = ours(x, x, x.new_zeros(2, 1), torch.ones(2, 32, 32, dtype=torch.bool))
    torch.testing.assert_close(latent, plain(x)[0], rtol=1e-4, atol=1e-5)


def test_dropped_channels_are_scaled_ones_as_in_the_plain_order() -> None:
    """Pooling before or after ELU and Dropout2d gives the same under one mask."""
    torch.manual_seed(0)
    trunk = ReducedTrunk(1, 10, [6, 2], [1, 1], 0.5)
    conv, x = trunk.stages[0][0], torch.randn(4, 1, 10, 10)
    torch.manual_seed(1)
    ours = trunk.dropout(nn.functional.elu(nn.functional.max_pool2d(conv(x), 2)))
    torch.manual_seed(1)
    plain = nn.functional.max_pool2d(trunk.dropout(nn.functional.elu(conv(x))), 2)
    assert (ours == 0).any()
    assert torch.equal(ours, plain)


def test_a_block_pools_as_the_plain_order_does() -> None:
    block, plain = Inception(3, 16, 0.0, pool=True), PlainInception(3, 16, 0.0)
    branches = plain.point, plain.near[0], plain.far[0]
    with torch.no_grad():
        for name in ("weight", "bias"):
            whole = torch.cat([getattr(branch[0], name) for branch in branches])
            getattr(block.point, name).copy_(whole)
            getattr(block.conv3, name).copy_(getattr(plain.near[1][0], name))
            getattr(block.conv5, name).copy_(getattr(plain.far[1][0], name))
            getattr(block.pooled, name).copy_(getattr(plain.pooled[1][0], name))
    x = torch.randn(2, 3, 9, 9)
    expected = nn.functional.max_pool2d(plain(x), 2)
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", ["reduced", "full", "convnext"])
def test_every_weight_is_trained(network: NetworkName) -> None:
    encoder = Encoder(network, 2, 32, 3, [16, 32], [1, 2], 8, 0.0, profile_rings=3, norms=True)
    x = torch.rand(4, 2, 32, 32)
    encoder(x, x, x[:, :, 0, 0], torch.ones(4, 32, 32).bool()).square().sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_profile_and_norms_join_the_features() -> None:
    def moved(field: str, **arguments: Any) -> bool:
        torch.manual_seed(0)
        encoder = Encoder("reduced", 1, 24, 3, [4, 8], [1, 1], 8, 0.0, **arguments).eval()
        inputs = {"x": torch.rand(2, 1, 24, 24), "norms": torch.zeros(2, 1)}
        inputs |= {"fraction": inputs["x"], "good": torch.ones(2, 24, 24).bool()}
        other = inputs | {field: inputs[field] + 0.5}
        return not torch.equal(encoder(**inputs), encoder(**other))

    assert not moved("fraction")
    assert not moved("norms")
    assert moved("fraction", profile_rings=3)
    assert moved("norms", norms=True)


def test_rings_without_good_pixels_are_at_the_mean() -> None:
    encoder = Encoder("reduced", 1, 24, 3, [4, 8], [1, 1], 8, 0.0, profile_rings=3).train()
    x, good = torch.rand(5, 1, 24, 24), torch.ones(5, 24, 24, dtype=torch.bool)
    good[2] = False
    assert encoder(x, x, x[:, :, 0, 0], good).isfinite().all()
    assert encoder.profile is not None
    assert encoder.profile.norm.running_mean is not None
    assert encoder.profile.norm.running_mean.isfinite().all()


def test_latents_are_float32_under_autocast() -> None:
    encoder, x = Encoder("reduced", 1, 24, 3, [4, 8], [1, 1], 8), torch.rand(2, 1, 24, 24)
    with torch.autocast("cpu", torch.bfloat16):
        latent = encoder(x, x, x[:, :, 0, 0], torch.ones(2, 24, 24).bool())
        assert latent.dtype == Classifier(3, 4, 2, 0.0)(latent).dtype == torch.float32


def test_the_bottleneck_keeps_two_or_more_of_the_first_numbers() -> None:
    latent = torch.rand(5, 4) + 1
    kept = torch.stack([bottleneck(latent, step) for step in range(100)]) > 0  # (100, 5, 4)
    counts: Tensor = kept.sum(dim=2)
    assert (counts == counts[:, :1]).all()
    assert set(counts[:, 0].tolist()) == {2, 3, 4}
    assert not (kept.long().diff(dim=2) > 0).any()
    torch.manual_seed(9)  # of another process, whose batch has other rows
    assert torch.equal(bottleneck(latent[:2], 7) > 0, kept[7, :2])


@pytest.mark.parametrize("size", [16, 25, 100])
def test_the_decoder_makes_maps_of_any_size(size: int) -> None:
    assert Decoder(3, 2, size, 8)(torch.rand(2, 3)).shape == (2, 2, size, size)


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        ("reduced", {"image_size": 40}, "40 pixels are too small for 5 stages"),
        ("full", {"image_size": 8}, "8 pixels are too small for 5 stages"),
        ("convnext", {"image_size": 16}, "16 pixels are too small for 4 stages"),
        ("reduced", {"widths": [4]}, r"model.widths=\[4\] and model.depths=\[1, 1, 1, 1, 1\]"),
        ("full", {"widths": [8, 16], "depths": [1, 1]}, r"\[8\] of the full network"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    network: NetworkName, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CompactClustering(network=network, **arguments)
