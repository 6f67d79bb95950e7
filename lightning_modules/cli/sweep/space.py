"""What a sweep tries: a YAML file of options and their choices or ranges."""

import json
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jsonargparse import get_loader
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Space = dict[str, BaseDistribution]
RANGE = {"low", "high", "log", "step"}
STEPS = "steps"
"""Stands for options that change together; a choice is JSON of a step's name and its options."""


def read_space(path: str) -> Space:
    """Return what each option may be.

    Args:
        path: A YAML file with the one key `space`, a mapping from an option such as `model.lr` to
            a list of choices or to a range: `low`, `high` and, if wanted, `log: true` or `step`.
            In place of an option, `steps` maps names to options that change together, each with
            its value, of any kind.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file; the message names the option.
    """
    try:
        content = get_loader("yaml")(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    space = content.get("space") if isinstance(content, dict) else None
    if not isinstance(space, dict) or len(content) > 1 or not space:
        raise ValueError(
            f"{path}: a space has the one key `space`, a mapping from options such as model.lr to "
            "lists of choices or to ranges {low: 1e-4, high: 1e-2, log: true}"
        )
    found = {
        str(name): (_steps if name == STEPS else _distribution)(f"{path}: {name}", given)
        for name, given in space.items()
    }
    for name, options in space.get(STEPS, {}).items():
        if twice := sorted(options.keys() & found.keys()):
            raise ValueError(
                f"{path}: step {name!r} sets {twice[0]}, of which the space has choices too; leave "
                "one of them out"
            )
    return found


def grid(space: Mapping[str, BaseDistribution]) -> Iterator[dict[str, Any]]:
    """Yield every point of a space, the last option first.

    Raises:
        ValueError: If a range has no steps.
    """
    for point in product(*(_values(name, x) for name, x in space.items())):
        yield dict(zip(space, point, strict=True))


def words_of(point: Mapping[str, Any]) -> list[str]:
    """Return a point of the space as words of a command line, the options of a step for it."""
    options = {name: value for name, value in point.items() if name != STEPS}
    for step in json.loads(point.get(STEPS, "{}")).values():
        options |= step
    return [f"--{name}={_word(value)}" for name, value in options.items()]


def label_of(name: str, choice: Any) -> Any:
    """Return a choice for readers: of a step its name, else as it is.

    Args:
        name: Of the option, or `steps`.
        choice: Its value.
    """
    return next(iter(json.loads(choice))) if name == STEPS else choice


def corners(space: Mapping[str, BaseDistribution]) -> Iterator[tuple[str, Any]]:
    """Yield each option with each of its choices, or both ends of its range."""
    for name, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            yield from ((name, choice) for choice in distribution.choices)
        elif isinstance(distribution, IntDistribution | FloatDistribution):
            yield from ((name, end) for end in (distribution.low, distribution.high))


def _word(value: Any) -> str:
    """Return a value as YAML reads it back."""
    if isinstance(value, list | dict):
        return json.dumps(value)
    return value if isinstance(value, str) else yaml.safe_dump(value).split("\n", 1)[0]


def _distribution(where: str, given: Any) -> BaseDistribution:
    """Return a distribution of what a file gives for one option."""
    if isinstance(given, list):
        if not given:
            raise ValueError(f"{where}: an empty list offers no choice")
        for value in given:
            if isinstance(value, list | dict):
                raise ValueError(
                    f"{where}: write {value} as text in JSON, in quotes: lists and mappings are "
                    "JSON strings in a space"
                )
        return CategoricalDistribution(given)
    if not isinstance(given, dict) or not {"low", "high"} <= given.keys() <= RANGE:
        raise ValueError(f"{where}: give a list of choices, or low and high (and log or step)")
    low, high, step, log = given["low"], given["high"], given.get("step"), given.get("log")
    numbers = [value for value in (low, high, step) if value is not None]
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in numbers):
        raise ValueError(f"{where}: low={low}, high={high} and step={step} must be numbers")
    whole = all(isinstance(value, int) for value in numbers)
    try:
        if whole:
            return IntDistribution(low, high, log=bool(log), step=1 if step is None else step)
        return FloatDistribution(low, high, log=bool(log), step=step)
    except ValueError as error:  # low above high, log from 0, log with step
        raise ValueError(f"{where}: {error}") from None


def _steps(where: str, given: Any) -> CategoricalDistribution:
    """Return the choice between steps, in their order."""
    steps = given.values() if isinstance(given, dict) else []
    if not steps or not all(isinstance(step, dict) and step for step in steps):
        raise ValueError(
            f"{where}: give each step a name and its options, such as "
            "{small: {model.latent_dim: 2, model.hidden_dims: [64, 32]}}"
        )
    return CategoricalDistribution([json.dumps({str(n): step}) for n, step in given.items()])


def _values(name: str, distribution: BaseDistribution) -> list[Any]:
    """Return the values of one option in a grid."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None or distribution.log:
        raise ValueError(
            f"--sweep.sampler grid: {name} is a range without steps; give it a step or a list"
        )
    count = round((distribution.high - distribution.low) / distribution.step)
    values = distribution.low + distribution.step * np.arange(count + 1)
    return [value.item() for value in values]
