"""The stellar continuum: polynomials through pixels that hardly have lines."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.files import cache_key
from datamodules.spectra.grid import NUM_PIXELS, Grid
from datamodules.spectra.pixel_mask import PixelMaskPolicy

Array = NDArray[Any]

DEGREE = 2
"""Degree of the polynomials of the catalogue `contspec`."""

MIN_PIXELS = 4
"""Usable continuum pixels that a detector needs for each coefficient."""


def continuum_mask(grid: Grid) -> NDArray[np.bool_]:
    """Return the pixels of a grid that hardly have lines, shape (P,)."""
    whole = np.zeros(NUM_PIXELS, bool)
    windows = Path(__file__).with_name("continuum_windows.csv")
    for first, length in np.loadtxt(windows, int, delimiter=","):
        whole[first : first + length] = True
    return grid.take(whole)


def load_continuum_mask(path: Path, grid: Grid) -> NDArray[np.bool_]:
    """Read pixels without lines from a `.npy` of booleans, with or without the gaps.

    Args:
        path: The file; its array has P or 8575 pixels.
        grid: The pixels.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; set data.source.continuum_mask")
    try:
        mask = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a .npy of booleans ({error})") from error
    found = (getattr(mask, "dtype", None), getattr(mask, "shape", None))
    if found not in ((bool, (grid.num_pixels,)), (bool, (NUM_PIXELS,))):
        raise ValueError(
            f"{path}: not a .npy of booleans of {grid.num_pixels} pixels, or of {NUM_PIXELS} with "
            f"their gaps, but {found[0]} of the shape {found[1]}"
        )
    return mask if len(mask) == grid.num_pixels else grid.take(mask)


@dataclass(frozen=True)
class Continuum:
    """Chebyshev polynomials through fixed continuum pixels, one for each detector.

    The pixels are the same for every star and nothing is clipped, so that the result depends
    neither on the noise nor on what else is in a sample: train and predict agree. It is the scheme
    by which astroNN made `contspec`, but for its weights: that passed 1 / error^2 to a function
    that squares its weights, so that its fit is weighted by 1 / error^4. Here residuals are
    weighted by 1 / error, which is chi^2.

    Args:
        grid: The pixels.
        mask: Pixels to fit to, (P,); those of `continuum_mask` if None.
        degree: Of the polynomials.
    """

    grid: Grid
    mask: NDArray[np.bool_] | None = None
    degree: int = DEGREE

    def __post_init__(self) -> None:
        if self.degree < 0:
            raise ValueError(f"data.source.continuum_degree={self.degree} must not be negative")
        if self.pixels.shape != (self.grid.num_pixels,):
            raise ValueError(
                f"a continuum mask of shape {self.pixels.shape} for {self.grid.num_pixels} pixels"
            )

    @cached_property
    def pixels(self) -> NDArray[np.bool_]:
        """Pixels to fit to, (P,)."""
        return continuum_mask(self.grid) if self.mask is None else self.mask

    def parameters(self) -> dict[str, Any]:
        """Return degree and pixels as plain values, for the cache and for reports."""
        used = np.flatnonzero(self.pixels)
        return {"degree": self.degree, "num_pixels": len(used), "mask": cache_key(map(str, used))}

    def fit(self, flux: Array, error: Array, good: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Fit the continuum of spectra.

        Args:
            flux: Shape (..., P); anything where not good.
            error: Of the same shape.
            good: Usable pixels, of the same shape.

        Returns:
            The continuum, (..., P); NaN on a detector with fewer usable continuum pixels than 4
            for each coefficient, and where the polynomial is not positive.
        """
        shape = np.shape(flux)
        rows = [np.reshape(x, (-1, self.grid.num_pixels)) for x in (flux, error, good)]
        result = np.full(rows[0].shape, np.nan)
        for chip in self.grid.chips:
            place = np.linspace(-1, 1, chip.stop - chip.start)
            basis = np.polynomial.chebyshev.chebvander(place, self.degree)
            for row, (values, sigma, usable) in enumerate(zip(*rows, strict=True)):
                used = usable[chip] & self.pixels[chip]
                if used.sum() >= MIN_PIXELS * (self.degree + 1):
                    weight = 1 / sigma[chip][used].astype(np.float64)
                    scaled = values[chip][used] * weight
                    solution = np.linalg.lstsq(basis[used] * weight[:, None], scaled, rcond=None)
                    result[row, chip] = basis @ solution[0]
        return np.where(result > 0, result, np.nan).reshape(shape)


def renormalise(columns: MutableMapping[str, Array], continuum: Continuum) -> None:
    """Divide one spectrum or rows of a store, in place, by the continuum of their good pixels.

    Args:
        columns: With `flux`, `flux_error`, `pixel_mask` and perhaps `true_flux`, each (..., P).
            Where there is no continuum they become NaN, and bit 0 of the mask is set.
        continuum: How.
    """
    flux, error = columns["flux"], columns["flux_error"]
    good = PixelMaskPolicy().good(columns["pixel_mask"], flux, error)
    fitted = continuum.fit(flux, error, good)
    with np.errstate(over="ignore", invalid="ignore"):
        for name in {"flux", "flux_error", "true_flux"} & set(columns):
            columns[name] = (columns[name] / fitted).astype(np.float32)
    columns["pixel_mask"] |= np.isnan(fitted)


def check_normalised(columns: Mapping[str, Array], what: str, advice: str) -> None:
    """Refuse spectra whose usable pixels are not about 1.

    Args:
        columns: With `flux`, `flux_error` and `pixel_mask`, each (n, P).
        what: Where they come from, for messages.
        advice: What to do about it.

    Raises:
        ValueError: The median flux is not in 0.2 to 5.
    """
    flux = columns["flux"]
    usable = flux[PixelMaskPolicy().good(columns["pixel_mask"], flux, columns["flux_error"])]
    level = np.median(usable) if usable.size else 1.0
    if not 0.2 < level < 5:
        raise ValueError(f"{what}: the median flux is {level:.3g}, not about 1; {advice}")
