"""Latents lose the labels' linear trend, spectra stay as they are."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import seed_everything

from lightning_modules import SpectraVAE
from lightning_modules.spectra.moments import label_trend
from lightning_modules.spectra.network import SkipNetwork
from tests.lightning_modules.spectra.stars import SMALL

Make = Callable[..., Any]


def trained_network() -> SkipNetwork:
    """A small network with weights everywhere."""
    torch.manual_seed(0)
    net = SkipNetwork(40, 2, 3, [16, 8])
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net


def test_shifted_latents_decode_to_the_same_spectra() -> None:
    net = trained_network()
    latent, u = torch.randn(6, 3), torch.randn(6, 2)
    missing = torch.zeros(6, 2, dtype=torch.bool)
    before = net.decode(latent, u, missing)
    slopes = torch.randn(3, 3)
    net.shift_latents(slopes)
    moved = latent - torch.cat([torch.ones(6, 1), u], dim=1) @ slopes
    torch.testing.assert_close(net.decode(moved, u, missing), before)


def test_linear_encoder_follows_the_shift() -> None:
    net = trained_network()
    torch.nn.init.zeros_(net.posterior.weight)
    torch.nn.init.zeros_(net.posterior.bias)
    x, u = torch.randn(6, 40), torch.randn(6, 2)
    missing, weight = torch.zeros(6, 2, dtype=torch.bool), torch.full((6, 40), 1e6)
    before, _ = net.encode(x, weight, u, missing)
    slopes = torch.randn(3, 3)
    net.shift_latents(slopes)
    after, _ = net.encode(x, weight, u, missing)
    trend = torch.cat([torch.ones(6, 1), u], dim=1) @ slopes
    torch.testing.assert_close(after, before - trend, atol=1e-3, rtol=1e-3)


def test_trend_is_the_regression_of_the_stars_that_count() -> None:
    torch.manual_seed(0)
    u, counts = torch.randn(500, 2), torch.rand(500) < 0.9
    slopes = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.0, -1.0], [0.0, 3.0, 0.0]])
    latent = torch.cat([torch.ones(500, 1), u], dim=1) @ slopes
    latent[~counts] = 1e3
    parts = zip(u.split(200), latent.split(200), counts.split(200), strict=True)
    found = label_trend(parts)
    assert found is not None
    torch.testing.assert_close(found, slopes, atol=1e-4, rtol=0.0)


def test_few_stars_have_no_trend() -> None:
    assert label_trend([(torch.randn(5, 2), torch.randn(5, 3), torch.ones(5).bool())]) is None
    assert label_trend([]) is None


def test_a_fit_takes_the_trend_out_of_the_latents(make_data: Make, make_trainer: Make) -> None:
    sizes = []
    for decorrelate in (False, True):
        seed_everything(0)
        model, data = SpectraVAE(**SMALL, decorrelate=decorrelate, lr=1e-2), make_data()
        make_trainer(max_epochs=3).fit(model, data)
        parts = model.eval().training_inputs()
        trend = label_trend([(x.u, model._encode(x)[0], x.labelled) for x in parts])
        assert trend is not None
        sizes.append(float(trend.abs().max()))
    assert sizes[1] < 0.02 < 0.05 < sizes[0]
