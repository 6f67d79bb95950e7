from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch import Tensor

import lightning_modules
from lightning_modules import DeepEmbeddedClustering, StellarAutoencoder, StellarVAE
from lightning_modules.base import BaseModule
from lightning_modules.clustering.module import corrupted

MakeData = Callable[..., Any]
MakeTrainer = Callable[..., Trainer]
SMALL: dict[str, Any] = {"hidden_dims": [16, 8], "latent_dim": 3}
CLUSTER: dict[str, Any] = {**SMALL, "num_clusters": 3, "pretrain_epochs": 1, "update_interval": 2}


def build(name: str, **arguments: Any) -> BaseModule:
    seed_everything(1)
    settings = CLUSTER if name == "DeepEmbeddedClustering" else SMALL
    model = getattr(lightning_modules, name)(**(settings | arguments))
    assert isinstance(model, BaseModule)
    return model


MODELS = ["StellarAutoencoder", "StellarVAE", "DeepEmbeddedClustering"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("variant", ["plain", "residual", "attention"])
def test_every_variant_learns(
    name: str, variant: str, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data, trainer = make_data(missing=0.05), make_trainer(2)
    model = build(name, variant=variant, gradient_checkpointing=True)
    before = {key: value.clone() for key, value in model.net.state_dict().items()}
    trainer.fit(model, data)
    after = model.net.state_dict()
    assert torch.isfinite(trainer.callback_metrics["val/loss"])
    assert not any(
        torch.equal(before[key], after[key]) for key in before if key.endswith("linear.weight")
    )
    assert all(torch.isfinite(value).all() for value in after.values())


@pytest.mark.parametrize("name", MODELS)
def test_missing_features_have_no_influence(name: str, make_data: MakeData) -> None:
    def gradients(filler: float, good: bool) -> tuple[Tensor, list[Tensor]]:
        model = build(name, dropout=0.0)
        features = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
        usable = torch.rand(16, 5, generator=torch.Generator().manual_seed(1)) > 0.3
        batch = {"index": torch.arange(16), "features": torch.where(usable, features, filler)}
        if good:
            batch["good"] = usable
        torch.manual_seed(0)
        loss = model.eval().step(batch, "val")["loss"]
        loss.backward()
        return loss, [p.grad for p in model.parameters() if p.grad is not None]

    loss, expected = gradients(1e6, good=True)
    for filler, good in ((-1.0, True), (float("nan"), True), (float("nan"), False)):
        again, found = gradients(filler, good)
        assert torch.equal(loss, again)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_physical_units_are_scaled_by_the_training_statistics(
    name: str, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data, model = make_data(), build(name)
    make_trainer(1).fit(model, data)
    assert isinstance(model, StellarAutoencoder | StellarVAE)
    expected = data.training_statistics()
    torch.testing.assert_close(model.scaler.location, expected["location"])
    torch.testing.assert_close(model.scaler.scale, expected["scale"])


@pytest.mark.parametrize("name", MODELS)
def test_permuted_stars_give_permuted_predictions(
    name: str, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data, model = make_data(), build(name)
    make_trainer(2).fit(model, data)
    model.eval()
    order = torch.randperm(300)
    batch = {key: data.columns[key] for key in ("index", "features")}
    with torch.no_grad():
        whole = model.predict_step(batch)
        permuted = model.predict_step({key: values[order] for key, values in batch.items()})
    for key, values in whole.items():
        torch.testing.assert_close(permuted[key], values[order])
    assert whole["latent"].shape == (300, 3)
    assert whole["reconstruction_error"].shape == (300,)


@pytest.mark.parametrize("name", MODELS)
def test_wrong_number_of_features_names_the_argument(
    name: str, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(ValueError, match=r"num_features=7 but the data have 5.*model.num_features"):
        make_trainer(1).fit(build(name, num_features=7), make_data())


def test_an_empty_batch_is_refused() -> None:
    batch = {"index": torch.zeros(0, dtype=torch.int64), "features": torch.zeros(0, 5)}
    with pytest.raises(ValueError, match="StellarAutoencoder got a batch without stars"):
        build("StellarAutoencoder").step(batch, "train")


def test_the_last_batch_may_be_one_star(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    data = make_data()
    data.prepare_data()
    data.setup()
    data.batch_size = len(data.rows["train"]) - 1
    trainer = make_trainer(1)
    trainer.fit(build("StellarAutoencoder"), data)
    assert trainer.global_step == 2


def test_corruption_acts_in_training_only() -> None:
    x = torch.ones(4000, 5)
    share = (corrupted(x, 0.2, "train") == 0).float().mean().item()
    assert share == pytest.approx(0.2, abs=0.02)
    assert torch.equal(corrupted(x, 0.2, "val"), x)
    assert torch.equal(corrupted(x, 0.0, "train"), x)


def test_autoencoder_reconstructs_a_plane(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    data = make_data(sizes=(600,))
    data.prepare_data()
    data.setup()
    plane = torch.randn(600, 2) @ torch.randn(2, 5)
    data.columns["features"] = plane
    model = build("StellarAutoencoder", dropout=0.0, batch_norm=False, latent_dim=2, lr=1e-2)
    trainer = make_trainer(40)
    trainer.fit(model, data)
    assert trainer.callback_metrics["val/loss"] < 0.05  # of unit variance


def test_vae_warm_up_is_a_function_of_the_step(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    seen: list[float] = []

    class Watch(Callback):
        def on_train_batch_end(self, _: Trainer, pl_module: LightningModule, *__: Any) -> None:
            assert isinstance(pl_module, StellarVAE)
            terms = pl_module.last_terms
            seen.append(float((terms["loss"] - terms["nll"]) / terms["kl"]))

    model = build("StellarVAE", beta=0.5, warmup_epochs=2)
    assert isinstance(model, StellarVAE)
    trainer = make_trainer(3, callbacks=[Watch()])
    trainer.fit(model, make_data())
    steps = int(trainer.num_training_batches)
    ramp = [0.5 * step / (2 * steps) for step in range(2 * steps)]
    assert seen == pytest.approx(ramp + [0.5] * steps, abs=1e-4)


def test_vae_evaluates_the_full_bound(make_data: MakeData) -> None:
    model = build("StellarVAE", beta=1.0).eval()
    batch = {"index": torch.arange(8), "features": torch.randn(8, 5)}
    terms = model.step(batch, "val")
    torch.testing.assert_close(terms["loss"], terms["nll"] + terms["kl"])


def test_vae_learns_the_noise_of_each_feature(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data = make_data(sizes=(1500,), batch_size=128)
    data.prepare_data()
    data.setup()
    signal = torch.randn(1500, 1)
    noise = torch.tensor([0.1, 0.1, 0.5, 0.5, 0.5])
    data.columns["features"] = signal + noise * torch.randn(1500, 5)
    model = build("StellarVAE", latent_dim=1, lr=1e-2, warmup_epochs=2, asinh=False)
    make_trainer(25).fit(model, data)
    assert isinstance(model, StellarVAE)
    scaled = noise / (1 + noise**2).sqrt()
    found = model.net.log_noise.exp().detach()
    torch.testing.assert_close(found[2:], scaled[2:], rtol=0.15, atol=0.0)
    assert (found[:2] < 0.7 * found[2]).all()


@pytest.mark.parametrize("name", MODELS)
def test_checkpoints_hold_plain_values_and_load_safely(
    name: str, make_data: MakeData, make_trainer: MakeTrainer, tmp_path: Any
) -> None:
    data, model = make_data(), build(name)
    trainer = make_trainer(3)
    trainer.fit(model, data)
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    loaded = type(model).load_from_checkpoint(path, weights_only=True).eval()
    assert loaded.hparams == model.hparams
    batch = {key: data.columns[key] for key in ("index", "features")}
    with torch.no_grad():
        expected, found = model.eval().predict_step(batch), loaded.predict_step(batch)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    targets = [key for key in loaded.state_dict() if "targets" in key]
    assert not targets  # their size varies with the data


def test_hyper_parameters_are_saved_flat() -> None:
    model = DeepEmbeddedClustering(num_clusters=4, method="dec")
    assert model.hparams["num_clusters"] == 4
    assert {"method", "hidden_dims", "lr", "cluster_lr", "gamma", "balance"} <= set(model.hparams)
    assert "net" not in model.hparams


def linear_vae() -> StellarVAE:
    """Return a VAE whose decoder is x = 2 z + 1 and whose posterior is N(x / 2, 0.25)."""
    model = StellarVAE(num_features=3, hidden_dims=[], latent_dim=3, asinh=False)
    with torch.no_grad():
        model.net.decoder.output.weight.copy_(2.0 * torch.eye(3))
        model.net.decoder.output.bias.fill_(1.0)
        model.net.encoder.output.weight.copy_(torch.cat([0.5 * torch.eye(3), torch.zeros(3, 3)]))
        model.net.encoder.output.bias.copy_(torch.tensor(0.25).log() * (torch.arange(6) > 2))
        model.net.log_noise.copy_(torch.tensor([0.1, 1.0, 3.0]).log())
    model.scaler.assign(torch.tensor([5.0, 0.0, 0.0]), torch.tensor([1.0, 10.0, 1.0]))
    return model


def test_latents_have_the_errors_of_the_posterior() -> None:
    batch = {"index": torch.arange(4), "features": torch.randn(4, 3)}
    found = linear_vae().predict_step(batch)
    torch.testing.assert_close(found["latent_error"], torch.full((4, 3), 0.5))


def test_samples_have_the_moments_of_the_prior_and_the_noise() -> None:
    torch.manual_seed(0)
    found = linear_vae().sample(20_000)
    expected = torch.tensor([4.0 + 0.01, 100.0 * (4.0 + 1.0), 4.0 + 9.0])
    torch.testing.assert_close(found.var(dim=0), expected, rtol=0.05, atol=0.0)
    mean = torch.tensor([6.0, 10.0, 1.0])
    assert ((found.mean(dim=0) - mean).abs() < 4.0 * (expected / 20_000).sqrt()).all()


def test_interpolation_is_straight_in_the_latent_and_ends_at_the_reconstructions() -> None:
    first, last = torch.tensor([5.0, 0.0, 0.0]), torch.tensor([9.0, 20.0, torch.nan])
    found = linear_vae().interpolate(first, last, 3)
    ends = torch.tensor([[6.0, 10.0, 1.0], [10.0, 30.0, 1.0]])  # u + 1 in scaled units
    torch.testing.assert_close(found, torch.stack([ends[0], ends.mean(dim=0), ends[1]]))
