from .base import BaseModule
from .clustering.cluster_mixture import ClusterMixture
from .clustering.deep_embedded_clustering import DeepEmbeddedClustering
from .clustering.module import StellarAutoencoder, StellarVAE
from .clustering.vade import VaDE
from .ensemble import Ensemble
from .microlensing.module import TimeDistributedCNN
from .passes import PassModule
from .sidm.module import CompactClustering
from .sidm.regressor import CrossSectionRegressor
from .spectra.module import SpectraVAE

__all__ = [
    "BaseModule",
    "ClusterMixture",
    "CompactClustering",
    "CrossSectionRegressor",
    "DeepEmbeddedClustering",
    "Ensemble",
    "PassModule",
    "SpectraVAE",
    "StellarAutoencoder",
    "StellarVAE",
    "TimeDistributedCNN",
    "VaDE",
]
