"""The stellar continuum: polynomials through pixels that hardly have lines."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.files import cache_key
from datamodules.spectra.grid import NUM_PIXELS, Grid
from datamodules.spectra.pixel_mask import PixelMaskPolicy

Array = NDArray[Any]

_WINDOWS = """
    332:4 406:5 442:9 459:5 504:21 546:8 561:10 603:5 635:5 658:4 717:10 754:13 768:4 814:4 822:4
    828:9 842:7 882:7 907:6 964:7 979:14 1004:5 1025:7 1035:6 1044:5 1061:7 1073:4 1084:13 1121:9
    1140:6 1188:5 1203:4 1227:4 1233:6 1260:6 1296:5 1338:9 1388:6 1431:4 1460:6 1493:4 1501:9
    1535:4 1581:11 1620:4 1647:12 1664:11 1688:11 1725:4 1743:6 1753:13 1770:5 1779:4 1799:7
    1816:6 1826:12 1843:16 1869:14 1920:11 1955:7 1966:4 1990:6 2003:5 2016:4 2025:10 2042:8
    2061:4 2123:11 2135:6 2223:4 2233:5 2251:6 2357:4 2379:6 2419:4 2481:6 2491:4 2532:6 2569:4
    2632:7 2665:7 2682:9 2737:4 2782:14 2949:6 3011:5 3921:4 3967:4 3974:12 4154:5 4285:4 4355:16
    4430:7 4466:6 4504:5 4594:4 4614:4 4622:4 4642:9 4779:5 4846:8 4875:4 4999:4 5230:8 5256:7
    5283:4 5361:5 5385:4 5408:5 5418:7 5437:4 5458:5 5505:4 5533:5 5556:6 5579:8 5638:5 5664:5
    5704:4 5711:4 5741:10 5772:8 5811:17 5857:4 5871:5 5949:7 6429:7 6438:9 6465:18 6488:5 6500:6
    6552:7 6578:6 6632:6 6640:5 6665:6 6687:4 6718:14 6737:4 6751:4 6760:14 6775:4 6782:6 6797:4
    6819:4 6828:6 6837:7 6853:15 6888:4 6907:8 6917:6 6992:5 7036:10 7058:5 7076:4 7118:7 7145:6
    7228:5 7257:5 7270:4 7285:7 7298:10 7310:8 7329:7 7345:4 7362:4 7378:4 7443:12 7459:4 7478:5
    7489:17 7544:4 7549:4 7584:5 7595:5 7602:4 7609:6 7618:4 7625:5 7634:12 7648:6 7658:5 7687:9
    7716:5 7724:5 7798:4 7842:13 7863:5 7870:9 7883:5 7931:4 7967:7 7993:4 8041:4 8082:7 8091:7
    8141:4 8152:6 8167:10 8195:8 8211:11 8230:6 8242:13 8261:7 8270:10
"""
# First pixel on the 8575 and length of 205 windows, measured on the quadratic model of real giants
# of The Cannon (Ness et al. 2015; coefficients of jobovy/apogee): at least 4 pixels in which the
# giant of 4500 K, log g 2, [M/H] -0.3 is within 1.5 % of the continuum and 200 K, 0.5 in log g,
# 0.25 in [M/H] and 0.1 in [alpha/M] together change the flux by less than 0.7 %.

DEGREE = 2
"""Degree of the polynomials of the catalogue `contspec`."""

MIN_PIXELS = 4
"""Usable continuum pixels that a detector needs for each coefficient."""


def continuum_mask(grid: Grid) -> NDArray[np.bool_]:
    """Return the pixels of a grid that hardly have lines, shape (P,).

    Args:
        grid: The pixels.
    """
    whole = np.zeros(NUM_PIXELS, bool)
    for window in _WINDOWS.split():
        first, length = map(int, window.split(":"))
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
    if not isinstance(mask, np.ndarray) or mask.dtype != bool:
        raise ValueError(f"{path}: not a .npy of booleans")
    if mask.shape not in ((grid.num_pixels,), (NUM_PIXELS,)):
        raise ValueError(
            f"{path}: shape {mask.shape}, but the spectra have {grid.num_pixels} pixels, or "
            f"{NUM_PIXELS} with their gaps"
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
        if self.mask is None:
            object.__setattr__(self, "mask", continuum_mask(self.grid))
        elif self.mask.shape != (self.grid.num_pixels,):
            raise ValueError(
                f"a continuum mask of shape {self.mask.shape} for {self.grid.num_pixels} pixels"
            )

    @property
    def pixels(self) -> NDArray[np.bool_]:
        """Pixels to fit to, (P,)."""
        assert self.mask is not None
        return self.mask

    def parameters(self) -> dict[str, Any]:
        """Return degree and pixels as plain values, for the cache and for reports."""
        pixels = np.flatnonzero(self.pixels)
        return {
            "degree": self.degree,
            "num_pixels": len(pixels),
            "mask": cache_key(map(str, pixels)),
        }

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

    def normalise(
        self, flux: Array, error: Array, good: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Divide flux and error by the continuum; where there is none, NaN and infinity.

        Args:
            flux: Shape (..., P).
            error: Of the same shape.
            good: Usable pixels, of the same shape.
        """
        continuum = self.fit(flux, error, good)
        with np.errstate(over="ignore", invalid="ignore"):
            ratio, relative = (flux / continuum).astype(np.float32), error / continuum
        known = np.isfinite(continuum)
        return ratio, np.where(known, relative, np.inf).astype(np.float32)


def renormalise(columns: MutableMapping[str, Array], continuum: Continuum) -> None:
    """Divide rows of a store, in place, by the continuum of their good pixels.

    Args:
        columns: With `flux`, `flux_error`, `pixel_mask` and perhaps `true_flux`, each (n, P). Bit 0
            of the mask is set where there is no continuum.
        continuum: How.
    """
    flux, error = columns["flux"], columns["flux_error"]
    good = PixelMaskPolicy().good(columns["pixel_mask"], flux, error)
    fitted = continuum.fit(flux, error, good)
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


def describe_continuum(continuum: Continuum | None) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what a store of spectra says of how they were normalised.

    Args:
        continuum: As used, or None if the spectra came normalised.

    Returns:
        Attributes and shared arrays; both empty for None.
    """
    if continuum is None:
        return {}, {}
    return {"continuum_degree": continuum.degree}, {"continuum_mask": continuum.pixels}
