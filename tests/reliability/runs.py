"""One short training, recorded so that two can be compared bit for bit."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor

from callbacks import AtomicCheckpointIO, NonFiniteGuard, RNGState
from tests.reliability.tiny import TinyDataModule, TinyModule, TinySource

warnings.filterwarnings("ignore", message=".*(LeafSpec|does not have many workers|logging).*")


class ListLogger(Logger):
    """Keeps what is logged: (step, name) to value."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[tuple[int, str], float] = {}

    @property
    def name(self) -> str:
        return "list"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.logged |= {(step or 0, name): value for name, value in metrics.items()}

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


class Saver(Checkpoint):
    """Saves whenever one of the hooks runs (a Checkpoint, so after all other callbacks)."""

    def __init__(self, folder: Path, *hooks: str) -> None:
        self.folder = folder
        self.paths: list[Path] = []
        for hook in hooks:
            setattr(self, hook, self._saver(hook))

    def _saver(self, hook: str) -> Any:
        def save(trainer: Trainer, *args: Any) -> None:
            if not trainer.sanity_checking:
                path = self.folder / f"{len(self.paths):02d}-{hook}-step{trainer.global_step}.ckpt"
                trainer.save_checkpoint(path)
                self.paths.append(path)

        return save


@dataclass
class Run:
    """What a training left behind."""

    module: TinyModule
    trainer: Trainer
    logged: dict[tuple[int, str], float] = field(default_factory=dict)

    def state(self) -> Tensor:
        """All weights, buffers and moments in one tensor."""
        optimizer = self.trainer.optimizers[0]
        moments = [value for entry in optimizer.state.values() for value in entry.values()]
        tensors = [*self.module.state_dict().values(), *moments]
        return torch.cat([value.detach().double().flatten() for value in tensors])


def make_trainer(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    """Return a Trainer with the reliability callbacks."""
    defaults = {"max_epochs": 3, "accelerator": "cpu", "devices": 1, "logger": ListLogger()}
    return Trainer(
        **(defaults | arguments),
        callbacks=[NonFiniteGuard(), RNGState(), *callbacks],
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
    )


def make_data(num_rows: int = 40, num_workers: int = 0, batch_size: int = 8) -> TinyDataModule:
    """Return the datamodule."""
    return TinyDataModule(TinySource(num_rows), batch_size, num_workers)


def fit(
    folder: Path,
    *callbacks: Callback,
    seed: int = 1,
    ckpt_path: Path | None = None,
    model: dict[str, Any] | None = None,
    kind: type[TinyModule] = TinyModule,
    data: TinyDataModule | None = None,
    **arguments: Any,
) -> Run:
    """Train and return what is left; the seed sets weights and every random number."""
    seed_everything(seed, verbose=False)
    module = kind(**(model or {}))
    trainer = make_trainer(folder, *callbacks, **arguments)
    run = Run(module, trainer)
    if isinstance(trainer.logger, ListLogger):
        run.logged = trainer.logger.logged
    trainer.fit(module, data or make_data(), ckpt_path=ckpt_path, weights_only=True)
    return run


def assert_same_from(path: Path, reference: Run, resumed: Run) -> None:
    """Compare a run resumed from a checkpoint with the uninterrupted one, bit for bit."""
    assert torch.equal(reference.state(), resumed.state()), f"{path.name}: states differ"
    for key, value in resumed.logged.items():
        assert reference.logged.get(key) == value, f"{path.name}: {key} differs"
    step = int(path.stem.rsplit("step", 1)[1])
    missed = {key for key in reference.logged if key[0] >= step} - set(resumed.logged)
    assert not missed, f"{path.name}: never logged {sorted(missed)}"
