import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_modules import TimeDistributedCNN
from lightning_modules.microlensing.calibration import KNOTS
from tests.lightning_modules.microlensing.curves import NAMES, build, light_curves

MakeData = Callable[..., Any]
MakeTrainer = Callable[..., Trainer]


def uniform(**arguments: Any) -> TimeDistributedCNN:
    """A model that knows nothing: all logits are those of the output's bias, here 0."""
    model = build("dilated", **arguments)
    with torch.no_grad():
        model.net.output.weight.zero_()
        model.net.output.bias.zero_()
    return model


@pytest.mark.parametrize("exponent", [0.0, 0.25, 1.0])
def test_epochs_are_weighted_by_a_power_of_their_number(exponent: float) -> None:
    model, batch = build("dilated", early_weight=exponent), light_curves(4, 50)
    epochs = model.kept_epochs(batch)
    weights = model.epoch_weights(epochs)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))
    assert (weights[~epochs.valid] == 0).all()
    torch.testing.assert_close(weights[:, 15] / weights[:, 0], torch.full((4,), 16.0**-exponent))


def test_who_knows_nothing_loses_ln_2() -> None:
    terms = uniform().step(light_curves(6, 40), "val")
    torch.testing.assert_close(terms["loss"], torch.tensor(math.log(2)))
    torch.testing.assert_close(terms["final_loss"], torch.tensor(math.log(2)))
    assert terms["accuracy"] == 0.5


def test_label_smoothing_and_class_weights_are_those_of_the_formula() -> None:
    batch = light_curves(6, 40)
    batch["label"] = torch.tensor([0, 0, 0, 0, 1, 1])
    model = uniform(label_smoothing=0.2, class_weights=[1.0, 3.0])
    with torch.no_grad():
        model.net.output.bias.copy_(torch.tensor([math.log(3), 0.0]))
    wrong, right = math.log(4), math.log(4 / 3)
    each = [0.9 * right + 0.1 * wrong, 0.9 * wrong + 0.1 * right]
    expected = (4 * each[0] + 3 * 2 * each[1]) / (4 + 3 * 2)
    assert model.step(batch, "train")["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_curves_without_label_or_epochs_carry_no_weight() -> None:
    model, batch = build("dilated"), light_curves(6, 40)
    expected = model.step({key: value[:3] for key, value in batch.items()}, "val")
    batch["label"][3:5] = -1
    batch["good"][5] = False
    found = model.step(batch, "val")
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)
    batch["label"][:] = -1
    assert model.step(batch, "train")["loss"] == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("filler", [math.nan, 1e9, -1.0])
def test_masked_epochs_carry_no_information(name: str, filler: float) -> None:
    def results(value: float) -> tuple[dict[str, Tensor], list[Tensor | None]]:
        model, batch = build(name).train(), light_curves(4, 60)
        for key in ("flux", "flux_error"):
            batch[key] = torch.where(batch["good"], batch[key], value)
        torch.manual_seed(0)
        model.step(batch, "train")["loss"].backward()
        with torch.no_grad():
            predicted = model.eval().predict_step(batch)
        return predicted, [parameter.grad for parameter in model.parameters()]

    expected, gradients = results(0.0)
    found, again = results(filler)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0, equal_nan=True)
    for a, b in zip(gradients, again, strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("key", "value"), [("flux", math.inf), ("flux_error", 0.0), ("flux_error", math.nan)]
)
def test_epochs_that_are_no_measurement_count_as_masked(key: str, value: float) -> None:
    model, batch = build("dilated"), light_curves(2, 40)
    place = int(torch.where(batch["good"][0])[0][3])
    masked = {**batch, "good": batch["good"].clone()}
    masked["good"][0, place] = False
    broken = {**batch, key: batch[key].clone()}
    broken[key][0, place] = value
    with torch.no_grad():
        a, b = model.predict_step(masked), model.predict_step(broken)
    assert torch.equal(a["final_probability"], b["final_probability"])
    assert b["probability"][0, place].isnan().all()


def test_predictions_are_aligned_with_the_times() -> None:
    model, batch = build("dilated"), light_curves(5, 60)
    batch["good"][4] = False
    with torch.no_grad():
        found = model.predict_step(batch)
    assert found["probability"].shape == (5, 60, 2)
    assert torch.equal(~found["probability"].isnan().any(dim=-1), batch["good"])
    torch.testing.assert_close(
        found["probability"][batch["good"]].sum(dim=-1), torch.ones(int(batch["good"].sum()))
    )
    assert torch.equal(found["num_epochs"], batch["good"].sum(dim=1))
    assert found["final_probability"][4].isnan().all()
    assert torch.equal(found["index"], batch["index"])
    for row in range(4):
        last = torch.where(batch["good"][row])[0][-1]
        assert torch.equal(found["final_probability"][row], found["probability"][row, last])


