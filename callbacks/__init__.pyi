from .clustering.membership import MembershipTable
from .clustering.report import ClusteringReport
from .microlensing.report import MicrolensingReport
from .predictions.tables import PredictionWriter
from .report.projector import EmbeddingProjector
from .run.checkpoint_io import AtomicCheckpointIO
from .run.checkpoints import (
    BestCheckpoint,
    EarlyStopping,
    LastCheckpoint,
    LearningRateMonitor,
)
from .run.exact_resume import ExactResume
from .run.nonfinite import NonFiniteGuard
from .run.preemption import PreemptionCheckpoint
from .run.stop_record import StopRecord
from .sidm.report import SIDMReport
from .sidm.writer import CrossSectionTable
from .spectra.report import SpectraReport
from .spectra.writer import SpectrumWriter

DISTRIBUTION: str

__all__ = [
    "DISTRIBUTION",
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "ClusteringReport",
    "CrossSectionTable",
    "EarlyStopping",
    "EmbeddingProjector",
    "ExactResume",
    "LastCheckpoint",
    "LearningRateMonitor",
    "MembershipTable",
    "MicrolensingReport",
    "NonFiniteGuard",
    "PredictionWriter",
    "PreemptionCheckpoint",
    "SIDMReport",
    "SpectraReport",
    "SpectrumWriter",
    "StopRecord",
]
