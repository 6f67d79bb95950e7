"""Speed of the mixture beside scikit-learn's, and of training under Lightning.

The mixture, a Gaussian mixture (K + 1 components, 5 starts) and HDBSCAN, as in the report, are
fitted to 24,000 simulated stars with one and two clusters, and compared in CPU seconds and F1; the
mixture alone to 100,000: its passes grow with the number of stars, its search and its sums do not.
An autoencoder trains against a bare loop over the same network and loader. See `measure.py` for the
lines. Run alone:
`python benchmarks/clustering.py [fits] [large] [training]`.
"""

import contextlib
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from clustering_shapes import Fitted, Scores, simulated
from lightning.pytorch import Callback, LightningModule, Trainer
from measure import alternate, peak_gib, quiet, record, report

from callbacks.clustering.baselines import GaussianMixtureBaseline, HDBSCANBaseline
from callbacks.metrics.contingency import align, contingency
from datamodules import ClusteringDataModule
from datamodules.clustering.simulate.synthetic import CLUSTERS
from lightning_modules import StellarAutoencoder
from lightning_modules.cli.app import AstroCLI, make_cli

CASES = ((2048, 60), (256, 300), (2048, 10))  # (batch size, steps an epoch)
REPETITIONS = 5
EPOCHS = 2
SIZES = {1: (0.25,), 2: (0.25, 0.1)}
"""Shares of the clusters among the stars, by their number."""


def field(count: int, clusters: int, folder: str) -> Fitted:
    """Return the mixture fitted to simulated stars.

    Args:
        count: Stars.
        clusters: One or two of them are clusters.
        folder: Where the stars are kept.
    """
    sizes = [int(count * share) for share in SIZES[clusters]]
    made = [replace(c, num_stars=n) for c, n in zip(CLUSTERS, sizes, strict=False)]
    return simulated(0, folder, num_field=count - sum(sizes), clusters=made)


def classical(fit: Fitted, baseline: GaussianMixtureBaseline | HDBSCANBaseline) -> Scores:
    """Return the CPU seconds and the F1 of a baseline on the stars of a fit.

    Args:
        fit: Whose stars are taken; the labels tell which columns are clusters, in its favour.
        baseline: Not fitted yet.
    """
    data = fit.data
    statistics = data.training_statistics()
    scaled = (data.columns["features"] - statistics["location"]) / statistics["scale"]
    everything = {"scaled": scaled.double().numpy()}
    train = {"scaled": everything["scaled"][data.rows["train"].numpy()]}
    start = time.process_time()
    baseline.fit(train)
    seconds = time.process_time() - start
    answer = baseline.predict(everything).assignment
    table = contingency(fit.label, answer)
    chosen, member = (align(table) > 0)[answer], fit.label > 0
    right = float((chosen & member).sum())
    return {"seconds": seconds, "f1": 2.0 * right / float(chosen.sum() + member.sum())}


def fits(folder: Path) -> None:
    """Print the mixture beside each baseline, for one and two clusters among 24,000 stars."""
    for clusters in SIZES:
        ours = field(24000, clusters, str(folder))
        scores = ours.scores()
        peers = GaussianMixtureBaseline(clusters + 1, 0), HDBSCANBaseline()
        for peer in peers:
            found = classical(ours, peer)
            report(
                f"clustering/fit stars=24000 clusters={clusters}",
                "CPU s",
                [scores["seconds"]],
                [found["seconds"]],
                peer.name,
                f1={"ours": scores["f1"], "peer": found["f1"]},
            )


def large(folder: Path) -> None:
    """Print a fit of 100,000 stars; one of 1,000,000 takes ten times as long at the most."""
    field(24000, 1, str(folder))
    before = peak_gib()
    fit = field(100000, 1, str(folder))
    record(
        "clustering/fit stars=100000 clusters=1",
        seconds=fit.seconds,
        passes=fit.passes,
        f1=fit.scores()["f1"],
        peak_gib={"24000": before, "100000": peak_gib()},
        seconds_of_a_million_at_most=10.0 * fit.seconds,
    )


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


def training(folder: Path) -> None:
    """Print every case of training."""
    for batch_size, steps in CASES:
        measure(batch_size, steps, folder)


def main() -> None:
    """Print what was asked for, or everything."""
    quiet()
    works = {work.__name__: work for work in (fits, large, training)}
    asked, sys.argv = sys.argv[1:], sys.argv[:1]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in asked or works:
            works[name](Path(folder))


if __name__ == "__main__":
    main()
