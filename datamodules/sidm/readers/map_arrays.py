"""Arrays of two, three or four axes as blocks of maps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.sidm.readers.map_columns import Columns

BLOCK = 64
"""Maps converted at a time."""


@dataclass
class FileMaps:
    """The maps of one file.

    Args:
        count: Number of maps N.
        blocks: Their pixels in order, each (n, C, H, W).
        columns: What the file says of them, converted, each (N,).
        good: Good pixels, (N, H, W) or (H, W) for all maps, or what is cut like them.
        notes: Sentences on what of the file is used.
    """

    count: int
    blocks: Iterator[NDArray[Any]]
    columns: Columns = field(default_factory=dict)
    good: Any = None
    notes: list[str] = field(default_factory=list)

    def good_pixels(self, rows: slice) -> NDArray[np.bool_]:
        """Return the good pixels of some maps, (n, H, W) or what broadcasts to it."""
        if self.good is None:
            return np.array(True)
        return np.asarray(self.good[rows] if len(self.good.shape) == 3 else self.good[...]) != 0


def map_blocks(
    arrays: Sequence[tuple[Any, str]], channels: Sequence[str], good: Any = None
) -> FileMaps:
    """Return the maps of arrays of two, three or four axes, see `MapFiles`.

    Args:
        arrays: Each an array, or what is cut like one, and where it comes from.
        channels: Names of the C channels.
        good: Good pixels of the only array, if they are given.

    Raises:
        ValueError: An array has no such shape.
    """
    layouts = [_layout(array.shape, channels, where) for array, where in arrays]

    def blocks() -> Iterator[NDArray[Any]]:
        for (array, _), (count, shape) in zip(arrays, layouts, strict=True):
            step = BLOCK if array.shape[0] == count else array.shape[0]
            for first in range(0, array.shape[0], step):
                yield np.asarray(array[first : first + step]).reshape(-1, *shape)

    count = sum(count for count, _ in layouts)
    if good is not None:
        each = layouts[0][1][1:]
        if good.shape not in ((count, *each), each) or good.dtype.kind not in "biu":
            raise ValueError(
                f"{arrays[0][1]}: its good pixels are {good.dtype} of the shape {good.shape}; give "
                f"true and false of {(count, *each)}, or of {each} for all maps"
            )
    return FileMaps(count, blocks(), good=good)


def _layout(
    shape: tuple[int, ...], channels: Sequence[str], where: str
) -> tuple[int, tuple[int, ...]]:
    """Return the number of maps in an array and the shape (C, H, W) of each."""
    each: tuple[int, ...]
    if len(shape) == 4:
        count, each = shape[0], shape[1:]
    elif len(shape) == 3 and len(channels) == 1:
        count, each = shape[0], (1, *shape[1:])
    else:
        count, each = 1, shape if len(shape) == 3 else (1, *shape)
    if len(each) != 3 or 0 in shape or each[0] != len(channels):
        raise ValueError(
            f"{where} has the shape {shape}; for the channels {list(channels)} give maps of "
            f"(maps, {len(channels)}, rows, columns), or set data.source.channels"
        )
    return count, each
