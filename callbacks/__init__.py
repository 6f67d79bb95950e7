"""What a run shows, writes and guards: one callback a subject."""

from callbacks.checkpoint_io import AtomicCheckpointIO
from callbacks.clustering import ClusteringReport
from callbacks.defaults import (
    BestCheckpoint,
    DefaultEarlyStopping,
    DefaultLearningRateMonitor,
    LastCheckpoint,
)
from callbacks.membership import MembershipTable
from callbacks.microlensing import MicrolensingReport
from callbacks.nonfinite import NonFiniteGuard
from callbacks.predictions import PredictionWriter
from callbacks.preemption import PreemptionCheckpoint
from callbacks.projector import EmbeddingProjector
from callbacks.rng_state import RNGState
from callbacks.spectra import SpectraReport
from callbacks.spectra_writer import SpectrumWriter

DISTRIBUTION = "astrolit"

__all__ = [
    "DISTRIBUTION",
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "ClusteringReport",
    "DefaultEarlyStopping",
    "DefaultLearningRateMonitor",
    "EmbeddingProjector",
    "LastCheckpoint",
    "MembershipTable",
    "MicrolensingReport",
    "NonFiniteGuard",
    "PredictionWriter",
    "PreemptionCheckpoint",
    "RNGState",
    "SpectraReport",
    "SpectrumWriter",
]
