"""Where data come from: one LightningDataModule a method."""

from datamodules.clustering import (
    CatalogFile,
    ClusteringDataModule,
    GaiaArchive,
    StarCluster,
    SyntheticField,
)

DISTRIBUTION = "astrolit"

__all__ = [
    "DISTRIBUTION",
    "CatalogFile",
    "ClusteringDataModule",
    "GaiaArchive",
    "StarCluster",
    "SyntheticField",
]
