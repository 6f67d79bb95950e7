"""The learning rate and the decay of every model: closed forms, resumes, old checkpoints."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from lightning_modules.optimizers import Schedule, parameter_groups, rate_factor
from tests.reliability.runs import Saver, assert_same_from, fit
from tests.reliability.tiny import TinyModule

STEPS = 4  # an epoch of the tiny data


class Rates(Callback):
    """Notes the rate and the decay of each group that each batch is trained with."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.decays: list[list[float]] = []

    def on_before_optimizer_step(self, _: Trainer, __: Any, optimizer: Any) -> None:
        rates = {group["lr"] for group in optimizer.param_groups}
        assert len(rates) == 1
        self.rates += rates
        self.decays.append([group["weight_decay"] for group in optimizer.param_groups])


class Ungrouped(TinyModule):
    """With the optimizer of checkpoints before groups."""

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)


class Periodic(Ungrouped):
    """With a cosine by epochs, too."""

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [CosineAnnealingLR(optimizer, T_max=3)]


def half_cosine(share: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * share))


def rates_of(folder: Path, **arguments: Any) -> list[float]:
    """Return the rates of a run."""
    rates = Rates()
    fit(folder, rates, **arguments)
    return rates.rates


@pytest.mark.parametrize(
    ("step", "schedule", "warmup_steps", "expected"),
    [
        (0, "constant", 0, 1.0),
        (11, "constant", 0, 1.0),
        (0, "constant", 4, 0.2),
        (4, "constant", 4, 1.0),
        (9, "constant", 4, 1.0),
        (0, "cosine", 0, 1.0),
        (6, "cosine", 0, 0.5),
        (12, "cosine", 0, 0.0),
        (2, "cosine", 4, 0.6),
        (4, "cosine", 4, 1.0),
        (6, "cosine", 4, half_cosine(0.25)),
        (8, "cosine", 4, 0.5),
        (12, "cosine", 4, 0.0),
        (13, "cosine", 4, 0.0),
        (3, "cosine", 20, 4 / 21),
    ],
)
def test_share_of_the_rate(
    step: int, schedule: Schedule, warmup_steps: int, expected: float
) -> None:
    assert rate_factor(step, 12, schedule, warmup_steps) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("arguments", "total"),
    [
        pytest.param({"max_epochs": 2}, 2 * STEPS, id="two epochs"),
        pytest.param({"max_epochs": 5}, 5 * STEPS, id="five epochs"),
        pytest.param({"max_epochs": 3, "accumulate_grad_batches": 3}, 3 * 2, id="accumulated"),
        pytest.param({"max_epochs": -1, "max_steps": 7}, 7, id="steps"),
        pytest.param({"max_epochs": 2, "limit_train_batches": 3}, 6, id="some batches"),
    ],
)
def test_the_cosine_ends_with_the_training(
    tmp_path: Path, arguments: dict[str, Any], total: int
) -> None:
    rates = rates_of(tmp_path, model={"lr": 0.02, "schedule": "cosine"}, **arguments)
    assert rates == pytest.approx([0.02 * half_cosine(step / total) for step in range(total)])


def test_the_warm_up_counts_optimizer_steps(tmp_path: Path) -> None:
    rates = rates_of(tmp_path, model={"lr": 0.02, "warmup_steps": 4}, max_epochs=2)
    assert rates == pytest.approx([0.004, 0.008, 0.012, 0.016, *[0.02] * 4])


def test_a_cosine_without_a_last_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no last step; set trainer\.max_epochs"):
        fit(tmp_path, model={"schedule": "cosine"}, max_epochs=-1)


@pytest.mark.parametrize("arguments", [{"schedule": "linear"}, {"warmup_steps": -1}])
def test_arguments_without_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        TinyModule(**arguments)


