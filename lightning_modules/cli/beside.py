"""`astrolit test --beside.NAME RUN`: other trained runs in the report of one."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer

from callbacks.report.base import ReportCallback
from datamodules.base import BaseDataModule
from lightning_modules.cli.checkpoints import load_model
from lightning_modules.cli.parser import AstroParser
from lightning_modules.old_names import renew_config
from lightning_modules.runs import find_checkpoint, run_folder

FREE = ("source", "batch_size", "num_workers", "cache_dir", "memory_limit_gib")
"""Arguments of a datamodule that leave a batch's rows as they are, and the source."""
HELD_OUT = "so its training may have seen what is held out"


def put_beside(runs: Mapping[str, str], trainer: Trainer, data: BaseDataModule) -> None:
    """Load trained runs and hand them to the reports of a test run.

    Args:
        runs: Name in the report to a run's folder or checkpoint.
        trainer: Its callbacks hold the reports.
        data: What is tested on.

    Raises:
        ValueError: If no report shows other runs, or a run may have been trained on what is held
            out here, or on other input.
        FileNotFoundError: If there is no such checkpoint, or nothing says what it was trained on.
    """
    reports = [x for x in trainer.callbacks if isinstance(x, ReportCallback)]  # type: ignore[attr-defined]
    showing = [report for report in reports if report.shows_beside]
    if not showing:
        names = ", ".join(type(report).__name__ for report in reports) or "none"
        raise ValueError(
            "--beside needs a report in trainer.callbacks that shows other runs, such as "
            f"ClusteringReport; here is {names}"
        )
    for name, place in runs.items():
        path = find_checkpoint(place)
        check_data(f"--beside.{name} {place}", trained_data(path), data)
        module = load_model(path)
        for report in showing:
            report.beside[name] = module


def check_unseen(where: str, path: str, data: BaseDataModule) -> None:
    """Refuse to test a model on the source that it was trained on if the split is another one.

    Another source is new data, and a checkpoint without a configuration tells nothing.

    Args:
        where: The option that names the model, for the message.
        path: Its checkpoint.
        data: What it is to be tested on.

    Raises:
        ValueError: If the objects are the same, but what fixes the held-out ones is not.
    """
    config = _config_of(path)
    saved = yaml.safe_load(config.read_text()) if config.is_file() else None
    block = renew_config(saved.get("data")) if isinstance(saved, dict) else None
    if not isinstance(block, dict):
        return
    blocks = block, block.get("init_args", {}).get("source", {})
    kinds = [str(one.get("class_path")).rsplit(".", 1)[-1] for one in blocks]
    if kinds != [type(data).__name__, type(data.source).__name__]:
        return
    trained = trained_data(path)
    try:
        is_new = trained.source.parameters() != data.source.parameters()
    except FileNotFoundError:  # the files of one of them are gone: they cannot be the same
        return
    is_new |= data.source.simulated and trained.seed != data.seed
    for name in () if is_new else data.split_settings:
        before, now = getattr(trained, name), getattr(data, name)
        if _unordered(before) != _unordered(now):
            raise ValueError(
                f"{where}: trained with data.{name} {before}, but tested here with {now} on the "
                f"same source, {HELD_OUT}; give --data.{name} {before}, or another source"
            )


def _unordered(value: Any) -> Any:
    """Return a list sorted, for the order of names moves no object."""
    return sorted(value) if isinstance(value, list) else value


def run_config(path: str) -> Path:
    """Return the configuration of the run that a checkpoint lies in.

    Raises:
        FileNotFoundError: If no configuration lies in that folder.
    """
    config = _config_of(path)
    if not config.is_file():
        raise FileNotFoundError(
            f"{path}: no config.yaml in {config.parent} says what this model was trained on; give "
            "the folder of a run of `astrolit fit`"
        )
    return config


def _config_of(path: str) -> Path:
    """Return where the configuration of a checkpoint's run lies, if there is one."""
    return (run_folder(path) or Path(path).parent) / "config.yaml"


def trained_data(path: str) -> BaseDataModule:
    """Return the datamodule, not set up, that a run was trained on.

    Args:
        path: A checkpoint in its run's folder.

    Raises:
        FileNotFoundError: If no configuration lies in that folder.
    """
    parser = AstroParser()
    parser.add_subclass_arguments(BaseDataModule, "data")
    block = renew_config(yaml.safe_load(run_config(path).read_text())["data"])
    found: BaseDataModule = parser.instantiate_classes(parser.parse_object({"data": block})).data
    return found


def check_data(
    where: str, trained: BaseDataModule, other: BaseDataModule, what: str = "tested here"
) -> None:
    """Refuse a run that may have seen in training what is held out in another, or other input.

    Args:
        where: The run, for the message.
        trained: What it was trained on; not set up.
        other: What it is to be tested on, or what the other run was trained on; not set up.
        what: Which of both `other` is, for the message.

    Raises:
        ValueError: If source, seed or shares of the split differ, or any other setting of the data
            that changes a batch.
    """
    before, now = _settings(trained), _settings(other)
    for name in now:
        if before.get(name) != now[name]:
            same = name.removeprefix("data.") not in ("data", "source", *other.split_settings)
            why = "so the model learnt from other input" if same else HELD_OUT
            raise ValueError(
                f"{where}: trained with {name} {before.get(name)}, but {what} with {now[name]}, "
                f"{why}; train both on the same data and split"
            )


def _settings(data: BaseDataModule) -> dict[str, str]:
    """Return all that fixes what is in a batch and which objects are held out."""
    source = {"source": type(data.source).__name__, **data.source.parameters()}
    found: dict[str, Any] = {"data": type(data).__name__, "data.source": source}
    others = [name for name in inspect.signature(type(data)).parameters if name not in FREE]
    values = vars(data)
    for name in dict.fromkeys([*data.split_settings, *others]):
        found[f"data.{name}"] = values.get(name, values.get(f"given_{name}"))
    return {name: json.dumps(value, default=str, sort_keys=True) for name, value in found.items()}
