"""Models that cluster stars: autoencoders and deep embedded clustering."""

from lightning_modules.clustering.deep_embedded_clustering import DeepEmbeddedClustering
from lightning_modules.clustering.module import StellarAutoencoder, StellarVAE

__all__ = ["DeepEmbeddedClustering", "StellarAutoencoder", "StellarVAE"]
