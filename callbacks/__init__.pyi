from .clustering.membership import MembershipTable
from .clustering.report import ClusteringReport
from .microlensing.report import MicrolensingReport
from .predictions.tables import PredictionWriter
from .report.projector import EmbeddingProjector
from .run.checkpoint_io import AtomicCheckpointIO
from .run.checkpoints import (
    BestCheckpoint,
    DefaultEarlyStopping,
    DefaultLearningRateMonitor,
    LastCheckpoint,
)
from .run.exact_resume import RNGState
from .run.nonfinite import NonFiniteGuard
from .run.preemption import PreemptionCheckpoint
from .spectra.report import SpectraReport
from .spectra.writer import SpectrumWriter

DISTRIBUTION: str

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
