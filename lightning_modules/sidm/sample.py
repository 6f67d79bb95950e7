"""What an evaluation collects: terms of mixed groups, and reference latents (no Lightning)."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

Rows = tuple[Tensor, Tensor]
"""Numbers of each row, float32 (N, K), and its codes, int64 (N, 4)."""
TARGET, TAKES_PART, INDEX, HALO = range(4)
"""Columns of the codes: class or -1, 0 or 1, row of the store, halo."""
GROUP = 120
"""Rows of a group, the batch of the paper."""


class EvaluationSample(Metric):
    """Collects the rows of an evaluation, over batches and processes."""

    full_state_update = False
    numbers: list[Tensor]
    codes: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("numbers", "codes"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, numbers: Tensor, codes: Tensor) -> None:
        """Add the rows that take part in the loss.

        Args:
            numbers: Shape (B, K).
            codes: Shape (B, 4).
        """
        rows = codes[:, TAKES_PART] > 0
        self.numbers.append(numbers[rows].detach())
        self.codes.append(codes[rows])

    def compute(self) -> Rows:
        """Return all rows in the order of the index, whatever process had them."""
        numbers, codes = dim_zero_cat(self.numbers), dim_zero_cat(self.codes)
        order = codes[:, INDEX].argsort(stable=True)
        return numbers[order], codes[order]


def mixed_groups(rows: Rows) -> Iterator[Rows]:
    """Yield groups of about `GROUP` rows, each dealt from the whole.

    An evaluation's batches are in the order of the store, often of one simulation each, where
    terms that compare classes mean little.

    Args:
        rows: In the order of the index.
    """
    count = max(1, -(-len(rows[0]) // GROUP))
    for first in range(count):
        yield rows[0][first::count], rows[1][first::count]


def fill_reference(table: Tensor, halo: Tensor, known: Tensor, rows: Rows) -> None:
    """Put rows of known classes into tables, evenly spaced by index where too many.

    Args:
        table: Filled with NaN beside the rows found, shape (C, R, K).
        halo: Likewise with -1, which may also be a halo's number, shape (C, R).
        known: Which classes are wanted, shape (C,) bool.
        rows: Numbers, shape (N, K), in the order of the index, and codes.
    """
    table.fill_(torch.nan)
    halo.fill_(-1)
    for number in torch.where(known)[0].tolist():
        own = torch.where(rows[1][:, TARGET] == number)[0]
        size = min(len(own), halo.shape[1])
        own = own[torch.arange(size, device=own.device) * len(own) // max(size, 1)]
        table[number, :size] = rows[0][own]
        halo[number, :size] = rows[1][own, HALO]
