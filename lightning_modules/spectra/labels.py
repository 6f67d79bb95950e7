"""Labels injected into encoder and decoder: units, errors, missing ones (torch only)."""

import torch
from torch import Tensor, nn

MOST_QUADRATIC = 8  # labels; with more, products of labels outnumber what the warm start can solve


class LabelScaling(nn.Module):
    """Maps physical labels to u = (label - mean) / std; a missing label gets a learned default.

    Args:
        num_labels: L, may be 0.
        learned_default: Whether the default is learned; else it is the mean, u = 0.
    """

    label_mean: Tensor
    label_std: Tensor

    def __init__(self, num_labels: int, learned_default: bool = True) -> None:
        super().__init__()
        self.register_buffer("label_mean", torch.zeros(num_labels))
        self.register_buffer("label_std", torch.ones(num_labels))
        self.default: Tensor
        if learned_default and num_labels:
            self.default = nn.Parameter(torch.zeros(num_labels))
        else:
            self.register_buffer("default", torch.zeros(num_labels))

    def assign(self, mean: Tensor, std: Tensor) -> None:
        """Take mean and standard deviation of each label, (L,); a constant label gets std 1.

        Raises:
            ValueError: If they are not finite.
        """
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise ValueError(
                f"label_mean {mean.tolist()} and label_std {std.tolist()} of the training "
                "statistics must be finite; leave out labels that no training star has"
            )
        self.label_mean.copy_(mean)
        self.label_std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return u with defaults and which labels are missing, both (..., L)."""
        missing = ~torch.isfinite(label)
        u = (label.float() - self.label_mean) / self.label_std
        return torch.where(missing, self.default, u), missing

    def draw(self, label: Tensor, label_error: Tensor, noise: float, dropout: float) -> Tensor:
        """Return labels re-sampled within their errors, each lost (NaN) by a chance.

        Args:
            label: Physical, shape (B, L), NaN if missing.
            label_error: σ in the same units; 0, NaN or inf draws the label itself.
            noise: Factor of the errors.
            dropout: Probability that a star loses all its labels.
        """
        known = label_error.nan_to_num(0.0, posinf=0.0)
        drawn = label + noise * known * torch.randn_like(label_error)
        if not dropout:
            return drawn
        lost = torch.rand(len(label), 1, device=label.device) < dropout
        return torch.where(lost, torch.nan, drawn)

    def physical(self, u: Tensor) -> Tensor:
        """Return labels in physical units, shape (..., L)."""
        return u * self.label_std + self.label_mean


def monomials(u: Tensor) -> Tensor:
    """Return φ(u): all u_i and, of at most 8 labels, all products u_i u_j with i ≤ j.

    The terms of a quadratic label-to-flux model (The Cannon: Ness et al. 2015, ApJ 808, 16).

    Args:
        u: Shape (B, L).

    Returns:
        Shape (B, F).
    """
    size = u.shape[1]
    if size > MOST_QUADRATIC:
        return u
    i, j = torch.triu_indices(size, size, device=u.device)
    return torch.cat([u, u[:, i] * u[:, j]], dim=1)
