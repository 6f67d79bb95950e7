from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from callbacks import ExactResume
from lightning_modules import SpectraVAE
from lightning_modules.cli.checkpoints import load_weights
from lightning_modules.spectra.separability import SEPARABILITIES
from lightning_modules.spectra.structure import STRUCTURES
from tests.lightning_modules.spectra.stars import SMALL, stars

Make = Callable[..., Any]


def test_training_lowers_the_loss_and_fits_the_population(
    make_data: Make, make_trainer: Make
) -> None:
    seed_everything(0)
    model, data = SpectraVAE(**SMALL), make_data()
    trainer: Trainer = make_trainer(max_epochs=3)
    trainer.fit(model, data)
    assert model.warm_started
    assert model.population.fitted
    assert 0.7 < trainer.callback_metrics["val/chi2"] < 1.1
    assert trainer.callback_metrics["val/kl"] > 3.0
    trainer.test(model, data, verbose=False)
    outputs = trainer.predict(model, data)
    assert outputs is not None
    scores, missing = (
        torch.cat([output[name] for output in outputs])  # type: ignore[call-overload]
        for name in ("outlier_score", "label_missing")
    )
    assert scores.isfinite().all()
    scores = scores[~missing.any(1)]
    assert scores.mean().abs() < 0.3
    assert 0.6 < scores.std() < 1.5


@pytest.mark.parametrize("separability", SEPARABILITIES)
def test_each_separability_trains(separability: str, make_data: Make, make_trainer: Make) -> None:
    seed_everything(0)
    model = SpectraVAE(
        **SMALL, separability=separability, separability_weight=10.0, label_dropout=0.1
    )
    trainer: Trainer = make_trainer()
    trainer.fit(model, make_data(200))
    assert trainer.callback_metrics["val/loss"].isfinite()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_each_structure_trains(structure: str, make_data: Make, make_trainer: Make) -> None:
    seed_everything(0)
    model = SpectraVAE(**SMALL, structure=structure, intrinsic_scatter=True, warmup_epochs=2)
    before = {name: values.clone() for name, values in model.named_parameters()}
    trainer: Trainer = make_trainer()
    trainer.fit(model, make_data(200))
    assert trainer.callback_metrics["val/loss"].isfinite()
    for name, values in model.named_parameters():
        if name != "net.labels.default":  # no gradient but from stars without labels
            assert not torch.equal(values, before[name]), name


def test_loss_is_its_terms(make_data: Make) -> None:
    seed_everything(0)
    model = SpectraVAE(**SMALL, beta=3.0, separability_weight=7.0).eval()
    terms = model.step(stars(), "val")
    total = terms["nll"] + 3.0 * terms["kl"] + 7.0 * terms["separability"]
    torch.testing.assert_close(terms["loss"], total / 60)
    torch.testing.assert_close(terms["kl"], terms["structure"])
    per_star = model.star_terms(stars())
    torch.testing.assert_close(per_star["nll"].mean(), terms["nll"])


def test_weight_of_kl_rises(make_data: Make, make_trainer: Make) -> None:
    model = SpectraVAE(**SMALL, beta=2.0, warmup_epochs=4)
    weights = []

    def watch(batch: Any, stage: str) -> Any:
        terms = type(model).step(model, batch, stage)
        weight = (60 * terms["loss"] - terms["nll"]) / terms["structure"]
        weights.append((stage, round(float(weight), 2)))
        return terms

    model.step = watch  # type: ignore[method-assign]
    make_trainer(max_epochs=6).fit(model, make_data(200))
    train = [weight for stage, weight in weights if stage == "train"]
    assert train[0] == 0.0
    assert train[-1] == 2.0
    assert train == sorted(train)
    assert {weight for stage, weight in weights if stage == "val"} == {2.0}


def test_warm_start_alone_is_at_the_noise_and_comes_once(
    make_data: Make, make_trainer: Make, tmp_path: Path
) -> None:
    seed_everything(0)
    model, data = SpectraVAE(**SMALL, lr=0.0), make_data()
    trainer: Trainer = make_trainer()
    trainer.fit(model, data)
    chi2 = trainer.callback_metrics["val/chi2"]
    assert 0.7 < chi2 < 1.1
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    checkpoint = torch.load(tmp_path / "model.ckpt", weights_only=True)
    tuned = SpectraVAE(**SMALL, lr=0.0, beta=0.5, separability_weight=100.0)
    load_weights(tuned, checkpoint, tmp_path / "model.ckpt")
    with torch.no_grad():
        tuned.net.skip.weight.mul_(0.5)  # what a second warm start would undo
    expected = tuned.net.state_dict()
    make_trainer().fit(tuned, make_data(300, seed=1))  # other data: other statistics
    for name, values in tuned.net.state_dict().items():
        assert torch.equal(values, expected[name]), name


