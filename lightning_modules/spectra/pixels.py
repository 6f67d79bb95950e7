"""Pixels of spectra in standard units; pixels that are not good are gone (torch only)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

BLOCK = 32  # spectra


class PixelScaling(nn.Module):
    """Maps flux to x = (flux - mean) / scale pixel by pixel, and inverse variances with it.

    The statistics are buffers, so they travel in the checkpoint.

    Args:
        num_pixels: Length of a spectrum.
    """

    flux_mean: Tensor
    flux_scale: Tensor

    def __init__(self, num_pixels: int) -> None:
        super().__init__()
        self.register_buffer("flux_mean", torch.ones(num_pixels))
        self.register_buffer("flux_scale", torch.ones(num_pixels))

    def assign(self, mean: Tensor, scale: Tensor) -> None:
        """Take mean and standard deviation of each pixel, each of shape (P,).

        Raises:
            ValueError: If they are not finite or a scale is not positive.
        """
        broken = ~(mean.isfinite() & scale.isfinite() & (scale > 0))
        if broken.any():
            raise ValueError(
                f"flux_mean and flux_scale of the training statistics must be finite and the scale "
                f"positive; pixels {torch.where(broken)[0][:5].tolist()} are not"
            )
        self.flux_mean.copy_(mean)
        self.flux_scale.copy_(scale)

    @torch.no_grad()
    def standardise(self, flux: Tensor, flux_ivar: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and its inverse variance, both (B, P) float32 and 0 where not good.

        Whatever pixels hold that are not good (NaN too) leaves no trace.
        """
        x, weight = (torch.empty(flux.shape, device=flux.device) for _ in range(2))
        inverse, squared = self.flux_scale.reciprocal(), self.flux_scale.square()
        for block in row_blocks(x, weight, flux.float(), flux_ivar.float(), good):
            own_x, own_weight, own_flux, own_ivar, own_good = block
            torch.sub(own_flux, self.flux_mean, out=own_x).mul_(inverse)
            torch.mul(own_ivar, squared, out=own_weight)
            keep(own_x, own_weight, own_good)
        return x, weight

    def flux(self, x: Tensor) -> Tensor:
        """Return the flux of standardised values, shape (B, P)."""
        return torch.addcmul(self.flux_mean, x.float(), self.flux_scale)


def row_blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the tensors block of rows by block: on CPUs what one block needs stays in the cache.

    Args:
        tensors: All with the same first axis. Elsewhere they come whole.
    """
    size = BLOCK if tensors[0].device.type == "cpu" else max(len(tensors[0]), 1)
    yield from zip(*(tensor.split(size) for tensor in tensors), strict=True)


def keep(x: Tensor, weight: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
    """Set both to 0, in place, where not good; the same as `where(good, x, 0)`.

    Clears the bits of the numbers by an integer mask: on CPUs faster than `where`
    and `masked_fill`, which with spectra cost as much as a layer of the network.

    Args:
        x: Shape (B, P), float32.
        weight: Shape (B, P), float32.
        good: Shape (B, P), bool.
    """
    bits = good.to(torch.int32).neg_()  # all bits set where good, none elsewhere
    x.view(torch.int32).bitwise_and_(bits)
    weight.view(torch.int32).bitwise_and_(bits)
    return x, weight
