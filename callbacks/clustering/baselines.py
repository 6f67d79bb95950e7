"""The classical clusterings that stand beside the network in the same table.

Each sees `scaled` of the rows: features robust-scaled, shape (n, F). Methods of distances see them
clipped at 5, since otherwise a few stars of far outlying proper motion decide (HDBSCAN then finds
no cluster in many globulars, and k-means one of a dozen outliers); the mixture has components for
outliers and sees them whole, and once more beside magnitude and colour (`gmm_photometry`).
"""

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from callbacks.clustering.alignment import Clustering
from callbacks.report.gather import Rows

Array = NDArray[Any]
CLIP = 5.0


@dataclass
class KMeansBaseline:
    """K-means with 20 starts: a hard clustering.

    Args:
        num_clusters: K.
        seed: Fixes the starts.
        key: Of the rows, what is clustered, shape (n, F).
        clip: Largest absolute value seen.
    """

    name: ClassVar[str] = "kmeans"
    num_clusters: int
    seed: int
    key: str = "scaled"
    clip: float = CLIP

    def fit(self, rows: Rows) -> Self:
        """Fit the centres."""
        count = min(self.num_clusters, len(rows[self.key]))
        self.model = KMeans(count, n_init=20, random_state=self.seed).fit(self._data(rows))
        return self

    def predict(self, rows: Rows) -> Clustering:
        """Return the nearest centre of each object."""
        assignment = self.model.predict(self._data(rows)).astype(np.int64)
        return Clustering(assignment, None, self.model.n_clusters)

    def _data(self, rows: Rows) -> Array:
        """Return what is clustered, in double precision, one row an object."""
        data = rows[self.key].astype(np.float64).reshape(len(rows[self.key]), -1)
        return data.clip(-self.clip, self.clip)


@dataclass
class GaussianMixtureBaseline:
    """A Gaussian mixture with full covariances and 5 starts.

    Args:
        num_clusters: K.
        seed: Fixes the starts.
        key: Of the rows, what is clustered, shape (n, F).
        name: In the report.
    """

    num_clusters: int
    seed: int
    key: str = "scaled"
    name: str = "gmm"

    def fit(self, rows: Rows) -> Self:
        """Fit by EM."""
        count = min(self.num_clusters, len(rows[self.key]))
        model = GaussianMixture(count, n_init=5, reg_covar=1e-5, random_state=self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model = model.fit(rows[self.key])
        return self

    def predict(self, rows: Rows) -> Clustering:
        """Return the responsibilities."""
        probability = self.model.predict_proba(rows[self.key])
        return Clustering(probability.argmax(1), probability, probability.shape[1])


class HDBSCANBaseline:
    """HDBSCAN, which finds its own number of clusters; column 0 is noise, that is, field.

    Objects that it was not fitted on take the label and strength of their nearest neighbour among
    those that it was. The strength is not meant as a probability; (1 + strength) / 2 counts as that
    of the object's own cluster, so that who is in a cluster is above 0.5, and the rest as field.
    """

    name: ClassVar[str] = "hdbscan"

    def fit(self, rows: Rows) -> Self:
        """Find the clusters."""
        data = rows["scaled"].clip(-CLIP, CLIP)
        size = min(hdbscan_size(len(data)), len(data) - 1)
        self.model = HDBSCAN(min_cluster_size=size, min_samples=min(10, size), copy=True).fit(data)
        self.tree = NearestNeighbors(n_neighbors=1).fit(data)
        return self

    def predict(self, rows: Rows) -> Clustering:
        """Return label and strength of the nearest fitted object."""
        label = self.model.labels_ + 1
        data = rows["scaled"].clip(-CLIP, CLIP)
        neighbour = self.tree.kneighbors(data, return_distance=False)[:, 0]
        assignment, strength = label[neighbour], 0.5 + 0.5 * self.model.probabilities_[neighbour]
        probability = np.zeros((len(data), int(label.max()) + 1))
        probability[np.arange(len(data)), assignment] = strength
        probability[:, 0] = 1 - probability[:, 1:].sum(1)
        return Clustering(assignment, probability, probability.shape[1], field_column=0)


def hdbscan_size(count: int) -> int:
    """Return HDBSCAN's smallest cluster for `count` objects: sqrt(count) / 2, at least 10."""
    return max(10, round(count**0.5 / 2))
