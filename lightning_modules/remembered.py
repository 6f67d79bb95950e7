"""Models as checkpoints remember them: a class path and its arguments, plain values both."""

import contextvars
import importlib
import inspect
import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_modules.base import BaseModule
from lightning_modules.old_names import renew_config

ALLOW_VARIABLE = "ASTROLIT_ALLOW_IMPORTS"
"""Packages, separated by commas, whose classes a configuration or a checkpoint may name besides."""


def allowed_packages() -> list[str]:
    """Return the packages that `ASTROLIT_ALLOW_IMPORTS` names."""
    return [name for name in os.environ.get(ALLOW_VARIABLE, "").split(",") if name]


def remembered_model(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the model's class path and arguments as a checkpoint remembers them.

    Args:
        checkpoint: As loaded.

    Returns:
        `class_path` and `init_args`, or None if it was not made through the command line.
    """
    saved = dict(checkpoint.get("hyper_parameters", {}))
    class_path = saved.pop("_class_path", None)
    arguments = {name: value for name, value in saved.items() if not name.startswith("_")}
    found = {"class_path": class_path, "init_args": arguments} if class_path else None
    return renew_config(found)


def build(class_path: str, init_args: Mapping[str, Any]) -> BaseModule:
    """Return a model of a class path and arguments, its weights fresh.

    Args:
        class_path: A model of ours, of a package that `ASTROLIT_ALLOW_IMPORTS` names, or of a
            module that is imported already.
        init_args: Its arguments, plain values.

    Raises:
        ValueError: If there is no such model; nothing else is imported or called.
    """
    module, _, name = class_path.rpartition(".")
    if module.partition(".")[0] in ("lightning_modules", *allowed_packages()):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"{class_path}: {error}; use the version of the package that saved the model"
            ) from None
    kind = getattr(sys.modules.get(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, BaseModule)):
        raise ValueError(
            f"{class_path} is no model that may be loaded; {ALLOW_VARIABLE}=<package> allows the "
            "models of another package"
        )
    try:
        inspect.signature(kind).bind(**init_args)
    except TypeError as error:
        raise ValueError(
            f"{class_path}: {error}; its arguments are not those of the version installed here"
        ) from None
    # A fresh context: else Lightning takes the arguments of the model around it for this one's.
    return contextvars.Context().run(kind, **init_args)


def read(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint, nothing unpickled.

    Raises:
        ValueError: If it is truncated, damaged, no checkpoint, or holds pickled objects.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).split("\n", 1)[0].split(". ", 1)[0]
        raise ValueError(f"{path}: truncated or no checkpoint ({reason})") from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path}: not a Lightning checkpoint (no state_dict in it)")
    return checkpoint


def remember(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Return `class_path` and `init_args` of a checkpoint's model.

    Args:
        checkpoint: As loaded; one that `astrolit fit` saved, so that it names its class.
        path: Where it was loaded from.

    Raises:
        ValueError: If it names no class.
    """
    remembered = remembered_model(checkpoint)
    if remembered is None:
        raise ValueError(f"{path}: names no class of model; give a checkpoint of `astrolit fit`")
    return remembered


def fill(model: BaseModule, checkpoint: dict[str, Any]) -> BaseModule:
    """Return a model with the weights and buffers of its checkpoint, to evaluate.

    Args:
        model: Of `build`.
        checkpoint: As loaded.

    Raises:
        ValueError: If its weights are another model's.
    """
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


def restore(checkpoint: dict[str, Any], path: str | Path) -> tuple[dict[str, Any], BaseModule]:
    """Return what a checkpoint remembers of its model, and the model as it was, to evaluate.

    Args:
        checkpoint: As loaded; one that `astrolit fit` saved, so that it names its class.
        path: Where it was loaded from.

    Raises:
        ValueError: If it names no class, or its weights are another model's.
    """
    remembered = remember(checkpoint, path)
    return remembered, fill(build(**remembered), checkpoint)
