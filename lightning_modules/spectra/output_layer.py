"""The layer onto the pixels, which costs most of a training step (torch only)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 256  # pixels; a block of the output stays in a core's cache until it is complete


def pixel_sum(
    straight: Tensor, straight_weight: Tensor, bias: Tensor, bent: Tensor, bent_weight: Tensor
) -> Tensor:
    """Return b + s Sᵀ + h Hᵀ, the sum of two linear layers onto the pixels, (B, P) float32.

    On CPUs computed in blocks of pixels, which stay in the cache. Under autocast the first layer
    stays in float32: it carries the spectrum, the second a correction.

    Args:
        straight: s, shape (B, K).
        straight_weight: S, shape (P, K).
        bias: b, shape (P,).
        bent: h, shape (B, H).
        bent_weight: H, shape (P, H).
    """
    device = straight.device.type
    if device == "cpu" and not torch.is_autocast_enabled(device):
        inputs = straight, straight_weight, bias, bent, bent_weight
        blocked: Tensor = _BlockedSum.apply(*inputs)
        return blocked
    correction = functional.linear(bent, bent_weight)
    with torch.autocast(device, enabled=False):
        return functional.linear(straight.float(), straight_weight, bias).add_(correction)


class _BlockedSum(torch.autograd.Function):
    """The sum, block by block."""

    @staticmethod
    def forward(
        ctx: Any, s: Tensor, straight_weight: Tensor, bias: Tensor, h: Tensor, bent_weight: Tensor
    ) -> Tensor:
        """Return the sum, shape (B, P)."""
        ctx.save_for_backward(s, straight_weight, h, bent_weight)
        y = s.new_empty(len(s), len(bias))
        blocks = (t.split(BLOCK) for t in (straight_weight, bias, bent_weight))
        for out, a, b, c in zip(y.split(BLOCK, dim=1), *blocks, strict=True):
            torch.addmm(b, s, a.mT, out=out)
            out.addmm_(h, c.mT)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the five inputs."""
        (slope,) = gradients
        s, straight_weight, h, bent_weight = ctx.saved_tensors
        rules = (
            lambda: slope @ straight_weight,
            lambda: slope.mT @ s,
            lambda: slope.sum(dim=0),
            lambda: slope @ bent_weight,
            lambda: slope.mT @ h,
        )
        return tuple(
            rule() if needed else None
            for rule, needed in zip(rules, ctx.needs_input_grad, strict=True)
        )
