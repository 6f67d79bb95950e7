"""A resumed training equals the uninterrupted one bit for bit, wherever it was stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.reliability.runs import Saver, assert_same_from, fit, make_data

STOPS = (
    "on_train_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_batch_end",
    "on_validation_end",
    "on_train_epoch_end",
    "on_train_end",
)
NOISY = {"dropout": 0.3, "noise": 0.1}


def check_every_stop(
    folder: Path, stops: tuple[str, ...] = STOPS, num_workers: int = 0, **arguments: Any
) -> int:
    """Save at every stop of one run, resume from each with other weights and another seed."""
    saver = Saver(folder, *stops)
    reference = fit(folder, saver, data=make_data(num_workers=num_workers), **arguments)
    for path in saver.paths:
        data = make_data(num_workers=num_workers)
        resumed = fit(folder, seed=2, ckpt_path=path, data=data, **arguments)
        assert_same_from(path, reference, resumed)
    return len(saver.paths)


@pytest.mark.parametrize(
    "rates",
    [
        pytest.param({"plateau": True}, id="plateau"),
        pytest.param({"schedule": "cosine", "warmup_steps": 3, "weight_decay": 0.1}, id="cosine"),
    ],
)
def test_every_stop_with_dropout_noise_and_a_schedule(
    tmp_path: Path, rates: dict[str, Any]
) -> None:
    # 3 epochs of: epoch end, 4 batches, 3 stops of the validation; start and end
    assert check_every_stop(tmp_path, model={**NOISY, **rates}) == 3 * 8 + 2


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"limit_train_batches": 3}, id="limit_train_batches"),
        pytest.param({"limit_train_batches": 3, "limit_val_batches": 0}, id="no validation"),
        pytest.param({"check_val_every_n_epoch": 2}, id="validation every second epoch"),
        pytest.param({"val_check_interval": 2}, id="validation within the epoch"),
    ],
)
def test_every_stop_with_trainer_options(tmp_path: Path, arguments: dict[str, Any]) -> None:
    assert check_every_stop(tmp_path, model=NOISY, **arguments) > 10


def test_stops_with_workers(tmp_path: Path) -> None:
    stops = ("on_train_batch_end",)
    assert check_every_stop(tmp_path, stops, 2, model=NOISY, max_epochs=2) == 8


def test_gradient_accumulation_resumes_at_optimizer_steps(tmp_path: Path) -> None:
    stops = ("on_train_batch_end", "on_validation_start", "on_train_epoch_end")
    arguments: dict[str, Any] = {"model": NOISY, "accumulate_grad_batches": 3}
    saver = Saver(tmp_path, *stops)
    reference = fit(tmp_path, saver, **arguments)
    # batches 0 and 1 of 4 are half of a step; the third and the last (short) one end a step
    stepped = [path for place, path in enumerate(saver.paths) if place % 6 not in (0, 1)]
    for path in stepped:
        assert_same_from(path, reference, fit(tmp_path, seed=2, ckpt_path=path, **arguments))


def test_max_steps_does_not_lose_an_epoch(tmp_path: Path) -> None:
    # Lightning 2.6 ends the resumed epoch twice if max_steps is set
    stops = ("on_validation_batch_end", "on_train_epoch_end")
    assert check_every_stop(tmp_path, stops, model=NOISY, max_steps=10, max_epochs=-1) == 5


def test_without_rng_state_the_resumed_run_differs(tmp_path: Path) -> None:
    """The comparison is sharp: what it guards against shows."""
    saver = Saver(tmp_path, "on_train_batch_end")
    reference = fit(tmp_path, saver, model=NOISY)
    path = saver.paths[1]
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["astrolit_resume"]
    torch.save(checkpoint, path)
    resumed = fit(tmp_path, seed=2, ckpt_path=path, model=NOISY)
    with pytest.raises(AssertionError, match="states differ"):
        assert_same_from(path, reference, resumed)


def test_a_resumed_run_can_be_resumed(tmp_path: Path) -> None:
    """Twice interrupted, in validation both times."""
    first, second = Saver(tmp_path, "on_validation_batch_end"), Saver(tmp_path, *STOPS)
    reference = fit(tmp_path, first, model=NOISY)
    again = tmp_path / "again"
    second.folder = again
    fit(again, second, seed=2, ckpt_path=first.paths[0], model=NOISY)
    for path in second.paths:
        resumed = fit(again, seed=3, ckpt_path=path, model=NOISY)
        assert_same_from(path, reference, resumed)
