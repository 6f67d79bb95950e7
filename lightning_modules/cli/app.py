"""The command `astrolit`: a LightningCLI over every model and every datamodule."""

import importlib.util
import json
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from lightning.pytorch.trainer.states import TrainerFn
from lightning_utilities.core.rank_zero import rank_zero_only
from rich.console import Console

from callbacks.run.checkpoints import (
    BestCheckpoint,
    EarlyStopping,
    LastCheckpoint,
    LearningRateMonitor,
)
from callbacks.run.exact_resume import ExactResume
from callbacks.run.nonfinite import NonFiniteGuard
from callbacks.run.preemption import PreemptionCheckpoint
from callbacks.run.stop_record import StopRecord
from datamodules.base import BaseDataModule
from lightning_modules.base import BaseModule
from lightning_modules.cli import alerts, ensemble
from lightning_modules.cli.beside import check_unseen, put_beside
from lightning_modules.cli.checkpoints import load_weights, read_checkpoint
from lightning_modules.cli.parser import (
    DEBUG_VARIABLE,
    MODE,
    AstroParser,
    check_rates,
    check_schedule,
    one_line,
    prepare_parsing,
)
from lightning_modules.cli.quiet import silence_libraries
from lightning_modules.cli.shipped_configs import (
    option_value,
    print_configs,
    resolve_paths,
    run_name,
)
from lightning_modules.cli.trainer import AstroTrainer
from lightning_modules.ensemble import Ensemble
from lightning_modules.remembered import remembered_model
from lightning_modules.runs import find_checkpoint, run_folder

TENSORBOARD = "lightning.pytorch.loggers.TensorBoardLogger"

DESCRIPTION = """Deep learning for astrophysics: each method a model, its data and a report. Besides
the subcommands below, `astrolit configs` lists the shipped configurations, `astrolit sweep` tries
settings, `astrolit ensemble` makes one model of several runs and `astrolit alerts` answers live
microlensing alerts."""


