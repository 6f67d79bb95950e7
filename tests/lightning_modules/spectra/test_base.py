import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules import SpectraVAE
from lightning_modules.spectra.moments import Population, moments_of
from lightning_modules.spectra.outliers import outlier_score, population_rows
from tests.lightning_modules.spectra.stars import (
    LATENT_DIM,
    LOCATION,
    NUM_PIXELS,
    build,
    linear_truth,
    stars,
    statistics,
)


@pytest.fixture(scope="module")
def trained() -> SpectraVAE:
    """A model that is the linear model the stars were drawn from, its trunks at 0."""
    model, many = build(), stars(256)
    label_map, latent_map = linear_truth()
    found = {name: values.double().numpy() for name, values in statistics(many).items()}
    spread = found["label_std"] / np.array([300.0, 0.3])
    shift = (found["label_mean"] - LOCATION) / np.array([300.0, 0.3])
    own_label_map = np.concatenate([spread[:, None] * label_map, np.zeros((3, NUM_PIXELS))])
    bias = 1 + shift @ label_map - found["flux_mean"]
    arrays = (a / found["flux_scale"] for a in (bias, own_label_map, latent_map))
    net = model.net
    net.assign_linear(*(torch.from_numpy(a).float() for a in arrays))
    for layer in (net.posterior, net.decoder_output):
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
    torch.nn.init.zeros_(net.labels.default)
    prediction = model.predict_step(many)
    rows, counts = population_rows(prediction["latent"], prediction["chi2"])
    model.population.update(moments_of(rows, counts))
    model.population.fit()
    return model


def test_prediction_has_everything(trained: SpectraVAE) -> None:
    batch = stars(20)
    prediction = trained.predict_step(batch)
    shapes = {name: tuple(values.shape) for name, values in prediction.items()}
    assert shapes == {
        "index": (20,),
        "latent": (20, LATENT_DIM),
        "latent_std": (20, LATENT_DIM),
        "reconstruction": (20, NUM_PIXELS),
        "chi2": (20,),
        "num_good": (20,),
        "outlier_score": (20,),
        "label": (20, 2),
        "label_missing": (20, 2),
    }
    known = batch["label"].isfinite()
    torch.testing.assert_close(prediction["label"][known], batch["label"][known])
    assert torch.equal(prediction["label_missing"], ~known)
    residual = (batch["flux"] - prediction["reconstruction"]).nan_to_num(0.0)
    chi2 = (batch["flux_ivar"] * residual.square()).sum(1) / batch["good"].sum(1)
    torch.testing.assert_close(prediction["chi2"], chi2, rtol=1e-3, atol=1e-4)
    assert chi2.median().item() == pytest.approx(0.94, abs=0.1)


def test_missing_label_uses_the_default(trained: SpectraVAE) -> None:
    batch = stars(4)
    batch["label"] = torch.full_like(batch["label"], torch.nan)
    prediction = trained.predict_step(batch)
    torch.testing.assert_close(prediction["label"][0], trained.net.labels.label_mean)
    given = trained.net.labels.label_mean.expand(4, -1)
    torch.testing.assert_close(trained.encode(batch | {"label": given})[0], prediction["latent"])
    assert prediction["latent"].isfinite().all()


def test_spectrum_without_pixels_gives_what_its_labels_say(trained: SpectraVAE) -> None:
    batch = stars(5)
    batch["good"][2] = False
    prediction = trained.predict_step(batch)
    assert prediction["num_good"][2] == 0
    assert prediction["chi2"][2].isnan()
    assert prediction["outlier_score"][2].isnan()
    torch.testing.assert_close(prediction["latent"][2], torch.zeros(LATENT_DIM))
    torch.testing.assert_close(prediction["latent_std"][2], torch.ones(LATENT_DIM))
    expected = trained.decode(torch.zeros(1, LATENT_DIM), batch["label"][2:3])[0]
    torch.testing.assert_close(prediction["reconstruction"][2], expected)
    assert prediction["chi2"][[0, 1, 3, 4]].isfinite().all()


def test_impute_fills_only_what_is_not_good(trained: SpectraVAE) -> None:
    batch = stars(50)
    found = trained.impute(batch)
    good = batch["good"]
    assert torch.equal(found[good], batch["flux"][good])
    torch.testing.assert_close(found[~good], trained.denoise(batch)[~good])
    clean = stars(50) | {"good": torch.ones_like(good)}
    rng = np.random.default_rng(0)  # the same draws as `stars`
    label_map, latent_map = linear_truth()
    u, z = rng.normal(size=(50, 2)), rng.normal(size=(50, LATENT_DIM))
    truth = torch.from_numpy(1 + u @ label_map + z @ latent_map).float()
    known = clean["label"].isfinite().all(1)
    error = (found - truth)[known][~good[known]]
    assert error.square().mean().sqrt() < 0.004  # below the noise of a pixel, 0.005


