"""First and second moments of rows: of a batch, running, of a population (torch only)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

STARS_PER_COLUMN = 2  # that a regression needs


def moments_of(rows: Tensor, counts: Tensor) -> Tensor:
    """Return Σ t tᵀ with t = [1, row] over the rows that count, float64, shape (1 + K, 1 + K).

    Sums of such matrices are the moments of the union. Differentiable.

    Args:
        rows: Shape (B, K), finite.
        counts: Which count, bool, shape (B,).
    """
    rows = rows.double()
    extended = torch.cat([torch.ones_like(rows[:, :1]), rows], dim=1)
    return (extended * counts.unsqueeze(1)).mT @ extended


def covariance_of(moments: Tensor) -> Tensor:
    """Return the unbiased covariance, shape (K, K); zeros without rows."""
    count = moments[0, 0].detach()
    mean = moments[0, 1:] / count.clamp_min(1.0)
    centred = moments[1:, 1:] - count * mean * mean.unsqueeze(1)
    return centred / (count - 1.0).clamp_min(1.0)


@torch.no_grad()
def label_trend(stars: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Tensor | None:
    """Return the regression of latents on [1, u], shape (1 + L, D), or None for too few stars.

    Latents are free up to a function of the labels: the decoder knows the labels, so z and z + f(u)
    carry the same spectra. The trend is what makes them uncorrelated with the labels.

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


class RunningMoments(nn.Module):
    """Moments that decay from step to step; buffers, so that they travel in the checkpoint.

    Args:
        size: K.
        momentum: Share of the past kept at each step; 0 forgets it.
    """

    total: Tensor
    squared_count: Tensor

    def __init__(self, size: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        zeros = torch.zeros(1 + size, 1 + size, dtype=torch.float64)
        self.register_buffer("total", zeros)
        self.register_buffer("squared_count", torch.zeros((), dtype=torch.float64))

    def forward(self, moments: Tensor) -> tuple[Tensor, Tensor]:
        """Add a batch; return moments with its gradient, and the effective number of rows.

        The gradient is that of the batch's own means, at full size whatever the momentum. The
        effective number is (Σ weights)² / Σ weights² (Kish 1965).
        """
        batch = moments.detach()
        self.total.mul_(self.momentum).add_(batch)
        self.squared_count.mul_(self.momentum**2).add_(batch[0, 0])
        count = self.total[0, 0]
        number = count.square() / self.squared_count.clamp_min(1.0)
        slope = (moments - batch) * (count / batch[0, 0].clamp_min(1.0))
        return self.total + slope, number  # a copy: the buffer changes at the next step


class Population(nn.Module):
    """Mean and covariance of rows, collected batch by batch, then fitted; buffers.

    Args:
        size: K.
    """

    mean: Tensor
    covariance: Tensor
    fitted: Tensor
    total: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("covariance", torch.eye(size))
        self.register_buffer("fitted", torch.tensor(False))
        zeros = torch.zeros(1 + size, 1 + size, dtype=torch.float64)
        self.register_buffer("total", zeros)

    def reset(self) -> None:
        """Forget what was collected."""
        self.total.zero_()

    def update(self, moments: Tensor) -> None:
        """Collect `moments_of` a batch, over all processes: DDP overwrites buffers by rank 0's."""
        self.total.add_(moments)

    def fit(self) -> None:
        """Take mean and covariance from what was collected; of fewer than two rows, keep the old.

        Covariances between columns are shrunk by N / (N + K), so that few rows do for many columns.
        """
        count = self.total[0, 0]
        if count < 2:
            return
        covariance = covariance_of(self.total)
        diagonal = torch.diag(covariance.diagonal())
        share = count / (count + len(diagonal))
        self.mean.copy_(self.total[0, 1:] / count)
        self.covariance.copy_(diagonal + share * (covariance - diagonal))
        self.fitted.fill_(True)
