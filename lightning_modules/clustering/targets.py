"""Centres and targets of self-training, computed from the whole training split."""

import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

KMEANS_STARTS = 20  # of the DEC and IDEC papers


def kmeans_centres(latent: Tensor, num_clusters: int, seed: int) -> Tensor:
    """Return k-means centres, the best of 20 starts.

    Runs on one thread in double precision, so that the same latent gives the same centres to the
    last bit and a resumed run equals the uninterrupted one.

    Args:
        latent: Shape (objects, latent).
        num_clusters: K.
        seed: Seed of the starts.

    Returns:
        Centres, shape (K, latent), same type and device as `latent`.

    Raises:
        ValueError: If there are fewer objects than clusters or the latent is not finite.
    """
    if len(latent) < num_clusters:
        raise ValueError(
            f"num_clusters={num_clusters} exceeds the {len(latent)} objects of the training split; "
            "lower model.num_clusters or bring more data"
        )
    if not torch.isfinite(latent).all():
        raise ValueError(
            "the latent of the training split is not finite, so k-means cannot start; "
            "lower model.lr or look at the features"
        )
    kmeans = KMeans(num_clusters, n_init=KMEANS_STARTS, random_state=seed)
    with threadpool_limits(limits=1):
        kmeans.fit(latent.double().cpu().numpy())
    return torch.from_numpy(kmeans.cluster_centers_).to(latent)


class DECTargets:
    """Target distribution of every object of the training split, found by the object's index.

    Rows are kept in the order of the index and never matched by position, so that a shuffled or
    sharded loader gets each object's own target.

    Args:
        index: Row numbers in the store, int64, shape (objects,).
        probability: Target distribution P, shape (objects, clusters).
        assignment: Cluster of each object when P was made, int64, shape (objects,).
    """

    def __init__(self, index: Tensor, probability: Tensor, assignment: Tensor) -> None:
        order = index.argsort()
        self.index = index[order]
        self.probability = probability[order]
        self.assignment = assignment[order]

    def check(self, index: Tensor) -> None:
        """Raise ValueError if an index is not of the training split."""
        missing = index[~torch.isin(index, self.index)].tolist()
        if missing:
            raise ValueError(
                f"{len(missing)} objects of the batch are not in the training split that the "
                f"targets were computed from (first indices {missing[:5]}); resume with the same "
                "data and split"
            )

    def of(self, index: Tensor) -> Tensor:
        """Return P of the objects with these row numbers, shape (batch, clusters)."""
        return self.probability[torch.searchsorted(self.index, index)]

    def label_change(self, other: "DECTargets") -> float:
        """Return the share of objects whose cluster differs from another set's."""
        return float((self.assignment != other.assignment).double().mean())

    def state(self) -> dict[str, Tensor]:
        """Return the tensors for a checkpoint."""
        return dict(vars(self))

    def to(self, device: torch.device) -> "DECTargets":
        """Return the same on a device."""
        return DECTargets(**{name: values.to(device) for name, values in self.state().items()})
