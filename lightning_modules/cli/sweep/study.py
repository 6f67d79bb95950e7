"""The study of a sweep: trials in SQLite, shared by processes, none lost and none done twice."""

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_modules.cli.sweep.settings import Settings
from lightning_modules.cli.sweep.space import Space, grid

NUM_TRIALS = 20
MOST_ATTEMPTS = 3
"""Times that a point is tried whose process was killed each time."""

REDOES, ATTEMPT, WORKER, FITTED = "redoes", "attempt", "worker", "fitted"
BOOKKEEPING = (REDOES, ATTEMPT, WORKER, FITTED)
"""User attributes of a trial: the number of the killed one that it repeats, how often that was, who
works at it, and its value once it is fitted but not yet tested."""


class Study:
    """Trials of a sweep in `study.db`.

    What asks and counts holds `.study.lock`; a process holds a lock of its own as long as it
    lives, so that the others know which running trials belong to nobody: those are failed, and
    their points wait to be tried again.

    Args:
        folder: Of the study.
        settings: How to sample.
        space: What to try.
        words: The command line of the runs, which must not change.

    Raises:
        ValueError: If the folder holds another study.
    """

    def __init__(self, folder: Path, settings: Settings, space: Space, words: list[str]) -> None:
        self.folder, self.settings, self.space = folder, settings, space
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder / ".study.lock")
        self._own = FileLock(folder / f".worker-{uuid.uuid4().hex}.lock")
        with self.lock:
            for path in folder.glob(".worker-*"):
                _is_alive(path)
            self._own.acquire()
            self.study = self._open()
            self._begin(words)

    @property
    def limit(self) -> int:
        """Trials to be done in all."""
        if self.settings.sampler != "grid":
            return self.settings.num_trials or NUM_TRIALS
        points = len(list(grid(self.space)))
        return min(self.settings.num_trials or points, points)

    def trials(self) -> list[FrozenTrial]:
        """Return the trials that count: all but killed ones that another trial repeats."""
        trials = self.study.get_trials(deepcopy=False)
        redone = _redone(trials)
        return [trial for trial in trials if trial.number not in redone]

    def claim(self) -> Trial | None:
        """Return the next trial to run, which no other process gets, or None if all are taken."""
        with self.lock:
            self._release_orphans()
            trials = self.trials()
            waiting = sum(trial.state == TrialState.WAITING for trial in trials)
            if len(trials) - waiting >= self.limit:
                return None
            self.study.sampler = self._sampler(len(trials))
            trial = self.study.ask(self.space)
            trial.set_user_attr(WORKER, Path(self._own.lock_file).name)
            return trial

    def close(self) -> None:
        """Let go of the lock that says this process lives."""
        self._own.release()
        Path(self._own.lock_file).unlink(missing_ok=True)

    def _open(self) -> optuna.Study:
        """Open or create the storage."""
        pruner = optuna.pruners.MedianPruner(n_warmup_steps=self.settings.warmup_epochs)
        return optuna.create_study(
            study_name="sweep",
            storage=optuna.storages.RDBStorage(
                f"sqlite:///{(self.folder / 'study.db').absolute()}",
                engine_kwargs={"connect_args": {"timeout": 60}},
            ),
            pruner=pruner if self.settings.pruner == "median" else optuna.pruners.NopPruner(),
            direction=self.settings.direction,
            load_if_exists=True,
        )

    def _begin(self, words: list[str]) -> None:
        """Note what the study is about and put a grid's points in line, or check them."""
        known = self.study.user_attrs
        facts = {
            "space": {name: _plain(x) for name, x in self.space.items()},
            "sampler": self.settings.sampler,
            "monitor": self.settings.monitor,
            "direction": self.settings.direction,
            "command": words,
        }
        for name, value in facts.items():
            if known.get("begun") and known.get(name) != value:
                raise ValueError(
                    f"{self.folder} holds a study with another {name}: {known.get(name)}, not "
                    f"{value}; give another --sweep.folder, remove this one, or type its command"
                )
        if known.get("begun"):
            return
        for name, value in facts.items():
            self.study.set_user_attr(name, value)
        if self.settings.sampler == "grid":
            there = [trial.system_attrs.get("fixed_params") for trial in self.trials()]
            for point in grid(self.space):
                if point not in there:  # some are, if a process was killed here
                    self.study.enqueue_trial(point)
        self.study.set_user_attr("begun", True)

    def _sampler(self, count: int) -> BaseSampler:
        """Return a sampler whose draws depend on the seed and the number of trials alone."""
        seed = self.settings.seed * 100_003 + count
        if self.settings.sampler == "tpe":
            return TPESampler(seed=seed, constant_liar=True)
        return RandomSampler(seed=seed)  # of a grid all points wait in line

    def _release_orphans(self) -> None:
        """End running trials of processes that are gone.

        What was fitted is complete, though untested. Else the point is put in line again before the
        trial fails, so that a kill in between loses none.
        """
        trials = self.study.get_trials(deepcopy=False)
        redone = _redone(trials)
        for trial in trials:
            if trial.state != TrialState.RUNNING:
                continue
            worker = trial.user_attrs.get(WORKER)  # none if killed before it could sign
            if worker is not None and _is_alive(self.folder / worker):
                continue
            if FITTED in trial.user_attrs:
                self.study.tell(trial.number, trial.user_attrs[FITTED])
                continue
            attempt = trial.user_attrs.get(ATTEMPT, 1) + 1
            if attempt <= MOST_ATTEMPTS and trial.number not in redone:
                point = trial.system_attrs.get("fixed_params", trial.params)
                attributes = {REDOES: trial.number, ATTEMPT: attempt}
                self.study.enqueue_trial(point, user_attrs=attributes)
            self.study.tell(trial.number, state=TrialState.FAIL)


def _redone(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of killed trials that others repeat."""
    return {trial.user_attrs[REDOES] for trial in trials if REDOES in trial.user_attrs}


def _is_alive(worker: Path) -> bool:
    """Return whether the process that holds a worker's lock lives; what a dead one left is removed.

    The study's lock must be held: under it workers take their own and sign their trials.
    """
    if not worker.exists():
        return False
    try:
        with FileLock(worker, timeout=0):
            pass
    except Timeout:
        return True
    worker.unlink(missing_ok=True)
    return False


def _plain(distribution: optuna.distributions.BaseDistribution) -> Mapping[str, Any]:
    """Return a distribution as JSON holds it."""
    text = optuna.distributions.distribution_to_json(distribution)
    plain: dict[str, Any] = json.loads(text)
    return plain
