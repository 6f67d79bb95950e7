from .clustering.datamodule import ClusteringDataModule as ClusteringDataModule
from .clustering.readers.archive import GaiaArchive as GaiaArchive
from .clustering.readers.catalog import CatalogFile as CatalogFile
from .clustering.simulate.field import StarCluster as StarCluster
from .clustering.simulate.synthetic import SyntheticField as SyntheticField
from .microlensing.datamodule import MicrolensingDataModule as MicrolensingDataModule
from .microlensing.readers.files import KMTNetLightCurves as KMTNetLightCurves
from .microlensing.readers.files import LightCurveFiles as LightCurveFiles
from .microlensing.readers.files import MOALightCurves as MOALightCurves
from .microlensing.readers.files import OGLELightCurves as OGLELightCurves
from .microlensing.simulate.cadence import Cadence as Cadence
from .microlensing.simulate.cadence import KMTNetCadence as KMTNetCadence
from .microlensing.simulate.cadence import LSSTCadence as LSSTCadence
from .microlensing.simulate.cadence import OGLECadence as OGLECadence
from .microlensing.simulate.cadence import RegularCadence as RegularCadence
from .microlensing.simulate.cadence import RomanCadence as RomanCadence
from .microlensing.simulate.noise import PhotometricErrors as PhotometricErrors
from .microlensing.simulate.synthetic import SimulatedEvents as SimulatedEvents
from .spectra.datamodule import SpectraDataModule as SpectraDataModule
from .spectra.pixel_mask import PixelMaskPolicy as PixelMaskPolicy
from .spectra.readers.spectra_file import SpectraFile as SpectraFile
from .spectra.readers.star_files import ApStarFiles as ApStarFiles
from .spectra.readers.star_files import ASPCAPStarFiles as ASPCAPStarFiles
from .spectra.readers.survey_files import SurveySpectra as SurveySpectra
from .spectra.selection import Selection as Selection
from .spectra.simulate.synthetic import SyntheticSpectra as SyntheticSpectra

DISTRIBUTION: str
