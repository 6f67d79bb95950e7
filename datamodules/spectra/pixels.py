"""Flux, inverse variance and usable pixels of spectra, read from a row store."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.lazy_arrays import LazyColumn
from datamodules.spectra.pixel_mask import MaskTally, PixelMaskPolicy
from datamodules.store import RowStore

READ = ("flux", "flux_error", "pixel_mask")
PIXELS = ("flux", "flux_ivar", "good")
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
        raw = self.store.read(READ, rows)
        flux, error = raw["flux"], raw["flux_error"]
        good = self.policy.good(raw["pixel_mask"], flux, error)
        floored = np.where(good, np.maximum(error, self.error_floor), np.inf)
        arrays = {"flux": flux, "flux_ivar": (1 / floored**2).astype(np.float32), "good": good}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def read_once(self, rows: Tensor) -> dict[str, Tensor]:
        """Read rows of the store, or give the last ones if they are asked for again."""
        if self._last is None or not torch.equal(self._last[0], rows):
            self._last = (rows, self.read(rows.numpy()))
        return self._last[1]

    def blocks(self, kept: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], dict[str, Any]]]:
        """Yield the kept rows of the store in order, by blocks, with their numbers.

        Args:
            kept: Whether each row of the store is wanted, (N,).
        """
        for first in range(0, len(kept), BLOCK):
            inside = np.flatnonzero(kept[first : first + BLOCK])
            if len(inside):
                low, high = first + inside[0], first + inside[-1] + 1
                block = self.read(slice(low, high))
                local = torch.from_numpy(inside + first - low)
                whole = len(local) == high - low
                yield inside + first, block if whole else {k: v[local] for k, v in block.items()}

    def tally(self, rows: NDArray[np.int64]) -> MaskTally:
        """Count pixels by bit of the mask, over rows of the store."""
        total = MaskTally.none()
        for first in range(0, len(rows), BLOCK):
            raw = self.store.read(READ, rows[first : first + BLOCK])
            total += self.policy.tally(raw["pixel_mask"], raw["flux"], raw["flux_error"])
        return total


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
) -> tuple[NDArray[np.int64], dict[str, Tensor]]:
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
    size = int(kept.sum())
    held: dict[str, Tensor] = {}
    if in_memory:
        types = (torch.float32, torch.float32, torch.bool)
        held = {
            k: torch.empty(size, num_pixels, dtype=t) for k, t in zip(PIXELS, types, strict=True)
        }
    index: list[NDArray[np.int64]] = []
    if not in_memory and min_good <= 0:
        index = [np.flatnonzero(kept)]
    else:
        filled = 0
        for rows, block in reader.blocks(kept):
            enough = block["good"].double().mean(dim=1) >= min_good
            index.append(rows[enough.numpy()])
            last = filled + len(index[-1])
            for name, values in held.items():
                values[filled:last] = block[name][enough]
            filled = last
        held = {name: values[:filled] for name, values in held.items()}
    found = np.concatenate(index) if index else np.zeros(0, np.int64)
    if in_memory:
        return found, held
    numbers = torch.from_numpy(found)
    columns = {k: PixelColumn(reader, k, numbers, num_pixels).as_tensor() for k in PIXELS}
    return found, columns
