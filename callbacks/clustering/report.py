"""The report of the clustering method: scores, calibration, physics, baselines, figures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.clustering.alignment import Clustering, answer_of
from callbacks.clustering.baselines import (
    GaussianMixtureBaseline,
    HDBSCANBaseline,
    KMeansBaseline,
    hdbscan_size,
)
from callbacks.clustering.figures.assemble import clustering_figures
from callbacks.clustering.figures.latent import has_umap
from callbacks.clustering.injection import add_injection
from callbacks.clustering.parameters import add_parameters
from callbacks.clustering.sample import StarSample, Subset, make_subsets, sees_photometry
from callbacks.clustering.scores import add_silhouette, add_subject
from callbacks.report.base import ReportCallback, TestRun

PHOTOMETRIC = "scaled_photometry"
"""Of the rows: scaled features with magnitude and colour."""


class ClusteringReport(ReportCallback):
    """Writes `report.json`, `report.csv` and `figures/*.png` at the end of `test`.

    Every number is given for `split=all` (transductive: all stars, as membership is used) and
    `split=held_out` (the test split, which neither network nor baseline was fitted on), for the
    subjects `model` (the module's own assignment and probability), `model_latent_kmeans` (k-means
    with 20 starts on its latent space, the only clustering of a plain autoencoder) and
    `baseline/kmeans`, `baseline/gmm`, `baseline/hdbscan` on the robust-scaled features, without
    the network's asinh, `baseline/gmm_photometry` on these and magnitude and colour, where the data
    have them, and `baseline/<name>` for each other trained run (`--beside.<name>`). For
    `split=held_out` k-means and the baselines are fitted on the training split and applied to the
    test split (HDBSCAN by the nearest training neighbour). K-means and the mixture get the number
    of true classes (with the field), or the model's K without labels.

    A model that knows the parameters of its clusters (`parameter_rows`) has them in the report, at
    `model/pmra/cluster=1` with its own error as deviation, and in `parameters.ecsv`.

    Columns of a clustering have no names. Those that make the F1 of membership largest are the
    clusters, and each class takes that of them which describes it best, on all labelled stars for
    `split=all` and on the training and validation splits for `split=held_out`; HDBSCAN's noise is
    field, and so is the column that a module names as its `field_column`. Columns beyond one a
    class count as wrong in the accuracy. The membership probability is the sum over columns that
    are clusters; F1, completeness and purity are of the stars where it is above 0.5. ARI and NMI
    need no alignment. Labels serve to score, never to fit.

    Data without `covariance` are no star catalogue (digits, say): class 0 is a class like others,
    calibration is that of the most likely class, and physical contrasts and star charts are left
    out. Data without labels get the rest of the report, with a line that says so.

    Args:
        baselines: Whether to fit the classical baselines.
        num_resamples: Bootstrap resamples of the objects for the uncertainties.
        max_fit: Objects that a baseline is fitted on at most, a random subsample beyond.
        max_silhouette: Objects of the silhouette's subsample.
        max_tsne: Objects of the subsample that t-SNE and UMAP draw.
        num_injected: Stars drawn from the fitted clusters and put through the model, to test
            whether real members scatter as it says (`split=injected`); 0 for none.
        seed: Fixes subsamples, resamples and the baselines' starts.
    """

    method: ClassVar[str] = "clustering"
    outputs: ClassVar[tuple[str, ...]] = (
        "latent", "probability", "assignment", "reconstruction_error"
    )  # fmt: skip
    inputs: ClassVar[tuple[str, ...]] = ("features", "magnitude", "colour", "label", "split")
    shown: ClassVar[tuple[str, ...]] = ("split=all", "split=held_out", "split=injected")
    shows_beside: ClassVar[bool] = True
    own_subjects: ClassVar[tuple[str, ...]] = ("kmeans", "gmm", "hdbscan")

    def __init__(
        self,
        baselines: bool = True,
        num_resamples: int = 200,
        max_fit: int = 50000,
        max_silhouette: int = 2000,
        max_tsne: int = 1500,
        num_injected: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(baselines, num_resamples, max_fit, seed)
        self.max_silhouette = max_silhouette
        self.max_tsne = max_tsne
        self.num_injected = num_injected

    def reduce(self, batch: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what is kept of a batch, of stars also the errors of parallax and motion."""
        kept = super().reduce(batch, outputs)
        if "covariance" in batch:
            covariance = batch["covariance"]
            kept["parallax_error"] = covariance[:, 2, 2].sqrt()
            if self.num_injected:
                kept["covariance"] = covariance
            kept["motion_covariance"] = covariance[:, [3, 3, 4], [3, 4, 4]]
        return kept

    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        """Fill the report and return the figures."""
        sample, subsets = StarSample.of_run(run), make_subsets(run)
        run.report.covers(",".join(subset.split for subset in subsets), len(run.rows["index"]))
        run.rows["scaled"] = sample.scaled  # what the baselines see
        if (photometric := sample.with_photometry(run)) is not None:
            run.rows[PHOTOMETRIC] = photometric
        answers: dict[str, list[Clustering]] = {}
        for subset in subsets:
            found = answers.setdefault(subset.split, [])
            for subject, clustering in self._subjects(run, sample, subset):
                named = replace(clustering, subject=subject)
                found.append(add_subject(run, named, sample, subset))
                add_silhouette(run, found[-1], sample.scaled, subset, self.max_silhouette)
            if "reconstruction_error" in run.rows:  # in squares of the network's scaled units
                errors = run.rows["reconstruction_error"][subset.scored].astype(np.float64)
                scope = run.scope("model", subset.scored, split=subset.split)
                scope.mean("reconstruction_error", errors)
        parameters = add_parameters(run)
        if self.num_injected and parameters:
            add_injection(run, parameters, self.num_injected)
        self._add_notes(run, sample, subsets)
        return clustering_figures(run, sample, subsets, answers, parameters, self.max_tsne)

    def _subjects(
        self, run: TestRun, sample: StarSample, subset: Subset
    ) -> Iterator[tuple[str, Clustering]]:
        """Yield all clusterings to be scored on a subset, by the subject's name."""
        rows, count = run.rows, _num_clusters(run, sample)
        if "assignment" in rows:
            yield "model", answer_of(rows, run.module)
        if "latent" in rows:
            kmeans = KMeansBaseline(count, self.seed, key="latent", clip=np.inf)
            yield "model_latent_kmeans", run.fit(kmeans, subset.fitted).predict(rows)
        mixtures = [GaussianMixtureBaseline(count, self.seed)]
        if PHOTOMETRIC in rows:
            mixtures.append(
                GaussianMixtureBaseline(count, self.seed, PHOTOMETRIC, "gmm_photometry")
            )
        yield from run.baselines(
            KMeansBaseline(count, self.seed), *mixtures, HDBSCANBaseline(), fitted=subset.fitted
        )
        for name, found in run.beside.items():
            if "assignment" in found:
                yield f"baseline/{name}", answer_of(found, self.beside[name])

    def _add_notes(self, run: TestRun, sample: StarSample, subsets: Sequence[Subset]) -> None:
        """State what a reader of the numbers must know."""
        note = run.report.note
        if sample.label is None:
            note("the data have no labels: scores against labels are left out")
        else:
            rule = "F1" if sample.has_field else "Hungarian"
            note(
                f"columns are aligned with classes by {rule} on "
                "all labels for split=all and on training and validation labels for "
                "split=held_out; labels train nothing"
            )
        if PHOTOMETRIC in run.rows and sees_photometry(run.module):
            note(
                "the model also sees magnitude and colour (G and BP-RP); of the baselines "
                "gmm_photometry alone does"
            )
        if len(subsets) == 1:
            note("the batches have no test split: split=held_out is left out")
        for name, found in run.beside.items():
            if "assignment" not in found:
                note(f"baseline/{name} has no clusters yet and is left out")
        for subset in subsets if self.baselines else []:
            fitted = min(int(subset.fitted.sum()), self.max_fit)
            note(
                f"split={subset.split}: baselines fitted without labels on {fitted} objects; "
                f"k-means and GMM K={_num_clusters(run, sample)}, HDBSCAN "
                f"min_cluster_size={hdbscan_size(fitted)}, its noise counts as field (both k-means "
                "and HDBSCAN on features clipped at 5)"
            )
        if "latent" in run.rows and not has_umap():
            note("the latent space by UMAP is left out: install the extra umap, astrolit[umap]")
        note(
            f"silhouette in the scaled features of at most {self.max_silhouette} objects, "
            f"t-SNE and UMAP of at most {self.max_tsne}"
        )


def _num_clusters(run: TestRun, sample: StarSample) -> int:
    """Return K of the baselines: the true classes, else the model's columns, at least two."""
    columns = run.rows["probability"].shape[1] if "probability" in run.rows else 2
    return sample.num_classes or max(2, columns)
