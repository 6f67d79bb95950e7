"""The classical clusterings that stand beside the network in the same table."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from callbacks.clustering.alignment import Clustering, Objects, Slice
from callbacks.report.gather import Rows
from callbacks.report.projector import subsample

Array = NDArray[Any]
Predictor = Callable[[str, Array], Clustering]


def fit_kmeans(data: Array, num_clusters: int, seed: int) -> Predictor:
    """Fit k-means with 20 starts; a hard clustering."""
    model = KMeans(min(num_clusters, len(data)), n_init=20, random_state=seed).fit(data)
    return lambda subject, x: Clustering(
        subject, model.predict(x).astype(np.int64), None, model.n_clusters
    )


def fit_gmm(data: Array, num_clusters: int, seed: int) -> Predictor:
    """Fit a Gaussian mixture with full covariances and 5 starts."""
    model = GaussianMixture(
        min(num_clusters, len(data)), n_init=5, reg_covar=1e-5, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(data)

    def predict(subject: str, x: Array) -> Clustering:
        """Return the responsibilities."""
        probability = model.predict_proba(x)
        return Clustering(subject, probability.argmax(1), probability, probability.shape[1])

    return predict


def hdbscan_size(count: int) -> int:
    """Return HDBSCAN's smallest cluster for `count` objects: sqrt(count) / 2, at least 10."""
    return max(10, round(count**0.5 / 2))


def fit_hdbscan(data: Array, num_clusters: int, seed: int) -> Predictor:
    """Fit HDBSCAN, which finds its own number of clusters; column 0 is noise, that is, field.

    Objects that it was not fitted on take the label and strength of their nearest neighbour among
    those that it was. The strength counts as probability of the object's own cluster, the rest as
    field (it is not meant as a probability, which the calibration shows).
    """
    size = min(hdbscan_size(len(data)), len(data) - 1)
    model = HDBSCAN(min_cluster_size=size, min_samples=min(10, size), copy=True).fit(data)
    label = model.labels_ + 1
    tree = NearestNeighbors(n_neighbors=1).fit(data)
    columns = int(label.max()) + 1

    def predict(subject: str, x: Array) -> Clustering:
        """Return label and strength of the nearest fitted object."""
        neighbour = tree.kneighbors(x, return_distance=False)[:, 0]
        assignment, strength = label[neighbour], model.probabilities_[neighbour]
        probability = np.zeros((len(x), columns))
        probability[np.arange(len(x)), assignment] = strength
        probability[:, 0] = 1 - probability[:, 1:].sum(1)
        return Clustering(subject, assignment, probability, columns, field_column=0)

    return predict


CLIP = 5.0
CLIPPED = ("kmeans", "hdbscan")
BASELINES: dict[str, Callable[[Array, int, int], Predictor]] = {
    "kmeans": fit_kmeans,
    "gmm": fit_gmm,
    "hdbscan": fit_hdbscan,
}


def model_subjects(
    rows: Rows, part: Slice, num_clusters: int, size: int, seed: int
) -> list[Clustering]:
    """Return the module's own answer, if it gives one, and k-means on its latent space.

    Args:
        rows: What the module said of all objects.
        part: The slice.
        num_clusters: K of the k-means.
        size: Objects that k-means is fitted on at most.
        seed: Fixes subsample and starts.
    """
    subjects = []
    if "assignment" in rows:
        soft = rows.get("probability")
        columns = int(rows["assignment"].max()) + 1 if soft is None else soft.shape[1]
        subjects.append(Clustering("model", rows["assignment"], soft, columns))
    if "latent" in rows:
        data = rows["latent"].astype(np.float64)
        data = data.reshape(len(data), -1)
        fitted = fitting_rows(part, size, seed)
        predict = fit_kmeans(data[fitted], num_clusters, seed)
        subjects.append(predict("model_latent_kmeans", data))
    return subjects


def classical_subjects(
    objects: Objects, part: Slice, num_clusters: int, size: int, seed: int
) -> list[Clustering]:
    """Return the baselines, fitted on a slice's objects and applied to all.

    Methods of distances see the scaled features clipped at 5, since otherwise a few stars of far
    outlying proper motion decide (HDBSCAN then finds no cluster in many globulars, and k-means
    one of a dozen outliers); the mixture has components for outliers and sees them whole.

    Args:
        objects: The objects.
        part: The slice.
        num_clusters: K of k-means and mixture.
        size: Objects that they are fitted on at most.
        seed: Fixes subsample and starts.
    """
    fitted = fitting_rows(part, size, seed)
    subjects = []
    for name, fit in BASELINES.items():
        data = objects.scaled.clip(-CLIP, CLIP) if name in CLIPPED else objects.scaled
        predict = fit(data[fitted], num_clusters, seed)
        subjects.append(predict(f"classical/{name}", data))
    return subjects


def fitting_rows(part: Slice, size: int, seed: int) -> Array:
    """Return the positions that a baseline is fitted on, shape (m,)."""
    rows = np.flatnonzero(part.fitted)
    return rows[subsample(len(rows), size, seed)]
