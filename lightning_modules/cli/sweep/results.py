"""What a sweep found: `sweep.csv`, and figures of history, importance and each option."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from callbacks.report.figures import COLOURS, new_figure, render, style
from callbacks.report.plots import GREY, logarithmic
from datamodules.files import atomic_path
from lightning_modules.cli.sweep.space import label_of
from lightning_modules.cli.sweep.study import BOOKKEEPING, Study
from lightning_modules.cli.sweep.trial import run_of

Array = NDArray[Any]
MIN_IMPORTANCE = 4
"""Finished trials below which importances mean nothing."""


def write_table(study: Study) -> None:
    """Write `sweep.csv`: a row for each trial, its objective, options and what the report said.

    Under the study's lock, so that no other process writes an older table over it.
    """
    with study.lock:
        _write(study, study.trials())


def _write(study: Study, trials: Sequence[FrozenTrial]) -> None:
    """Write the rows of trials."""
    attributes = {key for trial in trials for key in trial.user_attrs} - set(BOOKKEEPING)
    names = ["trial", "state", "objective", "seconds", "run", *study.space, *sorted(attributes)]
    with atomic_path(study.folder / "sweep.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for trial in trials:
            point = {name: label_of(name, value) for name, value in trial.params.items()}
            kept = {key: trial.user_attrs[key] for key in attributes & trial.user_attrs.keys()}
            writer.writerow({**_facts(study, trial), **point, **kept})


def draw(study: Study) -> list[Path]:
    """Draw the figures into `figures/`; return their files.

    Raises:
        ValueError: If no report has a key that is watched.
    """
    done = [trial for trial in study.trials() if trial.state == TrialState.COMPLETE]
    if not done:
        return []
    with style():
        figures = {"history": _history(study, done), "options": _options(study, done)}
        importance = _importance(study, done)
        if importance is not None:
            figures["importance"] = importance
        if study.settings.watch:
            figures["watched"] = _watched(study, done)
    paths = []
    for name, figure in figures.items():
        with atomic_path(study.folder / "figures" / f"{name}.png") as path:
            imsave(path, render(figure), format="png")
        paths.append(study.folder / "figures" / f"{name}.png")
    return paths


def _facts(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """Return the columns that every sweep has."""
    seconds = trial.duration.total_seconds() if trial.duration else None
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "objective": trial.value,
        "seconds": None if seconds is None else round(seconds, 1),
        "run": str(run_of(study.folder, trial.number)),
    }


def _history(study: Study, done: Sequence[FrozenTrial]) -> Figure:
    """Draw the objective of each trial and the best so far."""
    figure, (panel,) = new_figure(panel=(6.0, 3.8))
    number = np.array([trial.number for trial in done])
    value = np.array([trial.value for trial in done])
    best = np.minimum if study.settings.direction == "minimize" else np.maximum
    panel.scatter(number, value, color=COLOURS[0], label="trial")
    colour, label = COLOURS[1], "best so far"
    panel.step(number, best.accumulate(value), where="post", color=colour, label=label)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set(xlabel="trial", ylabel=study.settings.monitor, title="History")
    panel.legend()
    return figure


def _options(study: Study, done: Sequence[FrozenTrial]) -> Figure:
    """Draw the objective against each option."""
    columns = min(3, len(study.space))
    figure, panels = new_figure(math.ceil(len(study.space) / columns), columns)
    for panel, (name, distribution) in zip(panels, study.space.items(), strict=False):
        _option(panel, name, distribution, done)
        panel.set(xlabel=name, ylabel=study.settings.monitor)
    for panel in panels[len(study.space) :]:
        panel.set_visible(False)
    return figure


def _option(
    panel: Axes,
    name: str,
    distribution: optuna.distributions.BaseDistribution,
    done: Sequence[FrozenTrial],
) -> None:
    """Draw the objective against one option; choices stand side by side."""
    value = np.array([trial.value for trial in done])
    place = _places(panel, name, distribution, done)
    panel.scatter(place, value, c=[trial.number for trial in done], cmap="viridis")


def _places(
    panel: Axes,
    name: str,
    distribution: optuna.distributions.BaseDistribution,
    done: Sequence[FrozenTrial],
) -> Array:
    """Return where trials stand on the axis of one option, and prepare that axis."""
    if not isinstance(distribution, optuna.distributions.CategoricalDistribution):
        if getattr(distribution, "log", False):
            logarithmic(panel, "x")
        return np.array([trial.params[name] for trial in done])
    texts = [str(label_of(name, choice)) for choice in distribution.choices]
    panel.margins(x=0.2)
    angle, end = (30, "right") if max(map(len, texts)) > 6 else (0, "center")
    panel.set_xticks(range(len(texts)), texts, rotation=angle, ha=end)
    return np.array([distribution.choices.index(trial.params[name]) for trial in done])


def _watched(study: Study, done: Sequence[FrozenTrial]) -> Figure:
    """Draw what reports say against the first option: each trial, and the mean at each place."""
    name, distribution = next(iter(study.space.items()))
    figure, panels = new_figure(len(study.settings.watch), panel=(6.0, 3.2))
    for panel, key in zip(panels, study.settings.watch, strict=True):
        told = [trial for trial in done if trial.user_attrs.get(key) is not None]
        if not told:
            there = sorted({key for trial in done for key in trial.user_attrs if "/" in key})
            raise ValueError(f"--sweep.watch {key}: no report has it; they have {', '.join(there)}")
        place = _places(panel, name, distribution, told)
        value, low, high = (_told(told, key, end) for end in ("", "_q16", "_q84"))
        bars = np.nan_to_num(np.stack([value - low, high - value]).clip(0))
        panel.errorbar(place, value, bars, fmt="o", color=COLOURS[0], alpha=0.6, capsize=3)
        where = np.unique(place)
        mean = [value[place == x].mean() for x in where]
        panel.plot(where, mean, color=COLOURS[1], label="mean over trials")
        metric, _, rest = key.removeprefix("model/").partition("/")
        panel.set(ylabel=metric, title=rest)
        panel.tick_params(labelbottom=panel is panels[-1])
    panels[0].legend()
    panels[-1].set_xlabel(name)
    return figure


def _told(trials: Sequence[FrozenTrial], key: str, end: str) -> Array:
    """Return what the report of each trial says, NaN if nothing.

    Args:
        trials: With what their reports say.
        key: Of the report, model/<metric>/<slice>.
        end: Put behind the metric.
    """
    metric, slash, rest = key.removeprefix("model/").partition("/")
    name = f"model/{metric}{end}{slash}{rest}"
    return np.array([trial.user_attrs.get(name, np.nan) for trial in trials], dtype=float)


def _importance(study: Study, done: Sequence[FrozenTrial]) -> Figure | None:
    """Draw the share of the objective's variance that each option explains (fANOVA).

    None if there are too few trials, one option, or no variance.

    Reference: Hutter, Hoos & Leyton-Brown 2014 (ICML).
    """
    varied = len({trial.value for trial in done}) > 1
    if len(done) < MIN_IMPORTANCE or len(study.space) < 2 or not varied:
        return None
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=study.settings.seed)
    found = optuna.importance.get_param_importances(study.study, evaluator=evaluator)
    names = sorted(found, key=lambda name: found[name])
    figure, (panel,) = new_figure(panel=(6.0, 1.2 + 0.4 * len(names)))
    panel.barh(names, [found[name] for name in names], color=COLOURS[0], edgecolor=GREY)
    panel.set(xlabel="share of the variance explained", title="Importance")
    return figure
