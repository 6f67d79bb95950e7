"""`astrolit sweep`: parse, then take trials until none is left."""

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TextIO

import optuna
from optuna.exceptions import StorageInternalError
from optuna.samplers import RandomSampler
from optuna.trial import Trial, TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import SQLAlchemyError

from lightning_modules.cli.app import AstroCLI, make_cli
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
from lightning_modules.cli.sweep.space import Space, corners, label_of, read_space, words_of
from lightning_modules.cli.sweep.study import ATTEMPT, Study
from lightning_modules.cli.sweep.trial import NoObjectiveError, run_of, run_trial, test_trial

QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
ABOUT = """Fit and test a run for each point of a space, in one study that any number of processes
may share and that goes on after a kill: type the same command again. All options of `astrolit fit`
hold for every run."""


def main(words: list[str]) -> None:
    """Run the words after `astrolit sweep`.

    Raises:
        ValueError: If the words, the space or the study make no sweep.
        OSError: If the study cannot be read or written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings, words = parse(words)
    space = read_space(resolve_config(settings.space, "--sweep.space"))
    cli = check(space, [*QUIET, *words])
    words = [*QUIET, *best_checkpoint(settings, cli), *words]
    default = run_name(list(cli.configs), cli.datamodule.method, type(cli.model).__name__)
    folder = Path(settings.folder or f"runs/{default}_sweep")
    try:
        with closing(Study(folder, settings, space, words)) as study:
            take_trials(study, words)
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = str(error.__cause__ or error).split("\n", 1)[0]
        raise OSError(
            f"{folder}/study.db: the study could not be read or written ({cause}); make room, or "
            "give another --sweep.folder if the file is damaged, then type the command again"
        ) from error


def parse(words: list[str]) -> tuple[Settings, list[str]]:
    """Return the sweep's settings and the words that are left, of `astrolit fit`.

    Raises:
        ValueError: If every run would resume one checkpoint, or log where its options say.
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
    if any(word.startswith("--trainer.logger") for word in resolved):
        raise ValueError(
            "a sweep logs each run to TensorBoard in its own folder: leave --trainer.logger out, "
            "and set --sweep.folder"
        )
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


def best_checkpoint(settings: Settings, cli: AstroCLI) -> list[str]:
    """Return the words that make the checkpoint to be tested that of the best objective.

    Of a model whose final state is best that is the last one: no metric tells.

    Args:
        settings: Of the sweep.
        cli: Of `check`.
    """
    if cli.model.final_state_is_best:
        return ["--checkpoint.monitor", "null"]
    mode = settings.direction[:3]
    return ["--checkpoint.monitor", settings.monitor, "--checkpoint.mode", mode]


def check(space: Space, words: list[str]) -> AstroCLI:
    """Build the run of one point and parse every choice, so that mistakes are known at once.

    Args:
        space: Of the sweep.
        words: Of `astrolit fit`.

    Returns:
        The command line of that point.

    Raises:
        ValueError: If a run would start processes of its own.
    """
    point = optuna.create_study(sampler=RandomSampler(seed=0)).ask(space).params
    cli = make_cli([*words, *words_of(point), "--trainer.logger", "false"], run=False)
    if cli.trainer.world_size > 1:
        raise ValueError(
            f"a sweep fits each run in one process, not {cli.trainer.world_size}: set "
            "--trainer.devices 1 and start as many `astrolit sweep` as there are devices"
        )
    for name, value in corners(space):
        cli.parser.parse_args([*words, *words_of(point | {name: value})])
    return cli


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
    write_table(study)  # another process may have had the last word
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
            what = _record_error(trial, error, log, "failed")
        else:
            state = TrialState.PRUNED if watch.pruned else TrialState.COMPLETE
            value = None if watch.pruned else watch.value
            what = "pruned" if watch.pruned else f"{study.settings.monitor} {watch.value:.6g}"
        if study.settings.test and state == TrialState.COMPLETE:
            try:
                with output_to(log):
                    test_trial(trial, study.folder)
            except (Exception, SystemExit) as error:  # the value stands all the same
                what += f", {_record_error(trial, error, log, 'test failed')}"
    study.study.tell(trial, value, state)
    point = ", ".join(f"{name}={label_of(name, x)}" for name, x in trial.params.items())
    return f"trial {trial.number}: {what}  ({point}; {time.monotonic() - start:.0f} s)"


def _record_error(trial: Trial, error: BaseException, log: TextIO, what: str) -> str:
    """Return a line on the error of a run, which goes to its log and its trial too.

    Args:
        trial: Of the run.
        error: What it raised; an order to end is raised on, and the attempt does not count.
        log: Of the run.
        what: What failed.
    """
    if isinstance(error, SystemExit) and error.code != 2:
        trial.set_user_attr(ATTEMPT, trial.user_attrs.get(ATTEMPT, 1) - 1)
        raise error
    line = f"{what}: {type(error).__name__}: {error}".split("\n", 1)[0]
    log.write(f"{line}\n")
    trial.set_user_attr("error", line)
    return line


def _num_done(study: Study) -> int:
    """Return how many trials have ended."""
    return sum(trial.state.is_finished() for trial in study.trials())


def _best(study: Study) -> str:
    """Return the best value so far, for the progress bar."""
    done = [trial.value for trial in study.trials() if trial.state == TrialState.COMPLETE]
    return f"best {study.study.best_value:.6g}" if done else "sweep"
