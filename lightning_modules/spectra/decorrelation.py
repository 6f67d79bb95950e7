"""The linear trend of latents with labels, to be taken from the latents (torch only).

Latents are free up to a function of the labels: the decoder knows the labels, so z and z + f(u)
carry the same spectra. The trend is what makes them uncorrelated with the labels.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_modules.spectra.moments import moments_of

STARS_PER_COLUMN = 2


@torch.no_grad()
def label_trend(stars: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Tensor | None:
    """Return the regression of latents on [1, u], shape (1 + L, D), or None for too few stars.

    Args:
        stars: Parts of labels u (B, L), latents (B, D), and which stars count, bool (B,).
    """
    total: Tensor | None = None
    size = 0
    for u, latent, counts in stars:
        moments = moments_of(torch.cat([u, latent], dim=1), counts)
        total, size = moments if total is None else total + moments, 1 + u.shape[1]
    if total is None or total[0, 0] < STARS_PER_COLUMN * len(total):
        return None
    return torch.linalg.lstsq(total[:size, :size], total[:size, size:]).solution.float()
