"""Which components are one cluster: its core and its badly measured members (torch only).

Members in a crowded core have worse errors than stated; a component of their own, at the same
centre and motion but with a large dispersion, passes the penalty of a new cluster.
"""

import torch
from torch import Tensor

from lightning_modules.clustering.mixture.likelihood import Parameters

ALIKE = 3.0
"""Errors by which two mean motions may differ beyond their dispersions and be the same."""


def overlapping(parameters: Parameters, error: Tensor) -> Tensor:
    """Return which pairs of components share centre and motion, (K, K) bool.

    Their centres differ by less than half of the larger scale radius, and their mean proper motions
    by less than the sum of their dispersions and three errors of the difference.

    Args:
        parameters: Of the mixture.
        error: Of each mean proper motion in mas/yr, (K,).
    """
    apart = torch.cdist(parameters.centre, parameters.centre)
    larger = torch.maximum(parameters.radius[:, None], parameters.radius)
    motion = parameters.mean[:, 1:]
    spread = parameters.dispersion[:, None] + parameters.dispersion
    spread = spread + ALIKE * torch.hypot(error[:, None], error)
    return (apart < 0.5 * larger) & (torch.cdist(motion, motion) < spread)


def cores(parameters: Parameters, error: Tensor) -> Tensor:
    """Return for each component that of least dispersion among those it overlaps, itself too, (K,).

    A component that is its own core is a cluster; any other is the astrometric tail of one.

    Args:
        parameters: Of the mixture.
        error: Of each mean proper motion in mas/yr, (K,).
    """
    found = torch.arange(parameters.num_clusters, device=parameters.dispersion.device)
    same = overlapping(parameters, error)
    for k in parameters.dispersion.argsort(descending=True).tolist():
        where = torch.where(same[k])[0]
        found[k] = where[parameters.dispersion[where].argmin()]
    for _ in range(parameters.num_clusters):  # the core of a core
        found = found[found]
    return found
