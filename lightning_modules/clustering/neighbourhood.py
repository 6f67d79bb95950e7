"""Nearest neighbours of the training split: a start and targets for image-like tables."""

import networkx as nx
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits
from torch import Tensor

STARTS = 8  # of Louvain's method
RESOLUTION = 2.0  # of its communities: more than are asked for, to be merged
ROUNDS = 50  # of sharpening a partition, by when it has settled
SMOOTHING_ROUNDS = 5

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


class NeighbourGraph:
    """Which objects are among the k nearest of each other, as symmetric affinities W.

    W = ½ (A + Aᵀ) with A_ij = 1 where j is among the k nearest of i; d_i = Σ_j W_ij. Computed in
    double precision on one thread, so that the same objects in the same order give the same graph
    and a resumed run equals the uninterrupted one. Suits tables of up to some ten thousand objects.

    Args:
        features: Scaled features, shape (objects, features).
        neighbours: k.

    Raises:
        ValueError: If there are not more than k objects.
    """

    def __init__(self, features: Tensor, neighbours: int) -> None:
        if len(features) <= neighbours:
            raise ValueError(
                f"model.neighbours={neighbours} needs more objects than the {len(features)} of the "
                "training split; lower it or bring more data"
            )
        with threadpool_limits(limits=1):
            search = NearestNeighbors(n_neighbors=neighbours).fit(features.double().cpu().numpy())
            directed = search.kneighbors_graph()
        self.affinity = sparse.csr_matrix(0.5 * (directed + directed.T))
        self.degree: Array = np.asarray(self.affinity.sum(axis=1)).ravel()
        self._memberships: Tensor | None = None

    def smooth(self, q: Tensor) -> Tensor:
        """Return memberships averaged with those of the neighbours, q ← ½ (q + W q / d), 5 times.

        Args:
            q: Shape (objects, clusters), in the order of the features; rows sum to 1, also after.
        """
        return torch.from_numpy(self._smoothed(q.double().cpu().numpy())).to(q)

    def memberships(self, num_clusters: int, seed: int) -> Tensor:
        """Return how the neighbours of each object share `partition`: smoothed, float64, (N, K).

        Found once; asked for again it is at hand.

        Args:
            num_clusters: K.
            seed: Of the starts.

        Raises:
            ValueError: If a part is empty: the graph does not hold K clusters.
        """
        if self._memberships is None:
            member = np.eye(num_clusters)[self.partition(num_clusters, seed)]
            if not member.any(axis=0).all():
                raise ValueError(
                    f"the graph of neighbours holds {int(member.any(axis=0).sum())} clusters, not "
                    f"num_clusters={num_clusters}; lower it, or model.neighbours"
                )
            self._memberships = torch.from_numpy(self._smoothed(member))
        return self._memberships

    def modularity(self, labels: Labels) -> float:
        """Return the share of affinity within clusters beyond that of a random graph.

        M = Σ_c [W(c, c)/m - (d(c)/m)²] with m = Σ_i d_i (Newman & Girvan 2004, Phys. Rev. E 69,
        026113).

        Args:
            labels: Cluster of each object, 0 or more, shape (objects,).
        """
        within, degree = self._between(labels)
        return float(within.trace() - np.square(degree).sum())

    def partition(self, num_clusters: int, seed: int) -> Labels:
        """Return the partition of the highest modularity that 8 starts lead to, (objects,).

        A start is made of the communities of Louvain's method, merged until K are left; then
        q ∝ (W q / d)² / Σ_i q until it settles.

        Reference: Blondel et al. 2008 (J. Stat. Mech. P10008).

        Args:
            num_clusters: K.
            seed: Of the starts.
        """
        starts = [self._communities(num_clusters, STARTS * seed + n) for n in range(STARTS)]
        found = [self._sharpened(self._merged(start, num_clusters)) for start in starts]
        return max(found, key=self.modularity)

    def _mean(self, values: Array) -> Array:
        """Return the means over the neighbours, shape (objects, clusters)."""
        mean: Array = self.affinity @ values / self.degree[:, None]
        return mean

    def _smoothed(self, values: Array) -> Array:
        """Return values averaged with those of the neighbours, shape (objects, clusters)."""
        for _ in range(SMOOTHING_ROUNDS):
            values = 0.5 * (values + self._mean(values))
        return values

    def _between(self, labels: Labels) -> tuple[Array, Array]:
        """Return W(c, c')/m, shape (clusters, clusters), and d(c)/m, shape (clusters,)."""
        member = np.eye(labels.max() + 1)[labels]
        total = self.degree.sum()
        return member.T @ (self.affinity @ member) / total, self.degree @ member / total

    def _communities(self, at_least: int, seed: int) -> Labels:
        """Return the communities of Louvain's method, finer ones if they are too few."""
        graph, resolution = nx.from_scipy_sparse_array(self.affinity), RESOLUTION
        found = nx.community.louvain_communities(graph, resolution=resolution, seed=seed)
        while len(found) < at_least:
            resolution *= 2.0
            found = nx.community.louvain_communities(graph, resolution=resolution, seed=seed)
        labels = np.empty(len(self.degree), np.int64)
        for number, members in enumerate(found):
            labels[list(members)] = number
        return labels

    def _merged(self, labels: Labels, num_clusters: int) -> Labels:
        """Return fewer clusters: the pair whose union gains modularity most is merged, again."""
        labels = labels.copy()
        for last in range(labels.max(), num_clusters - 1, -1):
            within, degree = self._between(labels)
            gain = np.triu(within - np.outer(degree, degree), 1) + np.tril(np.full_like(within, -1))
            first, second = np.unravel_index(gain.argmax(), gain.shape)
            labels[labels == second] = first
            labels[labels == last] = second  # the highest number goes
        return labels

    def _sharpened(self, labels: Labels) -> Labels:
        """Return the clusters that memberships settle in."""
        q, tiny = np.eye(labels.max() + 1)[labels], np.finfo(np.float64).tiny
        for _ in range(ROUNDS):
            weight = self._mean(q) ** 2 / np.maximum(q.sum(axis=0), tiny)
            q = weight / np.maximum(weight.sum(axis=1, keepdims=True), tiny)
        return q.argmax(axis=1)
