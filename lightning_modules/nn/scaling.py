"""Scaling of physical features by robust statistics kept as buffers."""

import torch
from torch import Tensor, nn

MAD_TO_SIGMA = 1.4826  # of a Gaussian


def robust_statistics(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return median and scale of each column, ignoring NaN.

    The scale is 1.4826 times the median absolute deviation, which is σ for a Gaussian; a column
    without spread gets 1.

    Args:
        values: Table, shape (num_rows, num_features).

    Returns:
        Location and scale, each of shape (num_features,).

    Raises:
        ValueError: If a column holds no finite number.
    """
    finite = torch.where(torch.isfinite(values), values, torch.nan)
    location = finite.nanmedian(dim=0).values
    if not torch.isfinite(location).all():
        empty = torch.where(~torch.isfinite(location))[0].tolist()
        raise ValueError(f"columns {empty} have no finite value to scale by; leave them out")
    scale = MAD_TO_SIGMA * (finite - location).abs().nanmedian(dim=0).values
    return location, torch.where(scale > 0, scale, torch.ones_like(scale))


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

    def fit(self, values: Tensor) -> None:
        """Take median and robust scale of a table, shape (num_rows, num_features)."""
        self.assign(*robust_statistics(values))

    def assign(self, location: Tensor, scale: Tensor) -> None:
        """Take given statistics, each of shape (num_features,).

        Raises:
            ValueError: If they are not finite or a scale is not positive.
        """
        if not (torch.isfinite(location).all() and torch.isfinite(scale).all()):
            raise ValueError(
                f"location {location} and scale {scale} of the features must be finite"
            )
        if (scale <= 0).any():
            raise ValueError(f"the scale of every feature must be positive, got {scale.tolist()}")
        self.location.copy_(location)
        self.scale.copy_(scale)

    def forward(self, values: Tensor) -> Tensor:
        """Return scaled values; the last axis is the features."""
        scaled = (values - self.location) / self.scale
        return scaled.asinh() if self.asinh else scaled

    def inverse(self, scaled: Tensor) -> Tensor:
        """Return physical values of scaled ones."""
        scaled = scaled.sinh() if self.asinh else scaled
        return scaled * self.scale + self.location
