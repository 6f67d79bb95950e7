"""Likelihoods of the spectra VAE, in nats a star (torch only)."""

from typing import Any

import torch
from torch import Tensor

from lightning_modules.spectra.pixels import row_blocks


def negative_log_likelihood(reconstruction: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return -log p(x | z) = 1/2 Σ_p w_p (x_p - y_p)², less the noise's own constant, shape (B,).

    Args:
        reconstruction: y, shape (B, P).
        x: Standardised flux, finite everywhere, shape (B, P).
        weight: w, its inverse variance, 0 where a pixel does not count, shape (B, P).
    """
    with torch.autocast(x.device.type, enabled=False):
        nll: Tensor = _GaussianNLL.apply(reconstruction.float(), x, weight)
    return nll


def scattered_negative_log_likelihood(
    reconstruction: Tensor, x: Tensor, weight: Tensor, log_scatter: Tensor
) -> Tensor:
    """Return -log p(x | z) with intrinsic scatter S_p added to each pixel's error, shape (B,).

    1/2 Σ_p [(x_p - y_p)² / (s_p² + S_p²) + log(s_p² + S_p²) - log s_p²]. The last term does not
    depend on the model; without scatter this is `negative_log_likelihood`. The intrinsic variance
    of The Cannon (Ness et al. 2015, ApJ 808, 16, eq. 5).

    Args:
        reconstruction: y, shape (B, P).
        x: Standardised flux, shape (B, P).
        weight: w = 1 / s², 0 where a pixel does not count, shape (B, P).
        log_scatter: log S in standard units, shape (P,).
    """
    excess = weight * (2.0 * log_scatter.float()).exp()  # S² / s²
    squared = (x - reconstruction.float()).square()
    return 0.5 * (squared * weight / (1.0 + excess) + excess.log1p()).sum(dim=1)


def with_scatter(weight: Tensor, log_scatter: Tensor) -> Tensor:
    """Return the inverse variance 1 / (s² + S²), shape (B, P), without gradient."""
    return weight / (weight * (2.0 * log_scatter.detach().float()).exp()).add_(1.0)


class _GaussianNLL(torch.autograd.Function):
    """1/2 Σ_p w (y - x)² with one (B, P) array kept for the gradient, w (y - x)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Return the sum, shape (B,)."""
        slope, total = torch.empty_like(x), x.new_empty(len(x))
        for own_slope, own_total, own_y, own_x, own_weight in row_blocks(
            slope, total, y, x, weight
        ):
            difference = own_y - own_x
            torch.mul(own_weight, difference, out=own_slope)
            torch.linalg.vecdot(own_slope, difference, out=own_total)
        ctx.save_for_backward(slope)
        return total.mul_(0.5)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of y."""
        (slope,) = ctx.saved_tensors
        return slope * gradients[0].unsqueeze(1), None, None
