"""Spectra of stars."""

from datamodules.spectra.grid import GRIDS, Grid
from datamodules.spectra.selection import Selection
from datamodules.spectra.source import SpectraSource

__all__ = ["GRIDS", "Grid", "Selection", "SpectraSource"]
