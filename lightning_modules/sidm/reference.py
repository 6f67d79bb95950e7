"""Latents of validation maps that a checkpoint keeps, to measure new maps (no Lightning)."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat


class ReferenceSample(Metric):
    """Collects latents of rows with a class, over batches and processes."""

    full_state_update = False
    latent: list[Tensor]
    numbers: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("latent", "numbers"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, latent: Tensor, target: Tensor, index: Tensor, halo: Tensor) -> None:
        """Add the rows that have a class.

        Args:
            latent: Shape (B, Z).
            target: Class or -1, shape (B,).
            index: Row number, shape (B,).
            halo: Shape (B,).
        """
        rows = target >= 0
        self.latent.append(latent[rows].detach())
        self.numbers.append(torch.stack([target, index, halo], dim=1)[rows])

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return latents (M, Z), and class, index and halo (M, 3)."""
        return dim_zero_cat(self.latent), dim_zero_cat(self.numbers)

    def fill(self, latent: Tensor, halo: Tensor, known: Tensor) -> None:
        """Put the rows of known classes into tables, a fixed choice of them where too many.

        Args:
            latent: Filled with NaN beside the rows found, shape (C, R, Z).
            halo: Likewise with -1, shape (C, R).
            known: Which classes are wanted, shape (C,) bool.
        """
        latents, numbers = self.compute()
        latent.fill_(torch.nan)
        halo.fill_(-1)
        for number in torch.where(known)[0].tolist():
            rows = chosen_rows(numbers, number, halo.shape[1])
            latent[number, : len(rows)] = latents[rows]
            halo[number, : len(rows)] = numbers[rows, 2]


def chosen_rows(numbers: Tensor, class_number: int, most: int) -> Tensor:
    """Return the rows of a class, in the order of the index, evenly spaced if too many.

    Args:
        numbers: Class, index and halo, shape (M, 3).
        class_number: Which class.
        most: Rows returned at most.
    """
    rows = torch.where(numbers[:, 0] == class_number)[0]
    rows = rows[numbers[rows, 1].argsort()]
    count = min(most, len(rows))
    return rows[torch.arange(count, device=rows.device) * len(rows) // max(count, 1)]
