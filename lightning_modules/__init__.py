"""The models: every LightningModule of astrolit."""

from lightning_modules.base import BaseModule
from lightning_modules.clustering import DeepEmbeddedClustering, StellarAutoencoder, StellarVAE

__all__ = ["BaseModule", "DeepEmbeddedClustering", "StellarAutoencoder", "StellarVAE"]
