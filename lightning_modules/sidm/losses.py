"""Losses of compact clustering (torch only).

N rows of the global batch have a latent z (Z numbers) and a target: their class, or -1.

Reference: Tregidga et al. 2025 (arXiv:2511.09660); Kamnitsas et al. 2018 (arXiv:1806.02679).
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Location = Literal["quantile", "mean", "median"]
FLOOR = 1e-5
"""Share of a step of the walk that goes anywhere; also added to the weight of each class."""
LEAST = 1e-12
"""Least probability whose logarithm is taken."""
BANDWIDTH = 0.1
"""Standard deviation, as a quantile, of the kernel of the smooth median."""


def class_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean softmax cross-entropy of rows with a class, in nats; 0 without any.

    Args:
        logits: Shape (N, C).
        target: Shape (N,) int64.
    """
    total = functional.cross_entropy(logits, target, ignore_index=-1, reduction="sum")
    return total / (target >= 0).sum().clamp_min(1)


def transitions(latent: Tensor) -> Tensor:
    """Return the walk T = (1 - ε) softmax_j(z_i · z_j) + ε / N, rows of sum 1, shape (N, N)."""
    return FLOOR / len(latent) + (1.0 - FLOOR) * (latent @ latent.mT).softmax(dim=1)


def propagated(walk: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Return the probability Φ that the walk from each row ends in a class, shape (N, C).

    Rows with a class end the walk; the others have Φ_U = (I - T_UU)⁻¹ T_UL Φ_L. The diagonal of
    I - T_UU is the sum of the row's other entries, which does not cancel in rounding.

    Args:
        walk: T, shape (N, N).
        target: Shape (N,) int64, at least one of them a class.
        num_classes: C.
    """
    labelled = target >= 0
    ends = functional.one_hot(target.clamp_min(0), num_classes).to(walk) * labelled[:, None]
    elsewhere = walk * ~torch.eye(len(walk), dtype=torch.bool, device=walk.device)
    system = torch.diag(elsewhere.sum(dim=1)) - elsewhere * ~labelled
    system = torch.where(labelled[:, None], torch.eye(len(walk)).to(walk), system)
    arrivals = torch.where(labelled[:, None], ends, walk @ ends)
    return torch.linalg.solve(system, arrivals)


def compact_clustering(latent: Tensor, target: Tensor, num_classes: int, steps: int = 3) -> Tensor:
    """Return the loss of compact clustering by label propagation, in nats; 0 without classes.

    -1/S Σ_s mean_i Σ_j T*_ij log H^s_ij with T*_ij = Σ_c Φ_ic Φ_jc / Σ_k Φ_kc, H¹ = T and
    H^s = (T ∘ Φ Φᵀ) H^(s-1): the walk should reach all rows of its class alike, and stay there.
    The sum over j and the mean over i make the weight independent of N (the mean over i and j of
    the reference falls as 1/N). Repeating every row adds ln 2 and leaves the gradient.

    Args:
        latent: Shape (N, Z).
        target: Shape (N,) int64.
        num_classes: C.
        steps: S.
    """
    if not (target >= 0).any():
        return latent.sum() * 0.0
    walk = transitions(latent)
    phi = propagated(walk, target, num_classes)
    wanted = phi @ (phi / (phi.sum(dim=0) + FLOOR)).mT
    agreeing = walk * (phi @ phi.mT)
    reached, loss = walk, latent.new_zeros(())
    for step in range(steps):
        reached = agreeing @ reached if step else walk
        loss = loss - (wanted * reached.clamp_min(LEAST).log()).sum(dim=1).mean()
    return loss / steps


def class_locations(values: Tensor, members: Tensor, location: Location) -> Tensor:
    """Return where the rows of each class lie, shape (C,); 0 for a class without rows.

    `mean`; `median`, the mean of the two middle rows if their number is even; `quantile`, the
    smooth median: the mean of ordered rows with weights of a Gaussian kernel of width 0.1 in the
    quantile about 1/2, so that many rows get gradient (Sheather & Marron 1990, JASA 85, 410).

    Args:
        values: Shape (N,).
        members: Which rows are of each class, shape (N, C) bool.
        location: Which of them.
    """
    if location != "mean":
        values, order = values.sort()
        members = members[order]
    weights = members.to(values)
    count = weights.sum(dim=0).clamp_min(1)
    if location != "mean":
        off_centre = weights.cumsum(dim=0) - (count + 1) / 2  # rank from the middle, in rows
        if location == "median":
            weights = weights * (off_centre.abs() < 0.75)
        else:
            weights = weights * torch.exp(-0.5 * (off_centre / count / BANDWIDTH).square())
    return (weights * values.unsqueeze(1)).sum(dim=0) / weights.sum(dim=0).clamp_min(LEAST)


def class_distance(values: Tensor, target: Tensor, wanted: Tensor, location: Location) -> Tensor:
    """Return the mean over known classes with rows of (location_c - y_c)².

    Args:
        values: Latent 0, shape (N,).
        target: Shape (N,) int64.
        wanted: y of each class, NaN if hidden, shape (C,).
        location: See `class_locations`.
    """
    known = wanted.isfinite()
    members = (target.unsqueeze(1) == torch.arange(len(wanted), device=target.device)) & known
    found = class_locations(values, members, location)
    squares = (found - torch.where(known, wanted, 0.0)).square()
    present = members.any(dim=0)
    return torch.where(present, squares, 0.0).sum() / present.sum().clamp_min(1)
