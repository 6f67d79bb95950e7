"""Which pixels of a spectrum are usable: the bits of APOGEE_PIXMASK, fluxes and errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.spectra.selection import as_bits, bit_mask, bits_of

PIXMASK_BITS = {
    "BADPIX": 0,
    "CRPIX": 1,
    "SATPIX": 2,
    "UNFIXABLE": 3,
    "BADDARK": 4,
    "BADFLAT": 5,
    "BADERR": 6,
    "NOSKY": 7,
    "LITTROW_GHOST": 8,
    "PERSIST_HIGH": 9,
    "PERSIST_MED": 10,
    "PERSIST_LOW": 11,
    "SIG_SKYLINE": 12,
    "SIG_TELLURIC": 13,
    "NOT_ENOUGH_PSF": 14,
    "FERRE_MASK": 16,
}
"""Names of the bits of APOGEE_PIXMASK."""

LARGEST_ERROR = 1e5
"""The pipeline gives pixels without information errors of this size and more ("BADERR")."""

NO_VALUE = "no_value"
"""In reports: pixels whose flux or error says that they carry nothing."""


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

    def tally(self, mask: NDArray[Any], flux: NDArray[Any], error: NDArray[Any]) -> "MaskTally":
        """Count pixels by bit."""
        return MaskTally.count(self, mask, has_value(flux, error))

    def report(
        self, mask: NDArray[Any], flux: NDArray[Any], error: NDArray[Any]
    ) -> dict[str, dict[str, float]]:
        """Say what share of the pixels each bit covers; see `MaskTally.shares`."""
        return self.tally(mask, flux, error).shares()


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
    """Tell which pixels have a flux and an error, whatever their mask says."""
    measured = np.isfinite(flux) & (flux != 0)
    return measured & (error > 0) & (error < LARGEST_ERROR)  # both are False for NaN


@dataclass(frozen=True)
class MaskTally:
    """Numbers of pixels by bit, which add up over blocks of spectra.

    Attributes:
        total: All pixels.
        bad: Those that the policy rejects.
        covered: By name of the bit, and `no_value`: pixels that have it.
        alone: Likewise: pixels that nothing else rejects; 0 for bits that the policy accepts.
    """

    total: int
    bad: int
    covered: dict[str, int]
    alone: dict[str, int]

    @classmethod
    def none(cls) -> "MaskTally":
        """Count no pixels."""
        names = [*PIXMASK_BITS, NO_VALUE]
        return cls(0, 0, dict.fromkeys(names, 0), dict.fromkeys(names, 0))

    @classmethod
    def count(
        cls, policy: PixelMaskPolicy, mask: NDArray[Any], valued: NDArray[np.bool_]
    ) -> "MaskTally":
        """Count the pixels of some spectra.

        Args:
            policy: Which bits are bad.
            mask: Bits, any shape.
            valued: Which pixels have a flux and an error, of the same shape.
        """
        combined = np.where(valued, mask.astype(np.int64), mask.astype(np.int64) | 1 << 40)
        values, numbers = np.unique(combined[combined != 0], return_counts=True)
        rejecting = bit_mask(policy.numbers) | 1 << 40
        covered, alone = {}, {}
        for name, bit in {**PIXMASK_BITS, NO_VALUE: 40}.items():
            covered[name] = int(numbers[(values >> bit) & 1 == 1].sum())
            alone[name] = int(numbers[values & rejecting == 1 << bit].sum())
        bad = int(numbers[values & rejecting != 0].sum())
        return cls(mask.size, bad, covered, alone)

    def __add__(self, other: "MaskTally") -> "MaskTally":
        return MaskTally(
            self.total + other.total,
            self.bad + other.bad,
            {name: n + other.covered[name] for name, n in self.covered.items()},
            {name: n + other.alone[name] for name, n in self.alone.items()},
        )

    def shares(self) -> dict[str, dict[str, float]]:
        """Return shares of all pixels.

        Returns:
            By name of the bit, `no_value` and `bad`: `share` of the pixels that have it, and
            `alone`, of those that are lost by it and by nothing else.
        """
        total = max(self.total, 1)
        shares = {
            name: {"share": n / total, "alone": self.alone[name] / total}
            for name, n in self.covered.items()
        }
        return {**shares, "bad": {"share": self.bad / total, "alone": self.bad / total}}
