"""What is written against Lightning's private names fails loudly when Lightning changes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import lightning
import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel
from torch import nn

from callbacks.run import lightning_private

ROOT = Path(__file__).parents[3]
OWNERS = {
    "fit_loop": ["_data_fetcher", "_iteration_based_training", "_restarting"],
    "fit_loop.epoch_loop": ["_should_check_val_fx", "_num_ready_batches_reached"],
    "_signal_connector": ["received_sigterm"],
    "": ["_signal_connector"],
}


def test_the_installed_lightning_is_the_one_that_private_names_were_taken_from() -> None:
    pinned = [
        line.removeprefix("lightning==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.startswith("lightning==")
    ]
    assert [lightning.__version__] == pinned == ["2.6.6"]


def private_names(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield the private attributes that a file reads, sets or defines, and whether of `self`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            if not node.attr.startswith("__"):
                yield node.attr, isinstance(node.value, ast.Name) and node.value.id == "self"
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("_"):
            yield node.name, True


@pytest.mark.parametrize("owner", OWNERS)
def test_each_private_name_still_exists(owner: str) -> None:
    value = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    for name in filter(None, owner.split(".")):
        value = getattr(value, name)
    assert [name for name in OWNERS[owner] if not hasattr(value, name)] == []


def test_the_names_tested_are_those_used() -> None:
    used = {name for name, own in private_names(Path(lightning_private.__file__)) if not own}
    assert used == {name for names in OWNERS.values() for name in names if name[0] == "_"}


def test_no_other_file_knows_a_private_name_of_lightning() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    objects = (trainer, BoringModel(), BoringDataModule(), EarlyStopping("loss"))
    objects += (LearningRateMonitor(), ModelCheckpoint(), LightningArgumentParser(), LightningCLI)
    of_lightning = {name for thing in objects for name in dir(thing)} - set(dir(nn.Module()))
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for package in ("callbacks", "datamodules", "lightning_modules")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "lightning_private.py" and not {"readers", "simulate"} & {*path.parts}
        for name, own in private_names(path)
        if (name in of_lightning if own else name not in ("_replace", "_asdict", "_fields"))
    }
    assert found == set()