def test_training_without_a_datamodule_says_what_to_do(make_data: Make, make_trainer: Make) -> None:
    data = make_data()
    data.prepare_data()
    data.setup()
    loaders = data.train_dataloader(), data.val_dataloader()
    with pytest.raises(ValueError, match=r"module\.fit_statistics"):
        make_trainer().fit(SpectraVAE(**SMALL), *loaders)
    model = SpectraVAE(**SMALL)
    model.fit_statistics(data.training_statistics())
    with pytest.raises(ValueError, match=r"set model\.warm_start to false"):
        make_trainer().fit(model, *loaders)
    model.warm_start = False
    trainer: Trainer = make_trainer(max_epochs=5)
    trainer.fit(model, *loaders)
    assert trainer.callback_metrics["val/loss"] < 50  # in raw units it is above 1e9
    assert model.population.fitted


class SaveAt(Callback):
    """Saves a checkpoint after a step, as a signal would make it."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("step", [2, 5])  # within an epoch of five steps, and at its end
@pytest.mark.parametrize("val_fraction", [0.0, 0.1])
def test_training_resumes_exactly(
    step: int, val_fraction: float, make_data: Make, make_trainer: Make, tmp_path: Path
) -> None:
    path, states = tmp_path / "stop.ckpt", []
    for ckpt_path in (None, path):
        seed_everything(0 if ckpt_path is None else 5)
        model = SpectraVAE(**SMALL, separability_weight=10.0, label_dropout=0.1)
        callbacks = [ExactResume()] if ckpt_path else [ExactResume(), SaveAt(step, path)]
        trainer: Trainer = make_trainer(max_epochs=3, callbacks=callbacks)
        data = make_data(200, val_fraction=val_fraction, test_fraction=0.3 - val_fraction)
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
        states.append(model.state_dict())
    assert states[0].keys() == states[1].keys()
    for name, values in states[0].items():
        assert torch.equal(values, states[1][name]), name


def test_wrong_sizes_are_one_sentence(make_data: Make, make_trainer: Make) -> None:
    model = SpectraVAE(**(SMALL | {"num_pixels": 61}))
    with pytest.raises(ValueError, match="expects num_pixels=61 but the data have 60"):
        make_trainer().fit(model, make_data())


def test_population_without_validation_is_of_training_stars(
    make_data: Make, make_trainer: Make
) -> None:
    seed_everything(0)
    model = SpectraVAE(**SMALL)
    make_trainer().fit(model, make_data(200, val_fraction=0.0))
    assert model.population.fitted


def test_training_in_half_precision(make_data: Make, make_trainer: Make) -> None:
    seed_everything(0)
    model = SpectraVAE(**SMALL, separability_weight=10.0)
    trainer: Trainer = make_trainer(max_epochs=2, precision="bf16-mixed")
    trainer.fit(model, make_data())
    assert 0.7 < trainer.callback_metrics["val/chi2"] < 1.2


def test_missing_labels_are_learnt(make_data: Make, make_trainer: Make) -> None:
    """Stars that lose their labels in training are reconstructed without, too."""
    found = []
    for label_dropout in (0.0, 0.3):
        seed_everything(0)
        model, data = SpectraVAE(**SMALL, label_dropout=label_dropout, lr=5e-3), make_data()
        make_trainer(max_epochs=8).fit(model, data)
        batch = stars(100, seed=9)
        batch["label"] = torch.full_like(batch["label"], torch.nan)
        found.append(model.star_terms(batch)["chi2"].mean().item())
    assert found[1] < 0.7 * found[0]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("separability", SEPARABILITIES)
def test_no_labels_at_all(separability: str) -> None:
    model = SpectraVAE(**(SMALL | {"num_labels": 0}), separability=separability)
    batch = stars()
    none = {name: batch[name][:, :0] for name in ("label", "label_error")}
    assert model.step(batch | none, "train")["loss"].isfinite()


def test_shares_are_checked() -> None:
    with pytest.raises(ValueError, match=r"model\.separability_momentum=1\.0 from 0 to below 1"):
        SpectraVAE(**SMALL, separability_momentum=1.0)


def test_compile_keeps_the_names_of_the_weights() -> None:
    plain, compiled = (SpectraVAE(**SMALL, compile=flag) for flag in (False, True))
    assert list(compiled.state_dict()) == list(plain.state_dict())
