"""An autoencoder with a head of memberships: what deep embedded clustering trains."""

from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.base import Batch
from lightning_modules.clustering.error_aware import (
    fit_mixture,
    make_mixture,
    weigh,
    weighted_centres,
)
from lightning_modules.clustering.module import StellarAutoencoder
from lightning_modules.clustering.neighbourhood import NeighbourGraph
from lightning_modules.clustering.network import soft_assignment, target_distribution
from lightning_modules.clustering.targets import kmeans_centres
from lightning_modules.nn.modes import evaluation

Head = Literal["student_t", "error_aware"]


class HeadedAutoencoder(StellarAutoencoder):
    """Base of deep embedded clustering: memberships T in the latent, and Q, which are predicted."""

    frequency: Tensor

    def build_head(
        self,
        num_clusters: int,
        head: Head,
        alpha: float,
        balance: bool,
        seed: int,
        neighbours: int,
    ) -> None:
        """Make the centres and what belongs to them; called by constructors.

        Args:
            num_clusters: Number of columns K.
            head: `student_t`: Q is T; `error_aware`: Q is T times the likelihood of a mixture.
            alpha: Degrees of freedom α of T.
            balance: Divide P by the frequencies of the columns.
            seed: Of the k-means starts, or of the mixture's or the graph's search.
            neighbours: k of the `NeighbourGraph` that start and targets take; 0 leaves it out.
        """
        self.num_clusters, self.alpha, self.balance = num_clusters, alpha, balance
        if neighbours < 0 or (neighbours and head == "error_aware"):
            raise ValueError(
                f"model.neighbours={neighbours} must be 0 or more, and 0 with head: error_aware"
            )
        self.kmeans_seed, self.neighbours = seed, neighbours
        self._graph: NeighbourGraph | None = None
        self.centres = nn.Parameter(torch.zeros(num_clusters, self.latent_dim))
        self.register_buffer("frequency", torch.ones(num_clusters))
        self.mixture = make_mixture(num_clusters, seed) if head == "error_aware" else None

    @property
    def field_column(self) -> int | None:
        """Column of `probability` that is the field; None if no column is by construction."""
        return None if self.mixture is None else 0

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shapes of `features`, and of `covariance` where it is needed."""
        shapes = super().expected_shapes()
        return shapes if self.mixture is None else shapes | {"covariance": ((5, 5), "head")}

    def setup(self, stage: str) -> None:
        """Compare the data with what network and mixture take."""
        super().setup(stage)
        self._graph = None  # of other data
        if self.mixture is not None:
            self.mixture.setup(stage)

    def own_memberships(self, latent: Tensor, columns: int) -> Tensor:
        """Return T, Student's-t memberships by the latent alone, shape (batch, columns).

        Args:
            latent: Shape (batch, latent).
            columns: How many of the centres are in use.
        """
        return soft_assignment(latent, self.centres[:columns], self.alpha)

    def memberships(self, latent: Tensor, batch: Batch) -> Tensor:
        """Return Q, shape (batch, columns); a mixture of fewer clusters has fewer columns.

        Args:
            latent: Of the stars, shape (batch, latent).
            batch: The stars.
        """
        if self.mixture is None:
            return self.own_memberships(latent, self.num_clusters)
        share = self.mixture.predict_step(batch)["probability"]
        return weigh(self.own_memberships(latent, share.shape[1]), share)

    def target(self, latent: Tensor, batch: Batch) -> Tensor:
        """Return P of stars from their own Q and the frequencies of the training split.

        Args:
            latent: Of the stars, shape (batch, latent).
            batch: The stars.
        """
        q = self.memberships(latent, batch)
        return target_distribution(q, self.balance, self.frequency[: q.shape[1]])

    @torch.no_grad()
    def place_centres(self) -> None:
        """Place the centres by k-means on the latent of the training split, graph or mixture."""
        if self.neighbours:
            centres = weighted_centres(self.embed_training_split()[1], self._shared())
        elif self.mixture is None:
            _, latent, _ = self.embed_training_split()
            centres = kmeans_centres(latent, self.num_clusters, self.kmeans_seed)
        else:
            fit_mixture(self.mixture, self._training_split)
            self._take_first(self.mixture)
            parts = self._training_split()
            share = torch.cat([self.mixture.predict_step(part)["probability"] for part in parts])
            centres = weighted_centres(self.embed_training_split()[1], share)
        self.centres[: len(centres)] = self.trainer.strategy.broadcast(centres)

    @torch.no_grad()
    def embed_training_split(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return index (stars,), latent (stars, latent) and Q (stars, columns) of all its stars.

        Dropout is off and batch normalisation uses its running statistics, those of the first
        process, so that every process finds the same. With `neighbours`, Q is
        averaged over them and weighed by the graph's partition.
        """
        self._take_first(self.net)
        index, latent, q = [], [], []
        with evaluation(self.net):
            for batch in self._training_split():
                index.append(batch["index"])
                latent.append(self.embed(self.scaled(batch)[0]))
                q.append(self.memberships(latent[-1], batch))
        whole = torch.cat(q)
        if self.neighbours:
            whole = weigh(self.graph.smooth(whole), self._shared())
        return torch.cat(index), torch.cat(latent), whole

    def _shared(self) -> Tensor:
        """Return how the neighbours share the graph's partition, shape (stars, columns)."""
        return self.graph.memberships(self.num_clusters, self.kmeans_seed).to(self.device)

    @property
    def graph(self) -> NeighbourGraph:
        """The neighbours of the training split, in its order; found once a run."""
        if self._graph is None:
            features = [self.scaled(batch)[0] for batch in self._training_split()]
            self._graph = NeighbourGraph(torch.cat(features), self.neighbours)
        return self._graph
