"""`astrolit test --beside.NAME RUN`: other trained runs in the report of one."""

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


def put_beside(runs: Mapping[str, str], trainer: Trainer, data: BaseDataModule) -> None:
    """Load trained runs and hand them to the reports of a test run.

    Args:
        runs: Name in the report to a run's folder or checkpoint.
        trainer: Its callbacks hold the reports.
        data: What is tested on.

    Raises:
        ValueError: If nothing reports, or a run may have been trained on what is held out here.
        FileNotFoundError: If there is no such checkpoint, or nothing says what it was trained on.
    """
    reports = [x for x in trainer.callbacks if isinstance(x, ReportCallback)]  # type: ignore[attr-defined]
    if not reports:
        raise ValueError("--beside needs a report in trainer.callbacks, such as ClusteringReport")
    for name, place in runs.items():
        path = find_checkpoint(place)
        check_data(f"--beside.{name} {place}", trained_data(path), data)
        module = load_model(path)
        for report in reports:
            report.beside[name] = module


def run_config(path: str) -> Path:
    """Return the configuration of the run that a checkpoint lies in.

    Raises:
        FileNotFoundError: If no configuration lies in that folder.
    """
    config = (run_folder(path) or Path(path).parent) / "config.yaml"
    if not config.is_file():
        raise FileNotFoundError(
            f"{path}: no config.yaml in {config.parent} says what this model was trained on; give "
            "the folder of a run of `astrolit fit`"
        )
    return config


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


def check_data(where: str, trained: BaseDataModule, tested: BaseDataModule) -> None:
    """Refuse a run whose training may have seen what is held out here.

    Args:
        where: The run, for the message.
        trained: What it was trained on; nothing need be set up.
        tested: What it is to be tested on.

    Raises:
        ValueError: If source, seed or shares of the split differ.
    """
    before, now = _split(trained), _split(tested)
    differ = [name for name in now if before[name] != now[name]]
    if differ:
        name = differ[0]
        raise ValueError(
            f"{where}: trained with {name} {before[name]}, but tested here with {now[name]}, so "
            "its training may have seen what is held out; train both on the same data and split"
        )


def _split(data: BaseDataModule) -> dict[str, Any]:
    """Return all that fixes which objects are held out."""
    return {
        "data": type(data).__name__,
        "data.source": {"source": type(data.source).__name__, **data.source.parameters()},
        "data.seed": data.seed,
        "data.val_fraction": data.val_fraction,
        "data.test_fraction": data.test_fraction,
    }
