"""Light curves of microlensing events."""

from datamodules.microlensing.cadence import (
    Cadence,
    KMTNetCadence,
    LSSTCadence,
    OGLECadence,
    RegularCadence,
    RomanCadence,
)
from datamodules.microlensing.datamodule import MicrolensingDataModule
from datamodules.microlensing.files import (
    KMTNetLightCurves,
    LightCurveFiles,
    MOALightCurves,
    OGLELightCurves,
)
from datamodules.microlensing.noise import PhotometricErrors
from datamodules.microlensing.source import MicrolensingSource
from datamodules.microlensing.synthetic import SimulatedEvents

__all__ = [
    "Cadence",
    "KMTNetCadence",
    "KMTNetLightCurves",
    "LSSTCadence",
    "LightCurveFiles",
    "MOALightCurves",
    "MicrolensingDataModule",
    "MicrolensingSource",
    "OGLECadence",
    "OGLELightCurves",
    "PhotometricErrors",
    "RegularCadence",
    "RomanCadence",
    "SimulatedEvents",
]