def test_predictions_are_calibrated() -> None:
    model, batch = build("dilated"), light_curves(4, 50)
    with torch.no_grad():
        model.temperature.log_temperature.fill_(0.0)
        raw = model.predict_step(batch)["final_probability"].logit()
        model.temperature.log_temperature.fill_(math.log(4.0))
        found = model.predict_step(batch)["final_probability"].logit()
    torch.testing.assert_close(found, raw / 4, atol=1e-5, rtol=1e-4)


def test_more_classes() -> None:
    model, batch = build("dilated", classes=["pspl", "binary", "flat"]), light_curves(6, 50)
    batch["label"] = torch.arange(6) % 3
    assert torch.isfinite(model.step(batch, "test")["loss"])
    with torch.no_grad():
        assert model.predict_step(batch)["final_probability"].shape == (6, 3)
    assert list(model.stream().step(0.0, 1.0, 0.1).probability) == ["pspl", "binary", "flat"]


def test_spikes_of_one_epoch_are_found(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    trainer, model = make_trainer(6), build("dilated", lr=1e-2).train()
    before = {key: value.clone() for key, value in model.net.state_dict().items()}
    trainer.fit(model, make_data(num_curves=800))
    assert trainer.callback_metrics["val/accuracy"] > 0.9
    assert trainer.callback_metrics["val/auroc"] > 0.95
    after = model.net.state_dict()
    assert not any(torch.equal(before[key], value) for key, value in after.items())


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_hold_the_calibration_and_load_safely(
    name: str, make_data: MakeData, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    model, trainer, batch = build(name).train(), make_trainer(1), light_curves(8, 60)
    trainer.fit(model, make_data())
    fitted = model.temperature.log_temperature.clone()
    assert (fitted != 0).any()
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    loaded = TimeDistributedCNN.load_from_checkpoint(path, weights_only=True).eval()
    assert torch.equal(loaded.temperature.log_temperature, fitted)
    assert loaded.hparams == model.hparams
    model.eval()
    with torch.no_grad():
        expected, found = model.predict_step(batch), loaded.predict_step(batch)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0, equal_nan=True)


def test_the_calibration_is_fitted_in_training_runs_only(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    model, data = build("dilated"), make_data()
    marker = torch.full((len(KNOTS),), 0.123)
    model.temperature.log_temperature.copy_(marker)
    for run in ("validate", "test"):
        getattr(make_trainer(), run)(model, data, verbose=False)
        assert torch.equal(model.temperature.log_temperature, marker)
    make_trainer(0).fit(model, data)  # the check before training does not count
    assert torch.equal(model.temperature.log_temperature, marker)
    make_trainer(1).fit(model, data)
    assert (model.temperature.log_temperature != marker).any()


def test_unlabelled_data_can_be_tested(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    data, trainer = make_data(num_curves=60), make_trainer()
    data.prepare_data()
    data.setup()
    data.columns["label"] = torch.full((60,), -1)
    trainer.test(build("dilated"), data, verbose=False)
    assert trainer.callback_metrics["test/auroc"].isnan()
    assert trainer.callback_metrics["test/loss"] == 0


def test_too_few_classes_are_refused(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    data = make_data()
    data.num_classes = 4
    with pytest.raises(ValueError, match=r"has 2 classes but the data have 4; set model\.classes"):
        make_trainer().fit(build("dilated"), data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["pspl"]}, r"model\.classes=\['pspl'\]"),
        ({"classes": ["a", "a"]}, r"model\.classes"),
        ({"channels": [8]}, r"channels has 1 entries and model\.kernel_sizes 8"),
        ({"class_weights": [1.0]}, r"class_weights has 1 entries for 2 classes"),
    ],
)
def test_settings_that_do_not_fit_name_the_argument(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TimeDistributedCNN(**arguments)


def test_an_empty_batch_is_refused() -> None:
    batch = {key: value[:0] for key, value in light_curves(2, 10).items()}
    with pytest.raises(ValueError, match="TimeDistributedCNN got a batch without light curves"):
        build("dilated").step(batch, "train")


def test_compile_keeps_the_names_of_the_weights() -> None:
    assert list(build("dilated", compile=True).state_dict()) == list(build("dilated").state_dict())
