"""A few maps of each simulation, kept for figures."""

from collections.abc import Mapping

import torch
from torch import Tensor

from callbacks.report.base import SPLITS
from callbacks.sidm.populations import Array

NUM_EXAMPLES = 6


class ExampleMaps:
    """Keeps the first held-out maps of each simulation that this process sees.

    Args:
        most: Maps of a simulation.
    """

    def __init__(self, most: int = NUM_EXAMPLES) -> None:
        self.most = most
        self._kept: dict[int, dict[str, Tensor]] = {}

    def add(self, batch: Mapping[str, Tensor]) -> None:
        """Keep maps of a batch, as the datamodule documents it, while there is room."""
        code = batch["simulation"]
        held_out = (
            batch.get("split", torch.full_like(code, SPLITS["held_out"])) == SPLITS["held_out"]
        )
        for number in code[held_out].unique().tolist():
            kept = self._kept.get(number, {})
            room = self.most - len(kept.get("map", ()))
            rows = torch.where(held_out & (code == number))[0][:room]
            new = {key: batch[key][rows].cpu() for key in ("map", "good")}
            self._kept[number] = {k: torch.cat([kept[k], x]) if kept else x for k, x in new.items()}

    def of(self, code: int) -> tuple[Array, Array]:
        """Return maps (n, C, H, W) and good pixels (n, H, W) of a simulation.

        Raises:
            KeyError: If none of its maps has been seen.
        """
        kept = self._kept[code]
        return kept["map"].numpy(), kept["good"].numpy()
