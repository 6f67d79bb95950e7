from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_modules import CompactClustering
from tests.lightning_modules.sidm.maps import SMALL
from tests.reliability.runs import Saver, assert_same_from, fit


def test_a_resumed_training_turns_and_drops_as_the_uninterrupted_one(
    make_data: Callable[..., Any], tmp_path: Path
) -> None:
    """Flips and dropout come from the generator that a checkpoint keeps, bottlenecks by step."""
    saver = Saver(tmp_path / "stops", "on_train_batch_end", "on_train_epoch_end")
    model = {**SMALL, "num_classes": 3, "hidden": "unlabelled", "num_reference": 2}
    arguments: dict[str, Any] = {"kind": CompactClustering, "max_epochs": 2}
    arguments["model"] = {**model, "ordered_bottleneck": True}
    reference = fit(tmp_path, saver, data=make_data(128, 16), **arguments)
    assert reference.state().isfinite().all()
    for path in saver.paths[1:-2:3]:
        again = fit(tmp_path, data=make_data(128, 16), seed=2, ckpt_path=path, **arguments)
        assert_same_from(path, reference, again)
