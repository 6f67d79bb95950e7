"""The parser of the command `astrolit`: a mistake is one line, not the usage of all options."""

import inspect
import os
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader, set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser

import callbacks
import datamodules
import lightning_modules
from lightning_modules.cli.shipped_configs import CONFIG
from lightning_modules.old_names import renew_config
from lightning_modules.optimizers import RATES
from lightning_modules.remembered import ALLOW_VARIABLE, allowed_packages

ALLOWED_IMPORTS = [
    "lightning_modules",
    "datamodules",
    "callbacks",
    "lightning.pytorch",
    "lightning.fabric",
    "torch.optim",
    "torchmetrics",
]
DEBUG_VARIABLE = "ASTROLIT_DEBUG"
MODE = "astrolit"
"""How the parser loads configurations: YAML that may know old names."""
# What jsonargparse says of the types that it tried, and of the whole object that a wrong key is in.
NOISE = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Expected a <class 'NoneType'>|Given value type:|"
    r"Given value: (Namespace|NestedArg)\(|Expected a path but |$"
)
WORDS = (
    (re.compile(r'^Parser key "(.*)":'), r"\1:"),
    (re.compile(r"Expected a dot import path string:"), "no class of this name or import path:"),
    (re.compile(r"Add the import path to .*"), f"{ALLOW_VARIABLE}=<package> allows it."),
)
TYPED_RATE = re.compile(rf"--model\.(?:init_args\.)?({'|'.join(RATES)})(?:=|$)")


class AstroParser(LightningArgumentParser):
    """LightningArgumentParser whose errors are one line each."""

    hint = "`astrolit fit --help` lists the options, `astrolit configs` the configurations"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and where to look, and exit with code 2.

        Args:
            message: What jsonargparse says, perhaps over many lines.
            ex: What it caught.
        """
        if not self.exit_on_error or os.environ.get(DEBUG_VARIABLE):
            super().error(message, ex)
        sys.stderr.write(f"astrolit: error: {one_line(message)} ({self.hint})\n")
        self.exit(2)


def one_line(message: str) -> str:
    """Return an error of jsonargparse without what it tried in vain; others as they are.

    Args:
        message: The text of an error.
    """
    if "\n" not in message:
        return message
    lines = [re.sub(r"^\s*(- )?", "", line).rstrip() for line in message.splitlines()]
    kept = [line for line in lines if not NOISE.match(line)]
    for pattern, text in WORDS:
        kept = [pattern.sub(text, line) for line in kept]
    return "".join(line + (" " if line.endswith(":") else "; ") for line in kept).rstrip("; ")


def check_schedule(optimizer: object, lr_scheduler: object) -> None:
    """Refuse a schedule without the optimizer that it is for; Lightning would leave it out.

    Raises:
        ValueError: If only the schedule is given.
    """
    if lr_scheduler is not None and optimizer is None:
        raise ValueError(
            "lr_scheduler is set but no optimizer, so it would have no effect; "
            "use --model.schedule cosine, or add --optimizer AdamW --optimizer.lr 1e-3, or another"
        )


def check_rates(words: Sequence[str], model: type) -> dict[str, Any]:
    """Refuse a learning rate of the model that an optimizer given before or beside it silences.

    One of an earlier file gives way to an optimizer, and a saved configuration holds all defaults.

    Args:
        words: The command line, as `resolve_paths` returns it.
        model: The model's class.

    Returns:
        The model's own defaults, to put in place of what gives way.

    Raises:
        ValueError: If `model.lr`, or another of `RATES`, would have no effect.
    """
    known = inspect.signature(model).parameters
    own = {name: known[name].default for name in RATES if name in known}
    defaults = {name: value for name, value in own.items() if value is not inspect.Parameter.empty}
    silenced = [match[1] for word in words if (match := TYPED_RATE.match(word))]
    optimizer = False
    for config in _files(words):
        optimizer = config.get("optimizer", optimizer or None) is not None
        settings = config.get("model")
        given = settings.get("init_args", {}) if isinstance(settings, dict) else {}
        changed = [name for name in defaults if given.get(name, defaults[name]) != defaults[name]]
        silenced += changed if optimizer else []
    if silenced:
        raise ValueError(
            f"model.{silenced[0]} has no effect beside optimizer; set --optimizer.lr, "
            "--optimizer.weight_decay or --lr_scheduler, or leave both out: --optimizer null "
            "--lr_scheduler null"
        )
    return defaults


def _files(words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the configuration files of a command line, in order."""
    for option, value in pairwise(words):
        if option in CONFIG:
            text = value if value.lstrip().startswith("{") else Path(value).read_text()
            yield get_loader("yaml")(text) or {}


def prepare_parsing() -> None:
    """Teach jsonargparse which classes there are, which may be named, and what their old names are.

    A configuration may name classes of astrolit, Lightning, torch's optimizers and metrics, and
    of the packages that `ASTROLIT_ALLOW_IMPORTS` lists, separated by commas.
    """
    allowed = [*ALLOWED_IMPORTS, *allowed_packages()]
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=allowed)
    set_loader(MODE, lambda text: renew_config(get_loader("yaml")(text)), (yaml.YAMLError,))
    for package in (lightning_modules, datamodules, callbacks):
        for name in package.__all__:  # a class is found by its short name once it is imported
            getattr(package, name)
