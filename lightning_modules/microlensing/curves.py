"""What a network sees of a light curve: kept epochs, their features, tokens of epochs (torch only).

An epoch that was not kept leaves no trace: kept epochs are moved together, and only the time since
the kept epoch before tells of the gap. Everything here is causal: nothing about an epoch depends on
later ones. The batch forward and the stream call the same functions.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NUM_FEATURES = 5
"""Numbers about an epoch; see `epoch_features`."""

NUM_SUMMARIES = 3 * NUM_FEATURES + 1
"""Numbers about a token; see `running_summaries`."""

SHORTEST_GAP = 1e-4
"""Days; epochs closer than this count as this far apart."""


class KeptEpochs(NamedTuple):
    """Kept epochs of a batch of light curves, moved together; zero from `num_epochs` on.

    Attributes:
        flux: Over the reference flux, shape (B, N).
        flux_error: Likewise, shape (B, N).
        gap: Days since the kept epoch before, 1 for the first, shape (B, N).
        num_epochs: Kept epochs of each curve, shape (B,) int64.
    """

    flux: Tensor
    flux_error: Tensor
    gap: Tensor
    num_epochs: Tensor

    @property
    def valid(self) -> Tensor:
        """Which entries are epochs, shape (B, N) bool."""
        numbers = torch.arange(self.flux.shape[1], device=self.flux.device)
        return numbers < self.num_epochs[:, None]


def keep_epochs(flux: Tensor, flux_error: Tensor, time: Tensor, good: Tensor) -> KeptEpochs:
    """Move the kept epochs of each curve together.

    Args:
        flux: Over the reference flux, shape (B, T).
        flux_error: Likewise, shape (B, T).
        time: Days, increasing over kept epochs, shape (B, T) float64.
        good: Epochs to keep, shape (B, T) bool.
    """
    num_epochs = good.sum(dim=1)
    length = max(1, int(num_epochs.max()))
    rows, columns = good.nonzero(as_tuple=True)
    places = good.cumsum(dim=1)[rows, columns] - 1

    def moved(values: Tensor) -> Tensor:
        packed = values.new_zeros(len(values), length)
        packed[rows, places] = values[rows, columns]
        return packed

    days = moved(time)
    gap = torch.cat([torch.ones_like(days[:, :1]), days.diff(dim=1)], dim=1)
    return KeptEpochs(moved(flux), moved(flux_error), gap.to(flux.dtype), num_epochs)


def spread_epochs(values: Tensor, good: Tensor) -> Tensor:
    """Put values of kept epochs back on the grid of times; NaN where `good` is False.

    Args:
        values: Shape (B, N, C), as packed by `keep_epochs`.
        good: Shape (B, T) bool.

    Returns:
        Shape (B, T, C).
    """
    rows, columns = good.nonzero(as_tuple=True)
    places = good.cumsum(dim=1)[rows, columns] - 1
    spread = values.new_full((*good.shape, values.shape[-1]), torch.nan)
    spread[rows, columns] = values[rows, places]
    return spread


def epoch_features(
    flux: Tensor, flux_error: Tensor, gap: Tensor, flux_before: Tensor, error_before: Tensor
) -> Tensor:
    """Return what the network knows of an epoch, from it and the kept epoch before.

    With d = flux - 1, the deviation from the reference, and sigma the error of the flux, these are
    asinh(d), which is ln(2 d) for strong magnification; asinh(d / sigma); the change since the
    epoch before in units of its error, also through asinh; log10 sigma + 1; and log10 of the days
    since the epoch before.

    Args:
        flux: Over the reference flux, shape (...).
        flux_error: Likewise.
        gap: Days since the kept epoch before.
        flux_before: Flux of that epoch; of the first epoch, its own.
        error_before: Error of that epoch; of the first epoch, its own.

    Returns:
        Shape (..., NUM_FEATURES).
    """
    deviation = flux - 1
    error = flux_error.clamp_min(torch.finfo(flux.dtype).tiny)
    change = (flux - flux_before) / torch.hypot(error, error_before)
    return torch.stack(
        [
            deviation.asinh(),
            (deviation / error).asinh(),
            change.asinh(),
            error.clamp_min(1e-6).log10() + 1,
            gap.clamp_min(SHORTEST_GAP).log10(),
        ],
        dim=-1,
    )


def curve_features(epochs: KeptEpochs) -> Tensor:
    """Return the features of every kept epoch, shape (B, N, NUM_FEATURES), zero beyond the last."""
    flux, error, gap, _ = epochs
    before = [torch.cat([x[:, :1], x[:, :-1]], dim=1) for x in (flux, error)]
    features = epoch_features(flux, error, gap, *before)
    return torch.where(epochs.valid.unsqueeze(-1), features, 0.0)


def running_summaries(features: Tensor) -> Tensor:
    """Summarise the first 1, 2, ..., k epochs of a token: what is known while it fills.

    A summary is the mean, the lowest and the highest of each feature, so that a spike of one epoch
    survives, and the share of the token that is filled. The last of the k is that of the full
    token.

    Args:
        features: Shape (..., k, NUM_FEATURES).

    Returns:
        Shape (..., k, NUM_SUMMARIES).
    """
    mean, low, high = [features[..., 0, :]], [features[..., 0, :]], [features[..., 0, :]]
    size = features.shape[-2]
    for number in range(1, size):
        now = features[..., number, :]
        mean.append(mean[-1] + (now - mean[-1]) / (number + 1))
        low.append(torch.minimum(low[-1], now))
        high.append(torch.maximum(high[-1], now))
    share = torch.arange(1, size + 1, dtype=features.dtype, device=features.device) / size
    share = share.unsqueeze(-1).expand(*features.shape[:-1], 1)
    return torch.cat([*(torch.stack(x, dim=-2) for x in (mean, low, high)), share], dim=-1)
