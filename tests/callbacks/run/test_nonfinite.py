"""A non-finite loss stops the training before the weights are spoiled, naming the objects."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from callbacks.run.nonfinite import culprits
from tests.reliability.runs import make_data, make_trainer
from tests.reliability.tiny import TinyDataModule, TinyModule, TinySource


class Exploding(TinyModule):
    """One term becomes infinite at one batch of one stage."""

    def __init__(self, stage: str = "train", batch: int = 2) -> None:
        super().__init__()
        self.at = stage, batch
        self.calls = {"train": 0, "val": 0}

    def step(self, batch: dict[str, Tensor], stage: str) -> dict[str, Tensor]:
        terms = super().step(batch, stage)
        self.calls[stage] += 1
        if (stage, self.calls[stage] - 1) == self.at:
            spread = torch.tensor(float("inf"))
            return {"loss": terms["loss"] * spread, "spread": spread}
        return terms


def stopped(folder: Path, module: TinyModule, data: Any, **arguments: Any) -> tuple[str, Trainer]:
    trainer = make_trainer(folder, **arguments)
    with pytest.raises(FloatingPointError) as caught:
        trainer.fit(module, data)
    message = str(caught.value)
    assert "\n" not in message
    return message, trainer


def test_names_terms_place_and_the_broken_object(tmp_path: Path) -> None:
    data = TinyDataModule(TinySource(40, broken_row=3), batch_size=8)
    module = TinyModule()
    message, trainer = stopped(tmp_path, module, data)
    assert 3 in data.columns["index"][data.rows["train"]]
    assert message.startswith("train/loss = nan, train/spread = nan at epoch 0, step ")
    assert f"step {trainer.global_step}, batch {trainer.global_step}" in message
    assert "the inputs of 1 object(s) are not finite: star 3" in message
    assert all(value.isfinite().all() for value in module.parameters())


def test_names_the_batch_if_the_inputs_are_finite(tmp_path: Path) -> None:
    module = Exploding("train", 2)
    message, trainer = stopped(tmp_path, module, make_data(100, batch_size=16))
    assert message.startswith("train/loss = inf, train/spread = inf at epoch 0, step 2, batch 2;")
    assert "the inputs are finite, the batch holds 16 object(s): star " in message
    assert message.count("star ") == 10
    assert "weights and buffers are finite" in message
    assert trainer.global_step == 2  # the step was not taken


def test_names_weights_that_are_not_finite(tmp_path: Path) -> None:
    module = TinyModule()
    module.net[0].bias.data[1] = float("nan")
    message, _ = stopped(tmp_path, module, make_data(), num_sanity_val_steps=0)
    assert "not finite in the module: net.0.bias" in message


def test_validation_stops_and_names_its_first_bad_batch(tmp_path: Path) -> None:
    data = make_data(100, batch_size=4)
    message, trainer = stopped(tmp_path, Exploding("val", 1), data, num_sanity_val_steps=0)
    step = len(data.train_dataloader())
    start = f"val/loss = inf, val/spread = inf at epoch 0, step {step}, batch 1;"
    assert message.startswith(start)
    assert message.count("star ") == len(data.rows["val"].tensor_split(2)[1])
    assert trainer.current_epoch == 0


def test_a_module_and_loader_of_somebody_elses(tmp_path: Path) -> None:
    from lightning.pytorch.demos.boring_classes import BoringModel

    class Boring(BoringModel):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return self.layer(batch).sum() * float("nan")

    message, _ = stopped(tmp_path, Boring(), None, num_sanity_val_steps=0)
    assert message.startswith("train/loss = nan at epoch 0, step 0, batch 0;")


def test_finite_training_is_left_alone(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(TinyModule(), make_data())
    assert trainer.current_epoch == 1


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ({"features": [[1.0, 2.0], [NAN, 1.0], [1.0, -INF]]}, ([11, 12], True)),
        ({"features": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}, ([10, 11, 12], False)),
        (
            {
                "features": [[NAN, 2.0], [NAN, 1.0], [1.0, 1.0]],
                "good": [[False, True], [True, True], [True, True]],
                "colour": [NAN, 1.0, INF],
            },
            ([11, 12], True),
        ),
    ],
    ids=["NaN and infinity", "finite", "absent is NaN where good is False"],
)
def test_culprits(batch: dict[str, Any], expected: tuple[list[int], bool]) -> None:
    tensors = {name: torch.tensor(values) for name, values in batch.items()}
    rows, broken = culprits({"index": torch.tensor([10, 11, 12]), **tensors})
    assert (rows.tolist(), broken) == expected
