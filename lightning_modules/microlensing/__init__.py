"""Models that classify microlensing events while they unfold."""

from lightning_modules.microlensing.alerts import AlertStream, answer_alerts
from lightning_modules.microlensing.module import TimeDistributedCNN
from lightning_modules.microlensing.streaming import Stream

__all__ = ["AlertStream", "Stream", "TimeDistributedCNN", "answer_alerts"]
