"""The error-aware head: a mixture's likelihood beside the memberships of the latent."""

from collections.abc import Callable, Iterable

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.clustering.cluster_mixture import ClusterMixture

MAX_PASSES = 200
"""Of the mixture's fit, as in its shipped configurations."""


def make_mixture(num_columns: int, seed: int) -> ClusterMixture:
    """Return a mixture that is not fitted yet, whose parameters no optimizer moves.

    Args:
        num_columns: The background and the most clusters to search for.
        seed: Fixes the draws of the search.

    Raises:
        ValueError: If there is no column for a cluster.
    """
    if num_columns < 2:
        raise ValueError(
            f"model.num_clusters={num_columns} must be at least 2 with model.head=error_aware, "
            "whose first column is the background"
        )
    return ClusterMixture(max_clusters=num_columns - 1, seed=seed).requires_grad_(False)


@torch.no_grad()
def fit_mixture(mixture: ClusterMixture, batches: Callable[[], Iterable[Batch]]) -> None:
    """Search for clusters and fit all parameters to a training split, in place.

    What `Trainer.fit` makes of a `ClusterMixture`: the search of its `on_fit_start`, then passes
    until the next step would gain too little, at most `MAX_PASSES`; it says what was found.

    Args:
        mixture: Not fitted yet; child of a module whose trainer has the datamodule.
        batches: Gives the training split anew for each pass, with all that the mixture needs.
    """
    mixture.on_fit_start()
    mixture.fit_in_memory(batches, MAX_PASSES)
    if not mixture.converged:
        rank_zero_warn(
            f"the mixture of model.head=error_aware did not converge in {MAX_PASSES} passes and "
            "stays at the best of them; fit a ClusterMixture alone to see why"
        )
    mixture.on_train_end()


def weigh(own: Tensor, share: Tensor) -> Tensor:
    """Return q_ik ∝ r_ik t_ik, the mixture's responsibility times the latent's membership.

    With r_ik ∝ π_k S_k(x_i) N(u_i; m_k, η² C_i + Σ_k) this is the error-convolved likelihood times
    the Student's-t kernel of the latent. It is no posterior: t is trained towards the sharpened q,
    which holds r already, so that the likelihood counts more than once and q tends to be too sure.

    Args:
        own: t, memberships by the latent alone, shape (batch, columns).
        share: r, shape (batch, columns).
    """
    q = own.double() * share.double()
    return (q / q.sum(dim=1, keepdim=True)).to(own.dtype)


def weighted_centres(latent: Tensor, share: Tensor) -> Tensor:
    """Return the mean latent of each column, weighted by the mixture's responsibilities.

    Args:
        latent: Shape (stars, latent).
        share: r, shape (stars, columns).

    Returns:
        Centres, shape (columns, latent).
    """
    share = share.to(latent.dtype)
    total = share.sum(dim=0).clamp_min(torch.finfo(share.dtype).tiny)
    return share.T @ latent / total[:, None]
