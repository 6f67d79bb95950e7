"""APOGEE's wavelength grid: 8575 pixels in vacuum, and the pixels that its detectors cover."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_PIXELS = 8575
"""Pixels of an apStar or aspcapStar file, gaps between the detectors included."""

LOG_START, LOG_STEP = 4.179, 6e-6
"""log10 of the first vacuum wavelength in A, and the step: 4.145 km/s a pixel (CRVAL1, CDELT1)."""


@dataclass(frozen=True)
class Grid:
    """The pixels of the 8575 that the three detectors cover.

    Attributes:
        ranges: First pixel and end of each detector on the 8575 pixels: blue, green, red.
    """

    ranges: tuple[tuple[int, int], ...]

    @property
    def num_pixels(self) -> int:
        """Number of pixels, P."""
        return sum(end - first for first, end in self.ranges)

    @cached_property
    def indices(self) -> NDArray[np.int64]:
        """Positions of the pixels on the 8575, shape (P,)."""
        return np.concatenate([np.arange(first, end) for first, end in self.ranges])

    @cached_property
    def wavelength(self) -> NDArray[np.float64]:
        """Vacuum wavelength of the pixels in A, shape (P,)."""
        return np.power(10.0, LOG_START + LOG_STEP * self.indices, dtype=np.float64)

    @cached_property
    def chips(self) -> list[slice]:
        """Pixels of each detector, blue, green, red, as slices of the P pixels."""
        ends = np.cumsum([end - first for first, end in self.ranges]).tolist()
        return [slice(first, end) for first, end in zip([0, *ends[:-1]], ends, strict=True)]

    def take(self, values: NDArray[Any]) -> NDArray[Any]:
        """Delete the gaps: (..., 8575) to (..., P).

        Raises:
            ValueError: The last axis has not 8575 pixels.
        """
        values = np.asarray(values)
        if values.shape[-1:] != (NUM_PIXELS,):
            raise ValueError(
                f"an APOGEE spectrum has {NUM_PIXELS} pixels with its gaps, but the array has the "
                f"shape {values.shape}; bring it to the grid log10(A) = 4.179 + 6e-6 i first"
            )
        return values[..., self.indices]

    def embed(self, values: NDArray[Any], fill: float = 0.0) -> NDArray[Any]:
        """Put the gaps back: (..., P) to (..., 8575), `fill` in the gaps."""
        values = np.asarray(values)
        result = np.full((*values.shape[:-1], NUM_PIXELS), fill, values.dtype)
        result[..., self.indices] = values
        return result

    def positions_of(self, other: "Grid") -> NDArray[np.int64]:
        """Find the pixels of another grid among the pixels of this one, shape (other P,).

        Raises:
            ValueError: Some pixel of the other grid is not in this one.
        """
        missing = len(np.setdiff1d(other.indices, self.indices))
        if missing:
            raise ValueError(
                f"{missing} pixels of the grid of {other.num_pixels} are not on the grid of "
                f"{self.num_pixels}; cut spectra down to a smaller grid, not up to a larger one"
            )
        return np.searchsorted(self.indices, other.indices)


GRIDS = {
    7514: Grid(((246, 3274), (3585, 6080), (6344, 8335))),
    7214: Grid(((322, 3242), (3648, 6048), (6412, 8306))),
}
"""By number of pixels: 7514 of DR13 to DR17, and 7214 of DR11 and DR12, a part of it."""


WHOLE = Grid(((0, NUM_PIXELS),))
"""All 8575 pixels, with the gaps."""


def grid_of(num_pixels: int, where: str = "spectra") -> Grid:
    """Find the grid with so many pixels.

    Args:
        num_pixels: P.
        where: The file or setting, for messages.

    Raises:
        ValueError: There is none.
    """
    if num_pixels not in GRIDS:
        raise ValueError(
            f"{where}: no APOGEE grid has {num_pixels} pixels; there are {sorted(GRIDS)}"
        )
    return GRIDS[num_pixels]