class AstroCLI(LightningCLI):
    """LightningCLI whose typed values win over a checkpoint's, with astrolit's defaults."""

    configs: Sequence[str] = ()
    words: Sequence[str] = ()
    checkpoint: str | None = None

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return Lightning's subcommands and `prepare`."""
        return {**LightningCLI.subcommands(), "prepare": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks that each value of is set by name, and `--init_from`."""
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(LearningRateMonitor, "learning_rate_monitor")
        parser.add_argument(
            "--init_from",
            type=str | None,
            default=None,
            help="Checkpoint whose weights and buffers start the training; the optimizer is fresh.",
        )
        parser.add_argument(
            "--beside",
            type=dict[str, str] | None,
            default=None,
            help="Name to the folder of another run of the method, for the report of `test`.",
        )

    def setup_parser(self, add_subcommands: bool, *args: Any, **kwargs: Any) -> None:
        """Set up all; predictions are not kept in memory, for a callback writes them."""
        super().setup_parser(add_subcommands, *args, **kwargs)
        if add_subcommands:
            self.parser.set_defaults({"predict.return_predictions": False})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse with three layers: what is typed, over the checkpoint's, over the defaults."""
        if isinstance(args, dict | Namespace):
            self.words = ["-c", json.dumps(dict(args), default=str)]
            super().parse_arguments(parser, args)
        else:
            self._parse_words(parser, sys.argv[1:] if args is None else args)
        # Lightning would now put the checkpoint's values over what the user typed; hide it.
        self._hidden_path = self._parsed("ckpt_path")
        self._set("ckpt_path", None)

    def _parse_words(self, parser: LightningArgumentParser, words: list[str]) -> None:
        """Parse a command line."""
        typed, self.configs = resolve_paths(words)
        self.words = typed
        self.checkpoint = option_value(typed, "--ckpt_path")
        remembered = None
        if self.checkpoint and Path(self.checkpoint).is_file():
            remembered = remembered_model(read_checkpoint(self.checkpoint))
        layer = ["--config", json.dumps({"model": remembered})] if remembered else []
        self.config = parser.parse_args([*typed[:1], *layer, *typed[1:]])
        if remembered and self._parsed("model.class_path") != remembered["class_path"]:
            # Another model: same-named values of the checkpoint's must not carry over.
            self.config = parser.parse_args(typed)

    def before_instantiate_classes(self) -> None:
        """Name the run after its configuration; what follows a fit goes into that run's folder."""
        self._set("ckpt_path", self._hidden_path)
        if self.subcommand != "test" and self._parsed("beside"):
            raise ValueError("--beside is for the report of `astrolit test`; leave it out here")
        check_schedule(self._parsed("optimizer"), self._parsed("lr_scheduler"))
        if self._parsed("optimizer") is not None and self.subcommand in (None, "fit"):
            model = self._parsed("model")
            rates = check_rates(self.words, pkgutil.resolve_name(model.class_path))
            if rates:
                model.init_args.update(Namespace(**rates))
        trainer = self._parsed("trainer")
        if trainer.get("logger") in (None, True):
            method = pkgutil.resolve_name(self._parsed("data.class_path")).method
            model = self._parsed("model.class_path").rsplit(".", 1)[-1]
            arguments = {"save_dir": "runs", "name": run_name(list(self.configs), method, model)}
            trainer["logger"] = Namespace(
                class_path=TENSORBOARD,
                init_args=Namespace(**arguments, version=None, default_hp_metric=False),
            )
        logger = trainer["logger"]
        folder = run_folder(self.checkpoint) if self.subcommand != "fit" else None
        ours = isinstance(logger, Namespace) and logger.get("class_path") == TENSORBOARD
        if folder is not None and ours and logger.init_args.get("version") is None:
            place = {"save_dir": str(folder.parents[1]), "name": folder.parent.name}
            logger.init_args.update(Namespace(**place, version=folder.name))

    def after_instantiate_classes(self) -> None:
        """Refuse an untrained model; print and record what differs from the checkpoint."""
        evaluating = self.subcommand in ("validate", "test", "predict")
        if evaluating and not self._parsed("ckpt_path") and self.model.needs_checkpoint:
            raise ValueError("the model is untrained; give --ckpt_path, a run's folder or a .ckpt")
        if self.subcommand == "test":
            self._check_test()
        init_from = self._parsed("init_from")
        origin = self.checkpoint or init_from
        if origin is None or not Path(origin).is_file() or not isinstance(self.model, BaseModule):
            return
        remembered = remembered_model(read_checkpoint(origin))
        typed = self._parsed("model").get("init_args", Namespace()).as_dict()
        saved = remembered["init_args"] if remembered else {}
        shared = sorted(name for name in typed if name in saved)
        changed = {n: (typed[n], saved[n]) for n in shared if typed[n] != saved[n]}
        for name, (now, before) in changed.items():
            _print(f"model.{name}: {now} (the checkpoint has {before})")
        if changed:
            self.model.run_record["changed_hyper_parameters"] = changed

    def _check_test(self) -> None:
        """Put other runs beside; refuse models that may have seen what is held out here."""
        if self._parsed("beside"):
            put_beside(self._parsed("beside"), self.trainer, self.datamodule)
        typed = [("--ckpt_path", self._parsed("ckpt_path"))]
        if isinstance(self.model, Ensemble):
            members = self._parsed("model.init_args.members")
            typed += [("--model.members", member) for member in members]
        for option, place in typed:
            if isinstance(place, str):
                check_unseen(f"{option} {place}", find_checkpoint(place), self.datamodule)

    def before_fit(self) -> None:
        """Load weights and buffers from `--init_from`."""
        init_from = self._parsed("init_from")
        if init_from is not None:
            assert isinstance(self.model, BaseModule)
            for line in load_weights(self.model, read_checkpoint(init_from), init_from):
                _print(line)

    def after_fit(self) -> None:
        """Print where the run is and what to type next."""
        folder = self.trainer.log_dir
        if folder is None or self._parsed("trainer").get("fast_dev_run"):
            return
        reason = getattr(self.model, "run_record", {}).get("stop_reason")
        if reason:
            _print(f"stopped: {reason}")
        _print(f"run: {folder}   (tensorboard --logdir {folder})")
        _print(f"next: astrolit test -c {folder}/config.yaml --ckpt_path {folder}")

    def after_test(self) -> None:
        """Print where the report is."""
        if self.trainer.log_dir is not None:
            _print(f"report: {self.trainer.log_dir}")

    def after_predict(self) -> None:
        """Print where the predictions are, or that no callback wrote them."""
        from callbacks.predictions.base import ShardWriter  # it brings astropy's tables

        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        if not any(isinstance(callback, ShardWriter) for callback in callbacks):
            _print("predictions: not written; add PredictionWriter to trainer.callbacks")
        elif self.trainer.log_dir is not None:
            _print(f"predictions: {self.trainer.log_dir}")

    def _parsed(self, key: str) -> Any:
        """Return a parsed value by its dotted key, inside the subcommand if there is one."""
        subcommand = self.config.get("subcommand")
        return self.config.get(f"{subcommand}.{key}" if subcommand else key)

    def _set(self, key: str, value: Any) -> None:
        """Change an argument of the subcommand, if there is one."""
        if subcommand := self.config.get("subcommand"):
            self.config[f"{subcommand}.{key}"] = value


class SaveConfig(SaveConfigCallback):
    """Save the run's configuration; a later command on the same run leaves that of `fit` alone."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the file's name by the stage, then save."""
        if stage != "fit":
            self.config_filename = f"config_{TrainerFn(stage).value}.yaml"
        super().setup(trainer, pl_module, stage)


@rank_zero_only
def _print(line: str) -> None:
    """Print a line once, whatever the number of processes."""
    Console(soft_wrap=True, highlight=False).print(line, markup=False)


def _sweep(words: list[str]) -> None:
    """Run `astrolit sweep`, whose library few need and none should wait for."""
    if importlib.util.find_spec("optuna") is None:
        raise ValueError("astrolit sweep needs Optuna: pip install 'astrolit[optuna]'")
    from lightning_modules.cli.sweep import command

    command.main(words)


def make_cli(
    args: ArgsType = None, run: bool = True, callbacks: Sequence[Callback] = ()
) -> AstroCLI:
    """Parse, instantiate and, with a subcommand, run; the entry point of notebooks and tests.

    Args:
        args: Words of a command line, or a nested dict; sys.argv if None.
        run: False only instantiates `cli.model`, `cli.datamodule` and `cli.trainer`.
        callbacks: Of this run besides; its saved configuration does not know them.
    """
    prepare_parsing()
    # Preemption last: the others finish a batch before it saves.
    guards = [StopRecord(), *callbacks, NonFiniteGuard(), ExactResume(), PreemptionCheckpoint()]
    return AstroCLI(
        BaseModule,
        BaseDataModule,
        save_config_callback=SaveConfig,
        save_config_kwargs={"overwrite": True},
        trainer_class=AstroTrainer,
        trainer_defaults={
            "use_distributed_sampler": False,
            "plugins": [{"class_path": "callbacks.run.checkpoint_io.AtomicCheckpointIO"}],
            "callbacks": guards,
        },
        seed_everything_default=0,
        subclass_mode_model=True,
        subclass_mode_data=True,
        parser_class=AstroParser,
        parser_kwargs={"prog": "astrolit", "description": DESCRIPTION, "parser_mode": MODE},
        args=args,
        run=run,
    )


def main(args: list[str] | None = None) -> None:
    """Run the command `astrolit`; an expected error is one sentence and exit code 2."""
    words = sys.argv[1:] if args is None else args
    silence_libraries()
    try:
        if words[:1] == ["configs"]:
            print_configs()
        elif words[:1] == ["alerts"]:
            alerts.main(words[1:])
        elif words[:1] == ["ensemble"]:
            ensemble.main(words[1:])
        elif words[:1] == ["sweep"]:
            _sweep(words[1:])
        else:
            make_cli(args)
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()  # else gloo's threads may abort the exit
    except (ValueError, OSError, MisconfigurationException, FloatingPointError) as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        line = f"astrolit: error: {one_line(str(error))}"
        Console(stderr=True, soft_wrap=True).print(line, markup=False)
        raise SystemExit(2) from None
