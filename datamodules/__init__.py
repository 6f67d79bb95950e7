"""Where data come from: one LightningDataModule a method."""

from datamodules.clustering import (
    CatalogFile,
    ClusteringDataModule,
    GaiaArchive,
    StarCluster,
    SyntheticField,
)
from datamodules.microlensing import (
    Cadence,
    KMTNetCadence,
    KMTNetLightCurves,
    LightCurveFiles,
    LSSTCadence,
    MicrolensingDataModule,
    MOALightCurves,
    OGLECadence,
    OGLELightCurves,
    PhotometricErrors,
    RegularCadence,
    RomanCadence,
    SimulatedEvents,
)
from datamodules.spectra import (
    ApStarFiles,
    ASPCAPStarFiles,
    PixelMaskPolicy,
    Selection,
    SpectraDataModule,
    SpectraFile,
    SurveySpectra,
    SyntheticSpectra,
)

DISTRIBUTION = "astrolit"

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
