"""Scaling of physical features by statistics kept as buffers."""

import torch
from torch import Tensor, nn


class RobustScaler(nn.Module):
    """Maps physical features to u = (x - location) / scale, or to asinh u.

    asinh is linear in the core and logarithmic in the tails, so that a few outliers do not
    dominate a squared error (Lupton et al. 1999, AJ 118, 1406, for magnitudes). The statistics are
    buffers, so they travel in the checkpoint. NaN stays NaN.

    Args:
        num_features: Length of the feature axis.
        asinh: Whether to compress the tails.
    """

    location: Tensor
    scale: Tensor

    def __init__(self, num_features: int, asinh: bool = False) -> None:
        super().__init__()
        self.asinh = asinh
        self.register_buffer("location", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))

    def assign(self, location: Tensor, scale: Tensor) -> None:
        """Take given statistics, each of shape (num_features,).

        Raises:
            ValueError: If they are not finite or a scale is not positive.
        """
        if not torch.isfinite(torch.stack([location, scale])).all():
            raise ValueError(f"location {location} and scale {scale} of features must be finite")
        if (scale <= 0).any():
            raise ValueError(f"the scale of every feature must be positive, got {scale.tolist()}")
        self.location.copy_(location)
        self.scale.copy_(scale)

    def forward(self, values: Tensor) -> Tensor:
        """Return scaled values; the last axis is the features."""
        scaled = (values - self.location) / self.scale
        return scaled.asinh() if self.asinh else scaled

    def slope(self, values: Tensor) -> Tensor:
        """Return the derivative of scaled by physical values, which scales small errors."""
        scaled = (values - self.location) / self.scale
        return (
            torch.rsqrt(1.0 + scaled.square()) if self.asinh else torch.ones_like(scaled)
        ) / self.scale

    def inverse(self, scaled: Tensor) -> Tensor:
        """Return physical values of scaled ones."""
        scaled = scaled.sinh() if self.asinh else scaled
        return scaled * self.scale + self.location
