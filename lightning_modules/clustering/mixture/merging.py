"""Which components are one cluster: its core and its badly measured members (torch only).

Members in a crowded core have worse errors than stated; a component of their own, at the same
centre and motion but with a large dispersion, passes the penalty of a new cluster.
"""

import torch
from torch import Tensor

from lightning_modules.clustering.mixture.likelihood import Parameters


def overlapping(parameters: Parameters) -> Tensor:
    """Return which pairs of components share centre and motion, (K, K) bool.

    Their centres differ by less than half of the larger scale radius, and their mean proper motions
    by less than the sum of their dispersions.
    """
    apart = torch.cdist(parameters.centre, parameters.centre)
    larger = torch.maximum(parameters.radius[:, None], parameters.radius)
    motion = parameters.mean[:, 1:]
    spread = parameters.dispersion[:, None] + parameters.dispersion
    return (apart < 0.5 * larger) & (torch.cdist(motion, motion) < spread)


def cores(parameters: Parameters) -> Tensor:
    """Return for each component that of least dispersion among those it overlaps, itself too, (K,).

    A component that is its own core is a cluster; any other is the astrometric tail of one.
    """
    found = torch.arange(parameters.num_clusters)
    same = overlapping(parameters)
    for k in parameters.dispersion.argsort(descending=True).tolist():
        where = torch.where(same[k])[0]
        found[k] = where[parameters.dispersion[where].argmin()]
    for _ in range(parameters.num_clusters):  # the core of a core
        found = found[found]
    return found
