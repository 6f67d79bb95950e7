from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.spectra.labels import monomials
from lightning_modules.spectra.linear_posterior import linear_posterior
from lightning_modules.spectra.warm_start import PASSES, LinearModel, Part, fit_linear_model

NUM_STARS, NUM_PIXELS, DIM = 3000, 80, 4


def simulated() -> tuple[Part, LinearModel, Tensor]:
    """Stars of a linear model with a quadratic label map, gaps, and errors from 0.02 to 0.5."""
    torch.manual_seed(0)
    truth = LinearModel(
        0.1 * torch.randn(NUM_PIXELS),
        0.3 * torch.randn(5, NUM_PIXELS),
        torch.tensor([1.0, 0.7, 0.5, 0.3])[:, None] * torch.randn(DIM, NUM_PIXELS),
    )
    known, z = monomials(torch.randn(NUM_STARS, 2)), torch.randn(NUM_STARS, DIM)
    error = 0.1 * (0.7 * torch.randn(NUM_STARS, NUM_PIXELS)).exp() + 0.02
    x = truth.bias + known @ truth.label_map + z @ truth.latent_map
    good = torch.rand_like(x) > 0.2
    good[:, 7] = False  # never good
    noisy = x + error * torch.randn_like(x)
    return Part(noisy * good, good * error**-2, known), truth, z


@pytest.fixture(scope="module")
def fitted() -> tuple[Part, LinearModel, LinearModel, int]:
    part, truth, _ = simulated()
    passes = []

    def parts() -> Iterator[Part]:
        for rows in torch.arange(NUM_STARS).split(700):
            yield Part(*(values[rows] for values in part))

    model = fit_linear_model(parts, DIM, advance=lambda: passes.append(1))
    return part, truth, model, len(passes)


def test_latent_map_spans_the_true_one(fitted: tuple[Part, LinearModel, LinearModel, int]) -> None:
    _, truth, model, passes = fitted
    seen = torch.arange(NUM_PIXELS) != 7
    bases = [torch.linalg.qr(m.latent_map[:, seen].mT).Q for m in (truth, model)]
    cosines = torch.linalg.svdvals(bases[0].mT @ bases[1])
    assert cosines.min() > 0.999
    assert passes == PASSES
    assert model.latent_map[:, 7].abs().max() == 0.0


def test_label_map_is_the_true_one(fitted: tuple[Part, LinearModel, LinearModel, int]) -> None:
    _, truth, model, _ = fitted
    seen = torch.arange(NUM_PIXELS) != 7
    for found, expected in zip(model[:2], truth[:2], strict=True):
        # z of the sample correlates with the labels by chance, of order 1 / sqrt(stars)
        np.testing.assert_allclose(found[..., seen], expected[..., seen], atol=0.15)
        assert (found - expected)[..., seen].square().mean().sqrt() < 0.04


def test_latents_are_white_and_know_no_label(
    fitted: tuple[Part, LinearModel, LinearModel, int],
) -> None:
    part, _, model, _ = fitted
    mean, covariance = linear_posterior(model.residual(part), part.weight, model.latent_map)
    second = (mean.mT @ mean / len(mean) + covariance.mean(0)).numpy()
    np.testing.assert_allclose(second, np.eye(DIM), atol=0.01)
    joint = np.corrcoef(torch.cat([mean, part.monomials], 1).numpy().T)
    assert np.abs(joint[:DIM, DIM:]).max() < 0.01


def test_latents_are_ordered_by_information(
    fitted: tuple[Part, LinearModel, LinearModel, int],
) -> None:
    part, _, model, _ = fitted
    information = (model.latent_map * part.weight.mean(0)) @ model.latent_map.mT
    diagonal = information.diagonal()
    assert (diagonal.diff() < 0).all()
    assert (information - torch.diag(diagonal)).abs().max() < 1e-3 * diagonal.max()


def test_reconstruction_is_at_the_noise(fitted: tuple[Part, LinearModel, LinearModel, int]) -> None:
    part, _, model, _ = fitted
    mean, _ = linear_posterior(model.residual(part), part.weight, model.latent_map)
    left = model.residual(part) - mean @ model.latent_map
    chi2 = (part.weight * left.square()).sum() / (part.weight > 0).sum()
    expected = 1 - DIM / (0.8 * NUM_PIXELS)  # each latent takes a degree of freedom
    assert chi2.item() == pytest.approx(expected, abs=0.02)


def test_no_stars_is_an_error() -> None:
    with pytest.raises(ValueError, match="no star with labels"):
        fit_linear_model(list, DIM)
