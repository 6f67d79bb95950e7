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
    """

    count: int
    blocks: Iterator[NDArray[Any]]
    columns: Columns = field(default_factory=dict)


def map_blocks(arrays: Sequence[tuple[Any, str]], channels: Sequence[str]) -> FileMaps:
    """Return the maps of arrays of two, three or four axes, see `MapFiles`.

    Args:
        arrays: Each an array, or what is cut like one, and where it comes from.
        channels: Names of the C channels.

    Raises:
        ValueError: An array has no such shape.
    """
    layouts = [_layout(array.shape, channels, where) for array, where in arrays]

    def blocks() -> Iterator[NDArray[Any]]:
        for (array, _), (count, shape) in zip(arrays, layouts, strict=True):
            step = BLOCK if array.shape[0] == count else array.shape[0]
            for first in range(0, array.shape[0], step):
                yield np.asarray(array[first : first + step]).reshape(-1, *shape)

    return FileMaps(sum(count for count, _ in layouts), blocks())


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
