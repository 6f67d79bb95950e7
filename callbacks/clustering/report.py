"""The report of the clustering method: scores, calibration, physics, baselines, figures."""

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks.clustering.alignment import (
    Answer,
    Clustering,
    Objects,
    Slice,
    make_slices,
)
from callbacks.clustering.baselines import (
    classical_subjects,
    hdbscan_size,
    model_subjects,
)
from callbacks.clustering.figures import clustering_figures
from callbacks.clustering.scores import add_silhouette, add_subject
from callbacks.report.figures import save_figures, style
from callbacks.report.gather import RowCollector, Rows, check_finite
from callbacks.report.paths import log_folder
from callbacks.report.probability import Resampling
from callbacks.report.table import Report, bootstrap_std

Array = NDArray[Any]
OUTPUTS = ("index", "latent", "probability", "assignment", "reconstruction_error")
INPUTS = ("features", "magnitude", "colour", "label", "split")


class ClusteringReport(Callback):
    """Writes `report.json`, `report.csv` and `figures/*.png` at the end of `test`.

    Every number is given for `split=all` (transductive: all stars, as membership is used) and
    `split=held_out` (the test split, which neither network nor baseline was fitted on), for the
    subjects `model` (the module's own assignment and probability), `model_latent_kmeans` (k-means
    with 20 starts on its latent space, the only clustering of a plain autoencoder) and
    `classical/kmeans`, `classical/gmm`, `classical/hdbscan` on the robust-scaled features, without
    the network's asinh. For `split=held_out` k-means and the baselines are fitted on the training
    split and applied to the test split (HDBSCAN by the nearest training neighbour). K-means and
    the mixture get the number of true classes (with the field), or the model's K without labels.

    Columns of a clustering have no names. They are aligned with the classes by the Hungarian
    method on all labelled stars for `split=all` and on the training and validation splits for
    `split=held_out`; HDBSCAN's noise is field. Columns left over count as wrong in the accuracy
    and as field in the membership probability, which is the sum over columns aligned with a
    cluster. ARI and NMI need no alignment. Labels serve to score, never to fit.

    Data without `covariance` are no star catalogue (digits, say): class 0 is a class like others,
    calibration is that of the most likely class, and physical contrasts and star charts are left
    out. Data without labels get the rest of the report, with a line that says so.

    Args:
        baselines: Whether to fit the classical baselines.
        num_resamples: Bootstrap resamples of the objects for the uncertainties.
        max_fit: Objects that a baseline is fitted on at most, a random subsample beyond.
        max_silhouette: Objects of the silhouette's subsample.
        max_tsne: Objects of the t-SNE's subsample.
        seed: Fixes subsamples, resamples and the baselines' starts.
    """

    def __init__(
        self,
        baselines: bool = True,
        num_resamples: int = 200,
        max_fit: int = 50000,
        max_silhouette: int = 5000,
        max_tsne: int = 1500,
        seed: int = 0,
    ) -> None:
        self.baselines = baselines
        self.max_fit = max_fit
        self.max_silhouette = max_silhouette
        self.max_tsne = max_tsne
        self.resampling = Resampling(num_resamples, seed)
        self._rows = RowCollector()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what an interrupted run left."""
        self._rows.clear()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what one batch contributes."""
        kept = {name: outputs[name] for name in OUTPUTS if name in outputs}
        kept |= {name: batch[name] for name in INPUTS if name in batch}
        if "covariance" in batch:
            kept["parallax_error"] = batch["covariance"][:, 2, 2].sqrt()
        self._rows.add(kept)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report on rank 0."""
        rows = self._rows.gather(trainer)
        folder = log_folder(trainer)
        if not trainer.is_global_zero:
            return
        check_finite(rows, OUTPUTS)
        objects = Objects.from_rows(rows, getattr(trainer, "datamodule", None))
        slices = make_slices(objects)
        covered = ",".join(part.name.removeprefix("split=") for part in slices)
        report = Report.of_run(trainer, pl_module, "clustering", covered, len(rows["index"]))
        with style():
            figures = self.assess(report, objects, rows, slices)
        save_figures(trainer, folder, figures, prefix="test/")
        report.write(folder)
        report.print([part.name for part in slices])
        print(f"report: {folder / 'report.json'}\nfigures: {folder / 'figures'}")

    def assess(
        self, report: Report, objects: Objects, rows: Rows, slices: list[Slice]
    ) -> dict[str, Figure]:
        """Fill the report and return the figures.

        Args:
            report: Where the numbers go.
            objects: What is known of the objects.
            rows: What the module said of them.
            slices: The slices to score.
        """
        answers: dict[str, list[Answer]] = {}
        for part in slices:
            answers[part.name] = []
            for subject in self._subjects(objects, rows, part):
                alignment = add_subject(report, subject, objects, part, self.resampling)
                answers[part.name].append(Answer(subject, alignment))
                seed = self.resampling.seed
                add_silhouette(report, subject, objects.scaled, part, self.max_silhouette, seed)
            self._add_reconstruction(report, rows, part)
        self._add_notes(report, objects, rows, slices)
        latent = rows.get("latent")
        return clustering_figures(report, objects, slices, answers, latent, self.max_tsne)

    def _subjects(self, objects: Objects, rows: Rows, part: Slice) -> list[Clustering]:
        """Return all clusterings to be scored on a slice."""
        settings = (part, self._num_clusters(objects, rows), self.max_fit, self.resampling.seed)
        classical = classical_subjects(objects, *settings) if self.baselines else []
        return model_subjects(rows, *settings) + classical

    def _num_clusters(self, objects: Objects, rows: Rows) -> int:
        """Return K of the baselines: the true classes, else the model's columns, else two."""
        columns = rows["probability"].shape[1] if "probability" in rows else 2
        return objects.num_classes or columns

    def _add_reconstruction(self, report: Report, rows: Rows, part: Slice) -> None:
        """Add the mean reconstruction error, in squares of the network's scaled units."""
        if "reconstruction_error" not in rows:
            return
        errors = rows["reconstruction_error"][part.scored].astype(np.float64)
        std = bootstrap_std(
            errors,
            lambda sums: sums / len(errors),
            self.resampling.num_resamples,
            self.resampling.seed,
        )
        report.add(
            "model", "reconstruction_error", errors.mean(), part.name, float(std), len(errors)
        )

    def _add_notes(self, report: Report, objects: Objects, rows: Rows, slices: list[Slice]) -> None:
        """State what a reader of the numbers must know."""
        if objects.label is None:
            report.note("the data have no labels: scores against labels are left out")
        else:
            report.note(
                "columns are aligned with classes by Hungarian on all labels for split=all and on "
                "training and validation labels for split=held_out; labels train nothing"
            )
        if len(slices) == 1:
            report.note("the batches have no test split: split=held_out is left out")
        clusters = self._num_clusters(objects, rows)
        for part in slices if self.baselines else []:
            fitted = min(int(part.fitted.sum()), self.max_fit)
            report.note(
                f"{part.name}: baselines fitted without labels on {fitted} objects; k-means and "
                f"GMM K={clusters}, HDBSCAN min_cluster_size={hdbscan_size(fitted)}, "
                "its noise counts as field (both k-means and HDBSCAN on features clipped at 5)"
            )
        report.note(
            f"silhouette in the scaled features of at most {self.max_silhouette} objects, "
            f"t-SNE of at most {self.max_tsne}"
        )