def test_generate_draws_new_stars_of_given_labels(trained: SpectraVAE) -> None:
    torch.manual_seed(0)
    label = torch.tensor([[4800.0, -0.2], [5100.0, 0.1]])
    flux = trained.generate(label, num=3000)
    assert flux.shape == (2, 3000, NUM_PIXELS)
    label_map, latent_map = linear_truth()
    expected = 1 + np.array([[0.0, 0.0], [1.0, 1.0]]) @ label_map
    np.testing.assert_allclose(flux.mean(1), expected, atol=0.005)
    np.testing.assert_allclose(flux[0].std(0), np.linalg.norm(latent_map, axis=0), rtol=0.1)
    assert trained.generate(label).shape == (2, 1, NUM_PIXELS)


def test_counterfactual_changes_labels_alone(trained: SpectraVAE) -> None:
    batch = stars(10)
    batch["label"] = batch["label"].nan_to_num(4800.0)
    own = trained.counterfactual(batch, torch.full((2,), torch.nan))
    torch.testing.assert_close(own, trained.denoise(batch))
    hotter = trained.counterfactual(batch, torch.tensor([torch.nan, 0.4]))
    other = trained.counterfactual(batch, batch["label"] + torch.tensor([0.0, 0.3]))
    label_map, _ = linear_truth()
    change = (0.4 - batch["label"][:, 1:]).numpy() / 0.3 * label_map[1]
    np.testing.assert_allclose(hotter - own, change, atol=1e-4)
    np.testing.assert_allclose(other - own, np.broadcast_to(label_map[1], own.shape), atol=1e-4)


def test_encode_and_decode_are_differentiable(trained: SpectraVAE) -> None:
    batch = stars(4)
    latent, _ = trained.encode(batch)
    latent = latent.detach().requires_grad_()
    trained.decode(latent, batch["label"]).sum().backward()
    assert latent.grad is not None


def test_junk_scores_higher_than_stars(trained: SpectraVAE) -> None:
    usual, odd = stars(200, seed=3), stars(200, seed=4)
    flat = odd | {"flux": torch.ones_like(odd["flux"]) * 0.5}
    spiked = odd | {"flux": odd["flux"] + 0.2 * (torch.arange(NUM_PIXELS) % 6 == 0)}
    extreme = trained.denoise(usual) + 10 * torch.from_numpy(linear_truth()[1][0]).float()
    far = usual | {"flux": extreme + 0.005 * torch.randn_like(extreme)}
    scores = trained.outlier_score(usual)
    assert abs(scores[2:].mean().item()) < 0.3
    assert scores[2:].std().item() == pytest.approx(1.0, abs=0.25)
    quiet = far | {"flux": extreme + 0.001 * torch.randn_like(extreme)}  # less noise than stated
    for junk in (flat, spiked, far, quiet):
        assert trained.outlier_score(junk)[2:].min() > scores[2:].quantile(0.99)


def test_scores_of_a_normal_population_have_mean_0_and_deviation_1() -> None:
    torch.manual_seed(0)
    latent: Tensor = torch.randn(5000, 28) * torch.linspace(0.5, 2.0, 28)
    chi2 = (0.1 * torch.randn(5000)).exp()
    population = Population(29)
    assert outlier_score(population, latent, chi2).isnan().all()  # nothing to compare with
    population.update(moments_of(*population_rows(latent, chi2)))
    population.fit()
    scores = outlier_score(population, latent, chi2)
    assert abs(scores.mean().item()) < 0.05
    assert scores.std().item() == pytest.approx(1.0, abs=0.05)


def test_an_empty_batch_is_an_error(trained: SpectraVAE) -> None:
    empty = {name: values[:0] for name, values in stars(2).items()}
    with pytest.raises(ValueError, match="SpectraVAE got a batch without spectra"):
        trained.predict_step(empty)


def test_population_of_few_stars_bears_many_latents() -> None:
    torch.manual_seed(0)
    population = Population(29)
    few = population_rows(torch.randn(20, 28), torch.rand(20) + 0.5)
    population.update(moments_of(*few))
    population.fit()
    scores = outlier_score(population, torch.randn(1000, 28), torch.rand(1000) + 0.5)
    assert scores.quantile(0.99) < 6
