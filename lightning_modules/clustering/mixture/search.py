"""The stars that a search for clusters begins with, drawn from a training split (torch only)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lightning_modules.clustering.mixture.footprint import Grid
from lightning_modules.clustering.mixture.likelihood import Stars


class Batches(Protocol):
    """A datamodule that yields a whole split, in order, on every process."""

    def batches(self, split: str, keys: Sequence[str] | None = None) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of a split."""


class Sample(NamedTuple):
    """A random part of the training stars.

    Attributes:
        grid: The sky that all of them cover.
        stars: n of them.
        photometry: Of the stars, what was asked for, (n, c), or None.
    """

    grid: Grid
    stars: Stars
    photometry: Tensor | None

    @classmethod
    def draw(cls, data: Batches, count: int, seed: int, photometry: Sequence[str] = ()) -> "Sample":
        """Return a sample of a training split.

        Args:
            data: With `features`, `covariance` and `good` in its batches.
            count: Stars at most.
            seed: Fixes the draw.
            photometry: Further keys of the batches, one number a star.
        """
        blocks = data.batches("train", ["features"])
        position = torch.cat([block["features"][:, :2] for block in blocks]).double()
        order = torch.randperm(len(position), generator=torch.Generator().manual_seed(seed))
        wanted = torch.zeros(len(position), dtype=torch.bool)
        wanted[order[:count]] = True
        parts, extra, start = [], [], 0
        for block in data.batches("train", ["features", "covariance", "good", *photometry]):
            rows = wanted[start : start + len(block["features"])]
            own = (block[key][rows] for key in ("features", "covariance", "good"))
            parts.append(Stars.of_batch(*own))
            extra += (
                [torch.stack([block[key][rows] for key in photometry], 1)] if photometry else []
            )
            start += len(rows)
        stars = Stars(*(torch.cat(values) for values in zip(*parts, strict=True)))
        return cls(Grid.of_stars(position), stars, torch.cat(extra) if extra else None)
