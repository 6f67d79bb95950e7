"""The grid has APOGEE's wavelengths and pixels."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.spectra.grid import GRIDS, NUM_PIXELS, grid_of


def test_first_and_last_wavelengths() -> None:
    assert GRIDS[7514].wavelength[[0, -1]] == pytest.approx([15152.211, 16943.534], abs=1e-3)
    assert np.diff(GRIDS[7514].chips[2].indices(7514)[:2]) == 1991
    assert [chip.stop - chip.start for chip in GRIDS[7514].chips] == [3028, 2495, 1991]
    assert [chip.stop - chip.start for chip in GRIDS[7214].chips] == [2920, 2400, 1894]
    for size, grid in GRIDS.items():
        assert grid.num_pixels == len(grid.wavelength) == size
        assert np.diff(grid.indices).min() == 1


def test_wavelengths_of_the_survey(shared_data: Path) -> None:
    listed = np.loadtxt(shared_data / "spectra/windows_dr16/wave.dat", usecols=0)
    assert len(listed) == 7514
    np.testing.assert_allclose(GRIDS[7514].wavelength, listed, atol=1e-3)


def test_take_and_embed_are_inverse() -> None:
    values = np.arange(2 * NUM_PIXELS, dtype=np.float32).reshape(2, -1)
    for grid in GRIDS.values():
        taken = grid.take(values)
        assert taken.shape == (2, grid.num_pixels)
        embedded = grid.embed(taken, -1)
        np.testing.assert_array_equal(grid.take(embedded), taken)
        assert (embedded == -1).sum() == 2 * (NUM_PIXELS - grid.num_pixels)
        assert embedded.dtype == np.float32


def test_the_old_grid_is_a_part_of_the_new() -> None:
    new, old = GRIDS[7514], GRIDS[7214]
    np.testing.assert_array_equal(new.wavelength[new.positions_of(old)], old.wavelength)
    with pytest.raises(ValueError, match="300 pixels of the grid of 7514 are not on"):
        old.positions_of(new)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="no APOGEE grid has 7000 pixels"):
        grid_of(7000)
    with pytest.raises(ValueError, match="has 8575 pixels with its gaps"):
        GRIDS[7514].take(np.zeros(7514))
