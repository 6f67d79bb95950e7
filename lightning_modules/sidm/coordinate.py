"""The coordinate of the cross-section that latent 0 is tied to (torch only)."""

import torch
from torch import Tensor, nn


class PaperCoordinate(nn.Module):
    """y = (log10 σ - log10 σ_min) / (log10 σ_max - log10 σ_min) over the known simulations.

    σ = 0 counts as `effective_cdm`, here alone. With one known value the denominator is 1.

    Reference: Tregidga et al. 2025 (arXiv:2511.09660).

    Args:
        effective_cdm: Cross-section in cm²/g that stands for that of cold dark matter.
    """

    lowest: Tensor
    span: Tensor

    def __init__(self, effective_cdm: float) -> None:
        super().__init__()
        if not effective_cdm > 0:
            raise ValueError(f"model.effective_cdm={effective_cdm} cm^2/g must be positive")
        self.effective_cdm = effective_cdm
        self.register_buffer("lowest", torch.tensor(effective_cdm).log10())
        self.register_buffer("span", torch.tensor(1.0))

    def assign(self, known: Tensor) -> None:
        """Take the range of the known cross-sections in cm²/g, shape (A,).

        Raises:
            ValueError: If one is not a cross-section, or is below that of cold dark matter.
        """
        if not len(known) or not (known.isfinite() & (known >= 0)).all():
            raise ValueError(
                f"known cross-sections {known.tolist()} cm^2/g must be one or more numbers >= 0"
            )
        positive = known[known > 0]
        if len(positive) < len(known) and (positive <= self.effective_cdm).any():
            raise ValueError(
                f"model.effective_cdm={self.effective_cdm} cm^2/g must be below the smallest known "
                f"cross-section, {float(positive.min()):.3g}; lower it"
            )
        logs = self._log(known)
        self.lowest.copy_(logs.min())
        span = logs.max() - logs.min()
        self.span.copy_(torch.where(span > 0, span, 1.0))

    def forward(self, cross_section: Tensor) -> Tensor:
        """Return y of cross-sections in cm²/g; NaN stays NaN."""
        return (self._log(cross_section) - self.lowest) / self.span

    def inverse(self, y: Tensor) -> Tensor:
        """Return cross-sections in cm²/g."""
        return 10 ** (self.lowest + self.span * y)

    def _log(self, cross_section: Tensor) -> Tensor:
        """Return log10 with the effective value for 0."""
        return torch.where(cross_section == 0, self.effective_cdm, cross_section).log10()
