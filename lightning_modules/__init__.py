"""The models: every LightningModule of astrolit."""

import os

# Idle OpenMP threads sleep instead of spinning: on a machine shared with others, a small network
# otherwise trains many times slower. OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from lightning_modules.base import BaseModule
from lightning_modules.clustering import DeepEmbeddedClustering, StellarAutoencoder, StellarVAE
from lightning_modules.microlensing import TimeDistributedCNN
from lightning_modules.spectra import SpectraVAE

__all__ = [
    "BaseModule",
    "DeepEmbeddedClustering",
    "SpectraVAE",
    "StellarAutoencoder",
    "StellarVAE",
    "TimeDistributedCNN",
]
