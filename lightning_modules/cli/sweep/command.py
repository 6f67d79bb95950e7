"""`astrolit sweep`: parse, then take trials until none is left."""

import sys
import time
from pathlib import Path

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import Trial, TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lightning_modules.cli.app import make_cli
from lightning_modules.cli.parser import AstroParser, prepare_parsing
from lightning_modules.cli.quiet import output_to
from lightning_modules.cli.shipped_configs import (
    option_value,
    resolve_config,
    resolve_paths,
    run_name,
)
from lightning_modules.cli.sweep.results import draw, write_table
from lightning_modules.cli.sweep.settings import Settings
from lightning_modules.cli.sweep.space import Space, read_space, words_of
from lightning_modules.cli.sweep.study import ATTEMPT, Study
from lightning_modules.cli.sweep.trial import NoObjectiveError, run_of, run_trial

QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
ABOUT = """Fit and test a run for each point of a space, in one study that any number of processes
may share and that goes on after a kill: type the same command again. All options of `astrolit fit`
hold for every run."""


def main(words: list[str]) -> None:
    """Run the words after `astrolit sweep`.

    Raises:
        ValueError: If the words, the space or the study make no sweep.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings, words = parse(words)
    space = read_space(resolve_config(settings.space, "--sweep.space"))
    words = [*QUIET, *best_checkpoint(settings), *words]
    default = check(space, words)
    study = Study(Path(settings.folder or default), settings, space, words)
    try:
        take_trials(study, words)
    finally:
        study.close()


def parse(words: list[str]) -> tuple[Settings, list[str]]:
    """Return the sweep's settings and the words that are left, of `astrolit fit`.

    Raises:
        ValueError: If every run would resume one checkpoint.
    """
    prepare_parsing()
    parser = AstroParser(prog="astrolit sweep", description=ABOUT)
    parser.hint = "`astrolit sweep --help` lists the options"
    parser.add_class_arguments(Settings, "sweep")
    own, others = split(words)
    parsed = parser.instantiate_classes(parser.parse_args(own))
    resolved, _ = resolve_paths(["fit", *others])
    if option_value(resolved, "--ckpt_path"):
        raise ValueError("a sweep fits every run afresh: leave --ckpt_path out (--init_from works)")
    settings: Settings = parsed.sweep
    return settings, resolved[1:]


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words of `--sweep.*` options, or of a call for help, and all others."""
    own: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ("-h", "--help"):
            own.append(word)
        elif word == "--sweep" or word.startswith(("--sweep.", "--sweep=")):
            own += (
                [word] if "=" in word else [word, *(value for value in [next(rest, None)] if value)]
            )
        else:
            others.append(word)
    return own, others


def best_checkpoint(settings: Settings) -> list[str]:
    """Return the words that make the checkpoint to be tested that of the best objective."""
    mode = settings.direction[:3]
    return ["--checkpoint.monitor", settings.monitor, "--checkpoint.mode", mode]


def check(space: Space, words: list[str]) -> str:
    """Parse the run of one point, so that a mistake is known before anything is fitted.

    Args:
        space: Of the sweep.
        words: Of `astrolit fit`.

    Returns:
        The folder that the study has by default.

    Raises:
        ValueError: If a run would start processes of its own.
    """
    trial = optuna.create_study(sampler=RandomSampler(seed=0)).ask(space)
    cli = make_cli([*words, *words_of(trial.params), "--trainer.logger", "false"], run=False)
    if cli.trainer.world_size > 1:
        raise ValueError(
            f"a sweep fits each run in one process, not {cli.trainer.world_size}: set "
            "--trainer.devices 1 and start as many `astrolit sweep` as there are devices"
        )
    return (
        f"runs/{run_name(list(cli.configs), cli.datamodule.method, type(cli.model).__name__)}_sweep"
    )


def take_trials(study: Study, words: list[str]) -> None:
    """Run trials until none is left, and write what was found after each.

    Args:
        study: Of the sweep.
        words: Of `astrolit fit`.

    Raises:
        ValueError: If no trial was completed.
    """
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeElapsedColumn(), console=console, redirect_stdout=False)
    with bar:
        task = bar.add_task("sweep", total=study.limit, completed=_num_done(study))
        while (trial := study.claim()) is not None:
            line = run_one(study, trial, words)
            write_table(study)
            bar.console.print(line, markup=False)
            bar.update(task, completed=_num_done(study), description=_best(study))
    for path in [study.folder / "sweep.csv", *draw(study)]:
        console.print(f"wrote: {path}")
    if not any(trial.state == TrialState.COMPLETE for trial in study.trials()):
        logs = run_of(study.folder, 0) / "log.txt"
        raise ValueError(f"{study.folder}: no trial was completed; see {logs} and its like")
    best = run_of(study.folder, study.study.best_trial.number)
    console.print(f"best: {best} ({study.settings.monitor} {study.study.best_value:.6g})")


def run_one(study: Study, trial: Trial, words: list[str]) -> str:
    """Run one trial and tell the study; return a line on it.

    What a run prints goes to `log.txt` in its folder. A trial that fails leaves its error there and
    as user attribute `error`; the sweep goes on.

    Args:
        study: Of the sweep.
        trial: Claimed by this process.
        words: Of `astrolit fit`.

    Raises:
        NoObjectiveError: If every trial would fail.
    """
    start, run = time.monotonic(), run_of(study.folder, trial.number)
    run.mkdir(parents=True, exist_ok=True)
    state, value, what = TrialState.FAIL, None, ""
    with (run / "log.txt").open("a", buffering=1) as log:
        try:
            with output_to(log):
                watch = run_trial(trial, study.settings, words, study.folder)
        except NoObjectiveError:
            study.study.tell(trial, state=TrialState.FAIL)
            raise
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and error.code != 2:
                attempt = trial.user_attrs.get(ATTEMPT, 1)  # told to end: this one does not count
                trial.set_user_attr(ATTEMPT, attempt - 1)
                raise
            what = f"failed: {type(error).__name__}: {error}".split("\n", 1)[0]
            log.write(f"{what}\n")
            trial.set_user_attr("error", what)
        else:
            state = TrialState.PRUNED if watch.pruned else TrialState.COMPLETE
            value = None if watch.pruned else watch.value
            what = "pruned" if watch.pruned else f"{study.settings.monitor} {watch.value:.6g}"
    study.study.tell(trial, value, state)
    point = ", ".join(f"{name}={x}" for name, x in trial.params.items())
    return f"trial {trial.number}: {what}  ({point}; {time.monotonic() - start:.0f} s)"


def _num_done(study: Study) -> int:
    """Return how many trials have ended."""
    return sum(trial.state.is_finished() for trial in study.trials())


def _best(study: Study) -> str:
    """Return the best value so far, for the progress bar."""
    done = [trial.value for trial in study.trials() if trial.state == TrialState.COMPLETE]
    return f"best {study.study.best_value:.6g}" if done else "sweep"
