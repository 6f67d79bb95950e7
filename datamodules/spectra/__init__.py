"""Spectra of stars."""

from datamodules.spectra.datamodule import SpectraDataModule
from datamodules.spectra.grid import GRIDS, Grid
from datamodules.spectra.pixel_mask import PixelMaskPolicy
from datamodules.spectra.selection import Selection
from datamodules.spectra.source import SpectraSource
from datamodules.spectra.spectra_file import SpectraFile
from datamodules.spectra.star_files import ApStarFiles, ASPCAPStarFiles
from datamodules.spectra.survey_files import SurveySpectra
from datamodules.spectra.synthetic import SyntheticSpectra

__all__ = [
    "GRIDS",
    "ASPCAPStarFiles",
    "ApStarFiles",
    "Grid",
    "PixelMaskPolicy",
    "Selection",
    "SpectraDataModule",
    "SpectraFile",
    "SpectraSource",
    "SurveySpectra",
    "SyntheticSpectra",
]
