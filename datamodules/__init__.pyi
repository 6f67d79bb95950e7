from .clustering.datamodule import ClusteringDataModule
from .clustering.readers.archive import GaiaArchive
from .clustering.readers.catalog import CatalogFile
from .clustering.simulate.field import StarCluster
from .clustering.simulate.synthetic import SyntheticField
from .microlensing.datamodule import MicrolensingDataModule
from .microlensing.readers.files import (
    KMTNetLightCurves,
    LightCurveFiles,
    MOALightCurves,
    OGLELightCurves,
)
from .microlensing.simulate.cadence import (
    Cadence,
    KMTNetCadence,
    LSSTCadence,
    OGLECadence,
    RegularCadence,
    RomanCadence,
)
from .microlensing.simulate.noise import PhotometricErrors
from .microlensing.simulate.synthetic import SimulatedEvents
from .spectra.datamodule import SpectraDataModule
from .spectra.pixel_mask import PixelMaskPolicy
from .spectra.readers.spectra_file import SpectraFile
from .spectra.readers.star_files import ApStarFiles, ASPCAPStarFiles
from .spectra.readers.survey_files import SurveySpectra
from .spectra.selection import Selection
from .spectra.simulate.synthetic import SyntheticSpectra

DISTRIBUTION: str

__all__ = [
    "DISTRIBUTION",
    "ASPCAPStarFiles",
    "ApStarFiles",
    "Cadence",
    "CatalogFile",
    "ClusteringDataModule",
    "GaiaArchive",
    "KMTNetCadence",
    "KMTNetLightCurves",
    "LSSTCadence",
    "LightCurveFiles",
    "MOALightCurves",
    "MicrolensingDataModule",
    "OGLECadence",
    "OGLELightCurves",
    "PhotometricErrors",
    "PixelMaskPolicy",
    "RegularCadence",
    "RomanCadence",
    "Selection",
    "SimulatedEvents",
    "SpectraDataModule",
    "SpectraFile",
    "StarCluster",
    "SurveySpectra",
    "SyntheticField",
    "SyntheticSpectra",
]
