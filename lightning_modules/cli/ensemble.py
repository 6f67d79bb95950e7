"""The command `astrolit ensemble`: several trained runs become one checkpoint."""

from itertools import count
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from callbacks.run.checkpoint_io import AtomicCheckpointIO
from datamodules.files import atomic_path
from lightning_modules.cli.beside import check_data, run_config, trained_data
from lightning_modules.cli.checkpoints import identity, read_checkpoint
from lightning_modules.cli.parser import AstroParser, prepare_parsing
from lightning_modules.ensemble import Ensemble
from lightning_modules.remembered import fill, remember
from lightning_modules.runs import find_checkpoint

CLASS_PATH = "lightning_modules.Ensemble"
OF_A_FIT = ("state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers")
KEPT = ("seed_everything", "trainer", "data")


def ensemble(runs: list[str], output: str, dropout_draws: int = 0, error_draws: int = 0) -> Path:
    """Save several trained runs of a method as one model, in a run's folder of its own.

    Args:
        runs: Folders or checkpoints of runs of one class of model, on the same data and split.
        output: Folder of the ensemble, such as runs/clustering/ensemble; version_0, version_1...
            are made in it.
        dropout_draws: Answers of each member with dropout at work; 0 leaves dropout out.
        error_draws: Answers of each member to measurements drawn anew within their errors.

    Returns:
        The new folder; its config.yaml is that of the first run, with this model.

    Raises:
        ValueError: If the runs are no ensemble.
        FileNotFoundError: If a run has no checkpoint or no configuration.
    """
    paths = [find_checkpoint(run) for run in runs]
    checkpoints = [read_checkpoint(path) for path in paths]
    data = trained_data(paths[0])
    for path in paths[1:]:
        check_data(path, trained_data(path), data, f"{paths[0]}")
    members: list[str | dict[str, Any]] = [
        remember(checkpoint, path) for checkpoint, path in zip(checkpoints, paths, strict=True)
    ]
    model = Ensemble(members, dropout_draws, error_draws)
    for member, checkpoint in zip(model.models, checkpoints, strict=True):
        fill(member, checkpoint)
    model.run_record["members"] = [identity(path) for path in paths]
    data.prepare_data()
    data.load_state_dict(checkpoints[0].get(type(data).__qualname__, {}))  # a frame, say
    data.setup("test")
    model.line_up(data)
    folder = next(p for p in (Path(output) / f"version_{n}" for n in count()) if not p.exists())
    saved = folder / "checkpoints" / "best.ckpt"
    AtomicCheckpointIO().save_checkpoint(_checkpoint(model, checkpoints[0]), saved)
    config = yaml.safe_load(run_config(paths[0]).read_text())
    config = {name: config[name] for name in KEPT if name in config}
    with atomic_path(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump({**config, "model": {"class_path": CLASS_PATH}}))
    return folder


def _checkpoint(model: Ensemble, first: dict[str, Any]) -> dict[str, Any]:
    """Return the ensemble's checkpoint: the first member's data and versions, its own model."""
    kept = {name: value for name, value in first.items() if name not in OF_A_FIT}
    arguments = {**model.hparams, "_class_path": CLASS_PATH}
    found = {**kept, "state_dict": model.state_dict(), "hyper_parameters": arguments}
    model.on_save_checkpoint(found)
    return found


def main(words: list[str]) -> None:
    """Parse the words after `astrolit ensemble` and run."""
    prepare_parsing()
    about = "Make one model of several trained runs: their mean, and how far they are apart."
    parser = AstroParser(prog="astrolit ensemble", description=about)
    parser.hint = "`astrolit ensemble --help` lists the options"
    parser.add_argument("runs", nargs="+", type=str, help="Folders or checkpoints of trained runs.")
    parser.add_function_arguments(ensemble, as_group=False, skip={"runs"})
    folder = ensemble(**parser.parse_args(words).as_dict())
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"ensemble: {folder}")
    console.print(f"next: astrolit test -c {folder}/config.yaml --ckpt_path {folder}")
