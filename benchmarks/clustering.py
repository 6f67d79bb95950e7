"""Training speed under Lightning against a bare loop over the same network and loader.

See `measure.py` for the lines. Run alone: `python benchmarks/clustering.py`.
"""

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from measure import alternate, quiet, report

from datamodules import ClusteringDataModule
from lightning_modules import StellarAutoencoder
from lightning_modules.cli.app import AstroCLI, make_cli

CASES = ((2048, 60), (256, 300), (2048, 10))  # (batch size, steps an epoch)
REPETITIONS = 5
EPOCHS = 2


class Stopwatch(Callback):
    """CPU seconds from the first training step to the end of training, first epoch left out."""

    def __init__(self) -> None:
        self.start = self.seconds = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start at the second epoch: the first one warms up."""
        if trainer.current_epoch == 1:
            self.start = time.process_time()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop."""
        self.seconds = time.process_time() - self.start


def command_line(batch_size: int, num_stars: int, folder: Path) -> AstroCLI:
    """Return the model, data and trainer as `astrolit fit` makes them, default callbacks on."""
    return make_cli(
        {
            "model": {"class_path": "StellarAutoencoder"},
            "data": {
                "class_path": "ClusteringDataModule",
                "init_args": {
                    "source": {
                        "class_path": "SyntheticField",
                        "init_args": {"num_field": num_stars},
                    },
                    "batch_size": batch_size,
                    "val_fraction": 0.0,
                    "test_fraction": 0.0,
                    "cache_dir": str(folder),
                },
            },
            "trainer": {
                "accelerator": "cpu",
                "max_epochs": EPOCHS + 1,
                "default_root_dir": str(folder),
                "enable_model_summary": False,
            },
            "early_stopping": {"patience": None},
        },
        run=False,
    )


def lightning_seconds(batch_size: int, num_stars: int, folder: Path) -> float:
    """Return CPU seconds of EPOCHS epochs under the Trainer."""
    cli = command_line(batch_size, num_stars, folder)
    stopwatch = Stopwatch()
    cli.trainer.callbacks.append(stopwatch)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return stopwatch.seconds


def bare_seconds(batch_size: int, num_stars: int, folder: Path) -> float:
    """Return CPU seconds of EPOCHS epochs of a plain loop over the same network and loader."""
    cli = command_line(batch_size, num_stars, folder)
    model, data = cli.model, cli.datamodule
    assert isinstance(model, StellarAutoencoder)
    assert isinstance(data, ClusteringDataModule)
    data.setup("fit")
    model.fit_statistics(data.training_statistics())
    model.train()
    optimizer: Any = model.configure_optimizers()
    loader: Any = data.train_dataloader()
    start = 0.0
    for epoch in range(EPOCHS + 1):
        loader.sampler.set_epoch(epoch)
        if epoch == 1:
            start = time.process_time()
        for batch in loader:
            optimizer.zero_grad()
            loss = model.step(batch, "train")["loss"]
            loss.backward()
            optimizer.step()
    return time.process_time() - start


def measure(batch_size: int, steps: int, folder: Path) -> None:
    """Print one case.

    Args:
        batch_size: Stars in a batch.
        steps: Batches in an epoch.
        folder: Where data and runs go.
    """
    num_stars = batch_size * steps
    command_line(batch_size, num_stars, folder).datamodule.prepare_data()
    ours, peer = alternate(
        lambda _: lightning_seconds(batch_size, num_stars, folder),
        lambda _: bare_seconds(batch_size, num_stars, folder),
        repetitions=REPETITIONS,
    )
    report(
        f"clustering/training batch={batch_size} steps={steps}",
        "CPU us a sample",
        *([1e6 * seconds / (EPOCHS * num_stars) for seconds in times] for times in (ours, peer)),
        "bare PyTorch loop",
    )


def main() -> None:
    """Print every case."""
    quiet()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for batch_size, steps in CASES:
            measure(batch_size, steps, Path(folder))


if __name__ == "__main__":
    main()
