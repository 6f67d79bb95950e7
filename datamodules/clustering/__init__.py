"""Star catalogues for clustering."""

from datamodules.clustering.archive import GaiaArchive
from datamodules.clustering.catalog import CatalogFile
from datamodules.clustering.datamodule import ClusteringDataModule
from datamodules.clustering.simulate import StarCluster
from datamodules.clustering.source import ClusteringSource
from datamodules.clustering.synthetic import SyntheticField

__all__ = [
    "CatalogFile",
    "ClusteringDataModule",
    "ClusteringSource",
    "GaiaArchive",
    "StarCluster",
    "SyntheticField",
]
