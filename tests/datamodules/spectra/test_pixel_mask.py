"""Each bit is judged on its own; so are values that cannot be measurements."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datamodules.spectra.flag_bits import PIXMASK_BITS
from datamodules.spectra.grid import GRIDS
from datamodules.spectra.pixel_mask import PixelMaskPolicy, pixel_bits, tally_pixels

BAD = {0, 1, 2, 3, 4, 5, 6, 7, 12, 14}


@pytest.mark.parametrize("bit", [*range(15), 16])
def test_each_bit(bit: int) -> None:
    mask, one = np.array([0, 1 << bit, 1 << bit | 1 << 9]), np.ones(3)
    good = PixelMaskPolicy().good(mask, one, one)
    assert good.tolist() == [True, bit not in BAD, bit not in BAD]
    assert PixelMaskPolicy((bit,)).good(mask, one, one).tolist() == [True, False, False]
    (name,) = (name for name, number in PIXMASK_BITS.items() if number == bit)
    assert PixelMaskPolicy((name,)).numbers == [bit]


def test_the_sign_bit_of_short_masks_is_no_other_bit() -> None:
    mask, one = np.array([-32768, -32768 | 1], np.int16), np.ones(2)
    assert PixelMaskPolicy().good(mask, one, one).tolist() == [True, False]


def test_values_that_are_no_measurement() -> None:
    flux = np.array([1, np.nan, np.inf, 0, 1, 1, 1, 1, 1, -0.5], np.float32)
    error = np.array([1, 1, 1, 1, np.nan, np.inf, 0, -1, 1e5, 9e4], np.float32)
    good = PixelMaskPolicy().good(np.zeros(10, np.int32), flux, error)
    assert good.tolist() == [True] + [False] * 8 + [True]


def test_shares_of_pixels() -> None:
    mask = np.array([[0, 1, 1 | 2, 1 << 13, 1 << 12, 1 << 12, 0, 0]])
    flux = np.array([[1, 1, 1, 1, 1, 0, 0, 1.0]])
    policy = PixelMaskPolicy()
    shares = policy.shares(tally_pixels(mask, flux, np.ones((1, 8))))
    assert shares["BADPIX"] == {"share": 0.25, "alone": 0.125}
    assert shares["CRPIX"] == {"share": 0.125, "alone": 0}
    assert shares["SIG_TELLURIC"] == {"share": 0.125, "alone": 0}
    assert shares["SIG_SKYLINE"] == {"share": 0.25, "alone": 0.125}
    assert shares["no_value"] == {"share": 0.25, "alone": 0.125}
    assert shares["bad"]["share"] == 5 / 8
    lost = 1 - policy.good(mask, flux, np.ones((1, 8))).mean()
    assert lost == shares["bad"]["share"]
    parts = [tally_pixels(mask[:, k], flux[:, k], np.ones(4)) for k in (slice(4), slice(4, 8))]
    assert policy.shares(parts[0] + parts[1]) == shares


def test_unknown_bits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mask_policy.bits: no bit is named 'FOO'; .*SIG_SKYLINE"):
        PixelMaskPolicy(("FOO",))
    with pytest.raises(ValueError, match="there is no bit 31"):
        PixelMaskPolicy((31,))


def test_a_real_giant_loses_few_pixels(shared_data: Path) -> None:
    file = shared_data / "spectra/apogee_dr14_star/apogee_dr14_example.npz"
    with np.load(file, allow_pickle=False) as star:
        mask = star["pixel_or_mask"].astype(np.int32)
        flux, error = star["normalized_flux"], star["normalized_error"]
    shares = PixelMaskPolicy().shares(tally_pixels(mask, flux, error))
    assert len(flux) == GRIDS[7514].num_pixels
    assert 0.02 < shares["bad"]["share"] < 0.16
    assert shares["SIG_SKYLINE"]["share"] > 0.01


def test_the_sign_of_a_short_mask_is_its_highest_bit() -> None:
    assert pixel_bits(np.array([-32768, 3], np.int16), "x").tolist() == [1 << 15, 3]
    wide = np.array([1 << 16, -(2**31)], np.int32)
    assert pixel_bits(wide, "x").tolist() == [1 << 16, 0]  # FERRE_MASK; no bit 31 is in use
    assert pixel_bits(np.array([np.nan, 4096.0]), "x").tolist() == [1, 4096]


def test_nothing_has_no_shares() -> None:
    assert PixelMaskPolicy().shares(Counter())["bad"]["share"] == 0