class Parts(nn.Module):
    """One of everything that decays or does not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv = nn.Linear(3, 3), nn.Conv1d(1, 1, 3)
        self.batch_norm, self.layer_norm = nn.BatchNorm1d(3), nn.LayerNorm((2, 3))
        self.embedding = nn.Embedding(4, 3)
        self.tied = nn.Linear(3, 4, bias=False)
        self.tied.weight = self.embedding.weight
        self.log_scatter = nn.Parameter(torch.zeros(5))


def test_norms_biases_and_embeddings_do_not_decay() -> None:
    module = Parts()
    decayed, spared = parameter_groups(module)
    names = {weight: name for name, weight in module.named_parameters()}
    assert {names[weight] for weight in decayed["params"]} == {"linear.weight", "conv.weight"}
    assert {names[weight] for weight in [*decayed["params"], *spared["params"]]} == set(
        names.values()
    )
    before = {name: value.clone() for name, value in module.named_parameters()}
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    torch.optim.AdamW(parameter_groups(module), lr=0.1, weight_decay=0.5).step()
    for name, value in module.named_parameters():
        factor = 0.95 if name in ("linear.weight", "conv.weight") else 1.0
        torch.testing.assert_close(value, factor * before[name])


def test_the_update_is_that_of_adamw(tmp_path: Path) -> None:
    ours, plain = fit(tmp_path).module, fit(tmp_path, kind=Ungrouped).module
    for name, weight in ours.state_dict().items():
        torch.testing.assert_close(weight, plain.state_dict()[name], rtol=1e-5, atol=1e-7)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Any:
    """Returns a function that trains two epochs of 4 steps and returns the last checkpoint."""

    def make(**arguments: Any) -> Path:
        saver = Saver(tmp_path, "on_train_epoch_end")
        fit(tmp_path, saver, max_epochs=2, **arguments)
        return saver.paths[-1]

    return make


COSINE = {"lr": 0.02, "schedule": "cosine"}


@pytest.mark.parametrize(
    ("before", "now", "rate"),
    [
        pytest.param(COSINE, COSINE, 0.02, id="longer"),
        pytest.param(COSINE, {**COSINE, "lr": 0.05}, 0.05, id="another rate"),
        pytest.param({"lr": 0.02}, COSINE, 0.02, id="from constant"),
        pytest.param({"lr": 0.02, "warmup_steps": 3}, COSINE, 0.02, id="from a warm-up"),
    ],
)
def test_a_resumed_cosine_is_that_of_the_longer_run(
    checkpoints: Any, tmp_path: Path, before: dict[str, Any], now: dict[str, Any], rate: float
) -> None:
    path = checkpoints(model=before)
    rates = rates_of(tmp_path, ckpt_path=path, model=now, max_epochs=4)
    assert rates == pytest.approx([rate * half_cosine(step / 16) for step in range(8, 16)])


def test_constant_over_a_cosine_returns_to_the_rate(checkpoints: Any, tmp_path: Path) -> None:
    path = checkpoints(model=COSINE)
    rates = rates_of(tmp_path, ckpt_path=path, model={"lr": 0.03}, max_epochs=3)
    assert rates == [0.03] * STEPS


def test_a_resumed_decay_is_not_that_of_norms_and_biases(checkpoints: Any, tmp_path: Path) -> None:
    rates = Rates()
    fit(tmp_path, rates, ckpt_path=checkpoints(), model={"weight_decay": 0.5}, max_epochs=3)
    assert rates.decays == [[0.5, 0.0]] * STEPS


def test_a_checkpoint_without_groups_resumes_bit_for_bit(tmp_path: Path) -> None:
    saver, model = Saver(tmp_path, "on_train_batch_end"), {"weight_decay": 0.5}
    reference = fit(tmp_path, saver, model=model, kind=Ungrouped)
    for path in saver.paths[2:6]:
        resumed = fit(tmp_path, seed=2, ckpt_path=path, model=model)
        assert_same_from(path, reference, resumed)
        assert len(resumed.trainer.optimizers[0].param_groups) == 1


def test_a_cosine_by_epochs_goes_on_by_steps(checkpoints: Any, tmp_path: Path) -> None:
    path = checkpoints(model={"lr": 0.02}, kind=Periodic)
    rates = rates_of(tmp_path, ckpt_path=path, model=COSINE, max_epochs=3)
    assert rates == pytest.approx([0.02 * half_cosine(step / 12) for step in range(8, 12)])


def test_gradients_are_clipped_in_mixed_precision(tmp_path: Path) -> None:
    for precision, fused in (("32-true", True), ("bf16-mixed", False)):
        more: dict[str, Any] = {"precision": precision, "gradient_clip_val": 1e-9}
        run = fit(tmp_path, max_epochs=1, model={"lr": 0.1}, **more)
        assert run.trainer.optimizers[0].defaults["fused"] is fused
        moments = run.trainer.optimizers[0].state.values()
        assert all(state["exp_avg"].norm() < 1e-9 for state in moments)
