"""Flux, inverse variance and usable pixels of spectra, read from a row store."""

from collections import Counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.lazy_arrays import LazyColumn
from datamodules.spectra.pixel_mask import PixelMaskPolicy, tally_pixels
from datamodules.store import RowStore

READ = ("pixel_mask", "flux", "flux_error")
PIXELS = {"flux": torch.float32, "flux_ivar": torch.float32, "good": torch.bool}
PIXEL_BYTES = 9
"""Memory of a pixel of a batch: two float32 and a bool."""

LEAST_ERROR = 1e-6
"""No error over the continuum is taken to be smaller, so that its inverse square is finite."""

BLOCK = 512
"""Spectra read at a time: 45 MB on the grid of 7514."""


class PixelReader:
    """Reads spectra and applies the policy of bad pixels and the floor of the errors.

    Args:
        store: The store.
        policy: Which pixels are bad.
        error_floor: Smallest error over the continuum.
    """

    def __init__(self, store: RowStore, policy: PixelMaskPolicy, error_floor: float) -> None:
        self.store = store
        self.policy = policy
        self.error_floor = np.float32(max(error_floor, LEAST_ERROR))
        self._last: tuple[Tensor, dict[str, Tensor]] | None = None

    def read(self, rows: slice | NDArray[np.int64]) -> dict[str, Tensor]:
        """Read `flux`, `flux_ivar` (0 where bad) and `good` of rows of the store, each (n, P)."""
        mask, flux, error = self.store.read(READ, rows).values()
        good = self.policy.good(mask, flux, error)
        floored = np.where(good, np.maximum(error, self.error_floor), np.inf)
        arrays = {"flux": flux, "flux_ivar": (1 / floored**2).astype(np.float32), "good": good}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def read_once(self, rows: Tensor) -> dict[str, Tensor]:
        """Read rows of the store, or give the last ones if they are asked for again."""
        if self._last is None or not torch.equal(self._last[0], rows):
            self._last = (rows, self.read(rows.numpy()))
        return self._last[1]

    def shares(self, rows: NDArray[np.int64]) -> dict[str, dict[str, float]]:
        """Say what share of the pixels each bit covers, over rows of the store."""
        total: Counter[int] = Counter()
        for first in range(0, len(rows), BLOCK):
            block = self.store.read(READ, rows[first : first + BLOCK])
            total += tally_pixels(*block.values())
        return self.policy.shares(total)


class PixelColumn(LazyColumn):
    """`flux`, `flux_ivar` or `good` of the rows that are kept, read when it is indexed.

    Args:
        reader: Reads all three at once; shared by them.
        name: Which of them.
        index: Rows of the store, (N,).
        num_pixels: P.
    """

    def __init__(self, reader: PixelReader, name: str, index: Tensor, num_pixels: int) -> None:
        self.reader = reader
        self.name = name
        self.index = index
        self.shape = (len(index), num_pixels)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.reader.read_once(self.index[rows])[self.name]


def load_pixels(
    reader: PixelReader, kept: NDArray[np.bool_], num_pixels: int, min_good: float, in_memory: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Load the spectra of the rows that are kept and have enough usable pixels.

    Args:
        reader: Reads the store.
        kept: Whether each row of the store passes the cuts, (N,).
        num_pixels: P.
        min_good: Smallest share of usable pixels; 0 keeps every row without looking.
        in_memory: Whether to hold the spectra, or to read them when they are asked for.

    Returns:
        Rows of the store, (n,), and `flux`, `flux_ivar` and `good`, each like a tensor (n, P).
    """
    index = torch.from_numpy(np.flatnonzero(kept))
    size = (len(index), num_pixels)
    held = {name: torch.empty(size, dtype=kind) for name, kind in PIXELS.items() if in_memory}
    if in_memory or min_good > 0:
        found, filled = [index[:0]], 0
        for first in range(0, len(kept), BLOCK):
            wanted = torch.tensor(kept[first : first + BLOCK])
            if wanted.any():
                block = reader.read(slice(first, first + BLOCK))
                wanted &= block["good"].double().mean(dim=1) >= min_good
                found.append(first + wanted.nonzero()[:, 0])
                last = filled + len(found[-1])
                for name, values in held.items():
                    values[filled:last] = block[name][wanted]
                filled = last
        index = torch.cat(found)
    if in_memory:
        return index, {name: values[: len(index)] for name, values in held.items()}
    return index, {k: PixelColumn(reader, k, index, num_pixels).as_tensor() for k in PIXELS}
