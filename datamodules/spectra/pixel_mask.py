"""Which pixels of a spectrum are usable: the bits of APOGEE_PIXMASK, fluxes and errors."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.spectra.flag_bits import PIXMASK_BITS, as_bits, bit_mask, bits_of

LARGEST_ERROR = 1e5
"""The pipeline gives pixels without information errors of this size and more ("BADERR")."""

_NO_VALUE = 40
"""In tallies: the bit of pixels whose flux or error says that they carry nothing."""


@dataclass(frozen=True)
class PixelMaskPolicy:
    """Which pixels are bad.

    A pixel is bad if a listed bit of its mask is set, its flux is not finite or exactly 0 (how
    files without a mask say bad), or its error is not finite, not positive or at least 1e5. The
    default bits are those that the pipeline calls bad (0 to 7 and 14) and strong sky lines (12);
    the reference and astroNN use 0 to 7 and 12. Persistence (9 to 11) can cover the whole blue
    detector of a star, so it is left in.

    Args:
        bits: Names or numbers of the bits of APOGEE_PIXMASK that make a pixel bad.
    """

    bits: tuple[int | str, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 12, 14)

    def __post_init__(self) -> None:
        self.numbers  # noqa: B018  refuses unknown names at once

    @property
    def numbers(self) -> list[int]:
        """The bits by number, sorted."""
        return bits_of(self.bits, PIXMASK_BITS, "data.mask_policy.bits", last=30)

    def parameters(self) -> dict[str, Any]:
        """Return the policy as plain values, for reports."""
        names = {bit: name for name, bit in PIXMASK_BITS.items()}
        return {"bits": [names.get(bit, bit) for bit in self.numbers]}

    def good(
        self, mask: NDArray[Any], flux: NDArray[Any], error: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Tell which pixels are usable.

        Args:
            mask: Bits of APOGEE_PIXMASK, integers, any shape.
            flux: Of the same shape.
            error: Of the same shape.
        """
        return ((mask & bit_mask(self.numbers)) == 0) & has_value(flux, error)

    def shares(self, tally: Counter[int]) -> dict[str, dict[str, float]]:
        """Say what share of the pixels each bit covers.

        Args:
            tally: As `tally_pixels` counts them.

        Returns:
            By name of the bit, `no_value` and `bad`: `share` of the pixels that have it, and
            `alone`, of those that are lost by it and by nothing else (0 for bits that the policy
            accepts).
        """
        bits = {name: 1 << bit for name, bit in {**PIXMASK_BITS, "no_value": _NO_VALUE}.items()}
        rejecting, total = bit_mask([*self.numbers, _NO_VALUE]), max(tally.total(), 1)
        shares = {
            name: {
                "share": sum(n for value, n in tally.items() if value & bit) / total,
                "alone": sum(n for value, n in tally.items() if value & rejecting == bit) / total,
            }
            for name, bit in bits.items()
        }
        bad = sum(n for value, n in tally.items() if value & rejecting) / total
        return {**shares, "bad": {"share": bad, "alone": bad}}


def tally_pixels(mask: NDArray[Any], flux: NDArray[Any], error: NDArray[Any]) -> Counter[int]:
    """Count pixels by all the bits that they have; tallies add up over blocks of spectra.

    Args:
        mask: Bits of APOGEE_PIXMASK, integers, any shape.
        flux: Of the same shape.
        error: Of the same shape.
    """
    bits = np.where(has_value(flux, error), 0, 1 << _NO_VALUE) | mask
    values, numbers = np.unique(bits[bits != 0], return_counts=True)
    tally = Counter(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    return tally + Counter({0: bits.size - tally.total()})


def pixel_bits(values: NDArray[Any], what: str) -> NDArray[np.int32]:
    """Return masks of any number type as int32; values that are not finite are bad pixels (bit 0).

    Args:
        values: Bits of APOGEE_PIXMASK, any shape.
        what: What they are, for messages.

    Raises:
        ValueError: The values are no whole numbers.
    """
    return (as_bits(values, what, absent=1) & 0x7FFFFFFF).astype(np.int32)


def has_value(flux: NDArray[Any], error: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which pixels have a flux and an error, whatever their mask says.

    Args:
        flux: Any shape.
        error: Of the same shape.
    """
    measured = np.isfinite(flux) & (flux != 0)
    return measured & (error > 0) & (error < LARGEST_ERROR)  # both are False for NaN
