"""Spectra of stars."""

from datamodules.spectra.datamodule import SpectraDataModule
from datamodules.spectra.grid import GRIDS, Grid
from datamodules.spectra.pixel_mask import PixelMaskPolicy
from datamodules.spectra.selection import Selection
from datamodules.spectra.source import SpectraSource
from datamodules.spectra.synthetic import SyntheticSpectra

__all__ = [
    "GRIDS",
    "Grid",
    "PixelMaskPolicy",
    "Selection",
    "SpectraDataModule",
    "SpectraSource",
    "SyntheticSpectra",
]
