"""What must not matter: pixels that are not good, the order of stars, the unit of flux."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules import SpectraVAE
from tests.lightning_modules.spectra.stars import build, stars, statistics

NETWORKS: dict[str, dict[str, Any]] = {
    "skip": {},
    "scatter": {"intrinsic_scatter": True},
    "reference": {"network": "reference", "num_pixels": 256},
}
FILLS = [0.0, 1e9, -1e9, torch.inf, -torch.inf]


def small(name: str, **arguments: Any) -> tuple[SpectraVAE, dict[str, Tensor]]:
    """A model of each kind with a batch that fits it."""
    batch = stars()
    if name != "reference":
        return build(**NETWORKS[name], **arguments), batch
    times = -(-256 // batch["flux"].shape[1])
    wide = {k: v.repeat(1, times)[:, :256] for k, v in batch.items() if v.shape[1:] == (60,)}
    model = SpectraVAE(num_labels=2, latent_dim=3, **NETWORKS[name], **arguments)
    model.fit_statistics(statistics(batch | wide))
    model.population.fitted.fill_(True)
    return model.eval(), batch | wide


def everything(model: SpectraVAE, batch: dict[str, Tensor], stage: str) -> dict[str, Tensor]:
    """All a step and a prediction give, and all gradients."""
    torch.manual_seed(3)
    model.train(stage == "train")
    model.zero_grad()
    terms = model.step(batch, stage)
    terms["loss"].backward()
    stars = model.star_terms(batch)
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {**terms, **model.predict_step(batch), **stars, **gradients}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("stage", ["train", "val"])
def test_masked_pixels_change_nothing_bit_for_bit(name: str, stage: str) -> None:
    answers = []
    for fill in (torch.nan, *FILLS):
        model, batch = small(name)
        bad = ~batch["good"]
        batch["flux"] = batch["flux"].masked_fill(bad, fill)
        if fill == 1e9:
            batch["flux_ivar"] = batch["flux_ivar"].masked_fill(bad, torch.nan)
        answers.append(everything(model, batch, stage))
    for answer in answers[1:]:
        assert answer.keys() == answers[0].keys()
        for key, values in answer.items():
            assert torch.equal(values, answers[0][key]), key
            assert values.isfinite().all(), key


@pytest.mark.parametrize("name", NETWORKS)
def test_order_of_stars_does_not_matter(name: str) -> None:
    model, batch = small(name)
    order = torch.randperm(len(batch["index"]))
    shuffled = {key: values[order] for key, values in batch.items()}
    for method in (model.star_terms, model.predict_step):
        found, expected = method(shuffled), method(batch)
        for key, values in expected.items():
            torch.testing.assert_close(found[key], values[order], rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["skip", "scatter"])
def test_unit_of_flux_does_not_matter(name: str) -> None:
    terms = []
    for factor in (1.0, 1000.0):
        model, batch = small(name)
        batch["flux"], batch["flux_ivar"] = batch["flux"] * factor, batch["flux_ivar"] / factor**2
        model.net.pixels.flux_mean.mul_(factor)
        model.net.pixels.flux_scale.mul_(factor)
        terms.append({**model.star_terms(batch), **model.step(batch, "val")})
    for key, values in terms[0].items():
        torch.testing.assert_close(terms[1][key], values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_mean_the_same_at_any_batch_size(name: str) -> None:
    """Twice the same stars: the same loss and gradients."""
    model, batch = small(name, separability="cross_correlation", separability_weight=3.0)
    twice = {key: torch.cat([values, values]) for key, values in batch.items()}
    answers = []
    for stars_ in (batch, twice):
        model.zero_grad()
        terms = model.step(stars_, "val")
        terms["loss"].backward()
        flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        answers.append((terms["loss"].detach(), flat))
    torch.testing.assert_close(answers[0][0], answers[1][0], rtol=1e-4, atol=1e-6)
    difference = (answers[0][1] - answers[1][1]).norm() / answers[0][1].norm()
    assert difference < 1e-3


def test_validation_is_reproducible_and_training_draws() -> None:
    model, batch = small("skip")
    assert model.step(batch, "val")["loss"] == model.step(batch, "val")["loss"]
    assert model.step(batch, "train")["loss"] != model.step(batch, "train")["loss"]


def test_half_precision_stays_close() -> None:
    model, batch = small("skip")
    full = model.step(batch, "val")
    with torch.autocast("cpu", torch.bfloat16):
        half = model.step(batch, "val")
    torch.testing.assert_close(half["nll"], full["nll"], rtol=0.05, atol=1.0)
    assert half["nll"].dtype == torch.float32
