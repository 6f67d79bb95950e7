"""Random states travel as plain tensors and come back exactly."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from callbacks.run.exact_resume import KEY, random_states, set_random_states
from tests.reliability.runs import Saver, fit, make_trainer


def draw() -> list[float]:
    """Draw from every generator, with an odd number of normals, of which half are kept back."""
    numbers = [random.random(), random.gauss(0, 1), float(np.random.normal()), np.random.random()]
    return [*numbers, float(torch.randn(()))]


@pytest.mark.parametrize("warm_up", [0, 1])
def test_every_generator_comes_back(tmp_path: Path, warm_up: int) -> None:
    trainer = make_trainer(tmp_path)
    for _ in range(warm_up):
        draw()
    states = random_states(trainer)
    assert all(isinstance(value, torch.Tensor) for value in states.values())
    drawn = [draw() for _ in range(3)]
    set_random_states(trainer, {name: value.clone() for name, value in states.items()})
    assert [draw() for _ in range(3)] == drawn


def test_checkpoint_holds_tensors_for_each_rank(tmp_path: Path) -> None:
    saver = Saver(tmp_path, "on_train_epoch_end")
    fit(tmp_path, saver, max_epochs=1)
    saved = torch.load(saver.paths[0], weights_only=True)[KEY]
    assert {name: len(value) for name, value in saved["random"].items()} == dict.fromkeys(
        ("torch", "numpy", "python", "gauss"), 1
    )
    assert {"train/loss", "val/loss"} <= set(saved["metrics"])


def test_an_evaluation_does_not_touch_the_generators(tmp_path: Path) -> None:
    saver = Saver(tmp_path, "on_train_epoch_end")
    run = fit(tmp_path, saver, max_epochs=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    trainer = make_trainer(tmp_path)
    datamodule = run.trainer.datamodule  # type: ignore[attr-defined]
    trainer.test(run.module, datamodule, ckpt_path=saver.paths[0], verbose=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_without_states_is_resumed(tmp_path: Path) -> None:
    saver = Saver(tmp_path, "on_train_epoch_end")
    fit(tmp_path, saver, max_epochs=1)
    checkpoint = torch.load(saver.paths[0], weights_only=True)
    del checkpoint[KEY]
    torch.save(checkpoint, saver.paths[0])
    assert fit(tmp_path, ckpt_path=saver.paths[0], max_epochs=2).trainer.current_epoch == 2
