"""Refits to resampled stars: the spread of parameters and memberships, whatever the model misses.

Torch and scipy only. The inverse information is right where the model is; a bootstrap asks the
stars themselves.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lightning_modules.clustering.mixture.coordinates import coordinates
from lightning_modules.clustering.mixture.footprint import Footprint
from lightning_modules.clustering.mixture.likelihood import OF_CLUSTERS, Parameters, Stars
from lightning_modules.clustering.mixture.scoring import LogPrior, climb

STEPS = 15
"""Of Fisher scoring in a refit, at most; it begins at the fit."""


def refit(
    fitted: Parameters,
    stars: Stars,
    odds: Tensor | None,
    footprint: Footprint,
    prior: LogPrior,
    count: int,
    seed: int,
) -> Tensor:
    """Return the coordinates of fits to stars drawn with replacement, (count, P).

    Args:
        fitted: To the stars as they are.
        stars: n of them.
        odds: Of their photometry, (n, K + F), held fixed.
        footprint: The sky that was looked at.
        prior: Log prior of parameters.
        count: Number of refits.
        seed: Fixes the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        rows = torch.randint(len(stars.motion), (len(stars.motion),), generator=generator)
        own = None if odds is None else odds[rows]
        again, _ = climb(fitted, stars.take(rows), footprint, prior, STEPS, odds=own)
        found.append(coordinates(aligned(again, fitted)))
    return torch.stack(found)


def aligned(parameters: Parameters, reference: Parameters) -> Parameters:
    """Return the clusters in the order of those of a reference, by place and motion (Hungarian).

    Args:
        parameters: Whose clusters may have changed places.
        reference: With as many clusters.
    """
    place = torch.cdist(reference.centre, parameters.centre) / reference.radius[:, None]
    motion = torch.cdist(reference.mean, parameters.mean) / reference.dispersion[:, None]
    order = torch.from_numpy(linear_sum_assignment((place + motion).numpy())[1])
    weight = torch.cat([parameters.weight[order], parameters.weight[len(order) :]])
    moved = {name: getattr(parameters, name)[order] for name in OF_CLUSTERS}
    return parameters._replace(weight=weight, **moved)
