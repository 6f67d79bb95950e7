"""The mixture on simulated clusters of many shapes, on pure fields, and on published catalogues.

Prints one line a case (see `measure.py`), mean and standard deviation over seeds; every case is
fitted without centre, labels or number of clusters, by `ClusterMixture` as it is by default. Labels
and truth score the answer only, on all stars, of which 70 % were fitted on. Run alone:
`python benchmarks/clustering_shapes.py [cases] [--seeds 0 1 2] [--catalogues FOLDER]`, where FOLDER
holds the star catalogues of Vasiliev & Baumgardt 2021 (`*.txt.gz`), and beside FOLDER lies their
table of mean motions (`vb21_gc_mean_params.txt`).
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from clustering_fields import HARD, ROBUST, SHAPES
from lightning.pytorch import Trainer
from measure import quiet, record
from numpy.typing import NDArray

from callbacks.metrics.calibration import reliability_table
from callbacks.metrics.contingency import accuracy, adjusted_rand, align, contingency
from datamodules import CatalogFile, ClusteringDataModule, SyntheticField
from datamodules.clustering.source import ClusteringSource
from lightning_modules import ClusterMixture
from lightning_modules.cli.shipped_configs import config_folder

Array = NDArray[Any]
Scores = dict[str, float]


def shipped(name: str) -> dict[str, Any]:
    """Return a shipped configuration of clustering."""
    text = (config_folder() / "clustering" / f"{name}.yaml").read_text()
    return dict(yaml.safe_load(text))


class Fitted:
    """A mixture fitted to a source, and its answer for all stars.

    Args:
        source: Where the stars come from.
        seed: Of simulation, split and search.
        folder: Of the prepared stars.
        model: Arguments of `ClusterMixture` that are not the defaults.

    Attributes:
        model: Fitted.
        data: Its datamodule.
        label: 0 field, 1..K clusters, (n,).
        probability: (n, 1 + clusters).
        seconds: CPU seconds of the fit, its search among them.
        passes: Over the training split.
        held_out: Mean log likelihood of the 20 % held out, in nats.
    """

    def __init__(self, source: ClusteringSource, seed: int, folder: str, **model: Any) -> None:
        simulated = isinstance(source, SyntheticField)
        centre = list(source.centre) if simulated else None
        given = shipped("vasiliev_baumgardt")["data"]["init_args"]
        slope = 0.0 if simulated else given["density_slope"]
        self.data = ClusteringDataModule(
            source, centre=centre, density_slope=slope, batch_size=4096, seed=seed, cache_dir=folder
        )
        self.data.prepare_data()
        self.data.setup()
        self.model = ClusterMixture(seed=seed, **model)
        passes = shipped("vasiliev_baumgardt")["trainer"]["max_epochs"]
        trainer = Trainer(
            accelerator="cpu", devices=1, max_epochs=passes, logger=False, default_root_dir=folder,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0,
        )  # fmt: skip
        start = time.process_time()
        trainer.fit(self.model, datamodule=self.data)
        self.seconds = time.process_time() - start
        self.passes = trainer.current_epoch
        held_out = self.data.rows["test"]
        rows = {name: values[held_out] for name, values in self.data.columns.items()}
        self.held_out = float(self.model.log_terms(rows).logsumexp(1).mean())
        self.is_held_out = np.isin(np.arange(len(self.data.columns["label"])), held_out)
        self.label = self.data.columns["label"].numpy()
        self.probability = self.model.predict_step(self.data.columns)["probability"].numpy()

    def scores(self) -> Scores:
        """Return how the answer agrees with the labels."""
        known, answer = self.label >= 0, self.probability.argmax(1)
        label, member = self.label[known], self.label[known] > 0
        table = contingency(label, answer[known])
        p = 1.0 - self.probability[known, 0]
        chosen, unseen = p > 0.5, self.is_held_out[known]
        return {
            "clusters": float(self.probability.shape[1] - 1),
            "accuracy": float(accuracy(table, align(table))),
            "ari": float(adjusted_rand(table)),
            "f1": f1(chosen, member),
            "f1_held_out": f1(chosen[unseen], member[unseen]),
            "brier": float(np.square(p - member).mean()),
            "ece": reliability_table(member, p).error,
            "eta": float(self.model.error_scale),
            "seconds": self.seconds,
            "passes": float(self.passes),
            "held_out": self.held_out,
        }

    def pulls(self, source: SyntheticField) -> list[float]:
        """Return (mean proper motion - truth) / error of each cluster of a simulation."""
        found = []
        for row in self.model.parameter_rows():
            place = np.array([row["x"], row["y"]])
            true = min(source.clusters or [], key=lambda c: float(np.hypot(*(place - c.offset))))
            for axis, name in enumerate(("pmra", "pmdec")):
                found.append((row[name] - true.proper_motion[axis]) / row[f"{name}_error"])
        return found


def f1(chosen: Array, member: Array) -> float:
    """Return the F1 of membership.

    Args:
        chosen: Whether a star is called a member, (n,).
        member: Whether it is one, (n,).
    """
    return 2.0 * float((chosen & member).sum()) / float(chosen.sum() + member.sum())


def simulated(seed: int, folder: str, **settings: Any) -> Fitted:
    """Return the fit to one simulated field.

    Args:
        seed: Of simulation, split and search.
        folder: Of the prepared stars.
        settings: `num_field`, `clusters`, further settings of the `sky`, and those of the `model`.
    """
    source = SyntheticField(
        settings["num_field"], list(settings["clusters"]), **settings.get("sky", {})
    )
    return Fitted(source, seed, folder, **settings.get("model", {}))


def published(*paths: Path) -> CatalogFile:
    """Return star catalogues of Vasiliev & Baumgardt, read as the shipped configuration does."""
    settings = shipped("vasiliev_baumgardt")["data"]["init_args"]["source"]["init_args"]
    return CatalogFile(path=[str(path) for path in paths], **settings)


def summarise(name: str, found: list[Scores]) -> None:
    """Print means and deviations of the scores."""
    deviation = statistics.stdev if len(found) > 1 else (lambda values: 0.0)
    values = {key: [scores[key] for scores in found] for key in found[0]}
    record(
        f"clustering/{name}",
        **{key: statistics.mean(v) for key, v in values.items()},
        std={key: deviation(v) for key, v in values.items()},
        runs=len(found),
    )


def shapes(seeds: list[int], folder: str) -> None:
    """Print a line for each shape: 6000 field stars, clusters of 2000 and 800."""
    for name, clusters in SHAPES.items():
        fits = [simulated(s, folder, num_field=6000, clusters=clusters).scores() for s in seeds]
        summarise(name, fits)


def hard(seeds: list[int], folder: str) -> None:
    """Print a line for each gate: cluster 1 moves like the field."""
    for photometry in ("none", "histogram", "network"):
        case = {"num_field": 6000, "clusters": HARD, "model": {"photometry": photometry}}
        fits = [simulated(seed, folder, **case).scores() for seed in seeds]
        summarise(f"hard photometry={photometry}", fits)


def robust(seeds: list[int], folder: str) -> None:
    """Print a line for each field of another kind."""
    for name, case in ROBUST.items():
        summarise(name, [simulated(seed, folder, **case).scores() for seed in seeds])


def pure(seeds: list[int], folder: str) -> None:
    """Print how many of 20 fields without clusters were found to have none; no trial saw them."""
    found = [simulated(300 + seed, folder, num_field=6000, clusters=[]) for seed in range(20)]
    record("clustering/pure", fields=20, empty=sum(int(f.model.num_clusters) == 0 for f in found))


def coverage(seeds: list[int], folder: str) -> None:
    """Print how often the error of the mean proper motion covers the truth, of 48 clusters."""
    pulls: list[float] = []
    for seed in range(100, 124):
        source = SyntheticField(num_field=1500)
        pulls += Fitted(source, seed, folder).pulls(source)
    size = np.abs(np.array(pulls))
    record("clustering/coverage", cases=len(pulls), within=float((size < 1.0).mean()),
           std=float(np.std(pulls)), largest=float(size.max()))  # fmt: skip


def offset(fit: Fitted, means: Path) -> Scores:
    """Return how far the first cluster's mean motion is from the published one of its place.

    Args:
        fit: To one catalogue.
        means: Table of Vasiliev & Baumgardt: name, ra, dec, ..., pmra, pmdec and errors.
    """
    table = np.genfromtxt(means, usecols=(1, 2, 9, 10, 12, 13))
    ra, dec = fit.data.centre
    apart = np.hypot((table[:, 0] - ra) * np.cos(np.radians(dec)), table[:, 1] - dec)
    published_motion, error = np.split(table[apart.argmin()][2:], 2)
    (row, *_) = fit.model.parameter_rows()
    size = np.abs(np.array([row["pmra"], row["pmdec"]]) - published_motion)
    own = np.array([row["pmra_error"], row["pmdec_error"]])
    return {"offset": float(size.max()), "allowed": float((size / (0.01 + 2 * own)).max()),
            "published_error": float(error.max())}  # fmt: skip


def catalogues(seeds: list[int], folder: str, files: list[Path], table: Path) -> None:
    """Print a line for each catalogue, one for the pair on one field, and one for their mean."""
    means = []
    for path in files:
        fits = [Fitted(published(path), seed, folder) for seed in seeds]
        scores = [fit.scores() | (offset(fit, table) if table.exists() else {}) for fit in fits]
        summarise(path.name.removesuffix(".txt.gz"), scores)
        means.append({"f1": statistics.mean(score["f1"] for score in scores)})
    pair = [path for path in files if "5024" in path.name or "5053" in path.name]
    if len(pair) > 1:
        fits = [Fitted(published(*pair), seed, folder) for seed in seeds]
        summarise("M 53 + NGC 5053", [fit.scores() for fit in fits])
    summarise("catalogues", means)
    record("clustering/catalogues lowest", f1=min(scores["f1"] for scores in means))


def main() -> None:
    """Print the cases asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--catalogues", type=Path)
    arguments = parser.parse_args()
    cases: dict[str, Callable[[list[int], str], None]] = {
        work.__name__: work for work in (shapes, hard, robust, pure, coverage)
    }
    if arguments.catalogues:
        files = sorted(arguments.catalogues.glob("*.txt.gz"))
        table = arguments.catalogues.parent / "vb21_gc_mean_params.txt"
        cases["catalogues"] = partial(catalogues, files=files, table=table)
    quiet()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in arguments.cases or cases:
            cases[name](arguments.seeds, folder)


if __name__ == "__main__":
    main()
