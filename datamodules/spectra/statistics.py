"""What a model of spectra is scaled by, of the training spectra alone."""

from collections.abc import Iterable

import torch
from torch import Tensor

NOISE_ROWS = 2048
"""Training spectra whose errors give the typical noise of each pixel."""


def pixel_moments(batches: Iterable[dict[str, Tensor]], num_pixels: int) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the flux in each pixel, over usable pixels.

    Sums are of flux - 1 in float64, in one pass. A pixel that is hardly ever usable (fewer than
    two spectra) or constant has the mean 1 or its value, and the median deviation of the others.

    Args:
        batches: With `flux` and `good`, each (B, P).
        num_pixels: P.

    Returns:
        Mean and deviation, each (P,) float32, the deviation positive.
    """
    count, first, second = torch.zeros(3, num_pixels, dtype=torch.float64)
    for batch in batches:
        good = batch["good"]
        above = torch.where(good, batch["flux"].double() - 1, 0)
        count += good.sum(dim=0)
        first += above.sum(dim=0)
        second += above.square().sum(dim=0)
    mean = first / count.clamp(min=1)
    variance = (second / count.clamp(min=1) - mean.square()).clamp(min=0)
    scale = (variance * count / (count - 1).clamp(min=1)).sqrt()
    usable = (count >= 2) & (scale > 0)
    typical = scale[usable].median() if usable.any() else torch.ones((), dtype=torch.float64)
    return (1 + mean).float(), torch.where(usable, scale, typical).float()


def pixel_noise(batches: Iterable[dict[str, Tensor]]) -> Tensor:
    """Return the median error of each pixel over usable pixels.

    Args:
        batches: With `flux_ivar`, (B, P).

    Returns:
        Shape (P,) float32; of pixels that are never usable, the median of the others.
    """
    ivar = torch.cat([batch["flux_ivar"] for batch in batches])
    error = torch.where(ivar > 0, ivar.rsqrt(), torch.nan).nanmedian(dim=0).values
    typical = error.nanmedian()
    return torch.where(error.isnan(), typical if typical.isfinite() else torch.tensor(1.0), error)
