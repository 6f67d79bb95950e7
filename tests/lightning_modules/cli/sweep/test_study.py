from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from lightning_modules.cli.sweep.settings import Settings
from lightning_modules.cli.sweep.study import FITTED, MOST_ATTEMPTS, Study

GRID = {"a": CategoricalDistribution([1, 2]), "b": CategoricalDistribution(["x", "y", "z"])}
POINTS = [{"a": a, "b": b} for a in (1, 2) for b in "xyz"]
LINE = {"lr": FloatDistribution(1e-4, 1e-2, log=True)}


@pytest.fixture
def studies() -> Iterator[Any]:
    """Makes the study as another process would, with a lock of its own."""
    with ExitStack() as stack:

        def make(space: Any = GRID, words: tuple[str, ...] = ("-c", "a"), **settings: Any) -> Study:
            own = Settings("space.yaml", **{"sampler": "grid", **settings})
            return stack.enter_context(closing(Study(Path("study"), own, space, list(words))))

        yield make


def points_of(study: Study, state: TrialState = TrialState.COMPLETE) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials() if trial.state == state]


def test_two_processes_share_a_grid(studies: Any) -> None:
    first, second = studies(), studies()
    claimed = [study.claim() for study in (first, second, second, first, first, second)]
    assert [trial.params for trial in claimed] == POINTS  # none twice, though none has ended
    assert first.claim() is None
    assert second.claim() is None
    for number, trial in enumerate(claimed):
        second.study.tell(trial, float(number))
    assert points_of(first) == POINTS
    assert first.limit == 6


def test_points_of_a_killed_process_are_done_once(studies: Any) -> None:
    killed, alive = studies(), studies()
    killed.study.tell(killed.claim(), 0.0)
    lost, running = killed.claim(), alive.claim()
    killed._own.release()  # as the kernel does when a process dies
    after = studies()
    trials = []
    while (trial := after.claim()) is not None:
        trials.append(trial)
        after.study.tell(trial, 1.0)
    assert lost.params in [trial.params for trial in trials]
    assert running.params not in [trial.params for trial in trials]  # it lives
    alive.study.tell(running, 2.0)
    done = points_of(after)
    assert sorted(map(str, done)) == sorted(map(str, POINTS))
    (gone,) = [t for t in after.study.trials if t.state == TrialState.FAIL]
    assert gone.number == lost.number
    assert len(after.study.trials) == 7


def test_a_kill_while_orphans_are_released_loses_no_point(
    studies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    first = studies()
    trials = [first.claim() for _ in range(2)]
    trials[1].set_user_attr(FITTED, 7.0)  # killed while it was tested
    first._own.release()
    second = studies()
    monkeypatch.setattr(second.study, "tell", kill)
    with pytest.raises(KeyboardInterrupt):
        second.claim()
    second._own.release()
    third = studies()
    while (trial := third.claim()) is not None:
        third.study.tell(trial, 1.0)
    assert sorted(map(str, points_of(third))) == sorted(map(str, POINTS))
    assert [trial.params for trial in third.trials() if trial.value == 7.0] == [POINTS[1]]
    assert not [t for t in third.study.trials if t.state == TrialState.RUNNING]


def test_a_grid_repeats_no_point(studies: Any) -> None:
    assert studies(num_trials=4).limit == 4
    assert studies(num_trials=99).limit == len(POINTS)


def test_a_point_that_kills_its_process_is_given_up(studies: Any) -> None:
    for _ in range(MOST_ATTEMPTS + 3):
        study = studies(space=LINE, sampler="random", num_trials=1)
        if study.claim() is None:
            break
        study._own.release()
    assert len(study.study.trials) == MOST_ATTEMPTS
    assert len({trial.params["lr"] for trial in study.study.trials}) == 1


def test_draws_depend_on_the_seed_alone() -> None:
    def draw(seed: int, folder: str) -> list[float]:
        settings = Settings("space.yaml", num_trials=4, seed=seed)
        values = []
        for _ in range(2):  # as if it was stopped in between
            with closing(Study(Path(folder), settings, dict(LINE), [])) as study:
                for _ in range(2):
                    trial = study.claim()
                    assert trial is not None
                    values.append(trial.params["lr"])
                    study.study.tell(trial, trial.params["lr"])
        return values

    first = draw(0, "a")
    assert len(set(first)) == 4
    assert first == draw(0, "b") != draw(1, "c")


def test_more_trials_may_be_asked_for_later(studies: Any) -> None:
    for limit in (2, 2, 5):
        study = studies(space=LINE, sampler="random", num_trials=limit)
        while (trial := study.claim()) is not None:
            study.study.tell(trial, 0.0)
        assert len(study.trials()) == limit


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"space": LINE, "sampler": "grid"}, "space"),
        ({"sampler": "tpe"}, "sampler"),
        ({"monitor": "val/nll"}, "monitor"),
        ({"words": ("-c", "b")}, "command"),
    ],
)
def test_another_study_in_the_folder_is_refused(
    change: dict[str, Any], name: str, studies: Any
) -> None:
    studies()
    with pytest.raises(ValueError, match=f"holds a study with another {name}.*--sweep.folder"):
        studies(**change)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"monitor": "test/loss"}, "--sweep.monitor test/loss: .* never optimised"),
        ({"monitor": "model/ari"}, "--sweep.monitor model/ari"),
        ({"num_trials": 0}, "--sweep.num_trials 0 must be at least 1"),
        ({"warmup_epochs": -1}, "--sweep.warmup_epochs -1"),
    ],
)
def test_settings_that_make_no_sweep_are_refused(settings: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Settings("space.yaml", **settings)
