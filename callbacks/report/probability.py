"""How far stated probabilities can be trusted: what several reports measure and draw of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from callbacks.metrics.calibration import (
    brier_score,
    expected_calibration_error,
    reliability_table,
)
from callbacks.report.table import Report, bootstrap_std

Array = NDArray[Any]
FLOOR = 1e-6
NUM_BINS = 15


@dataclass(frozen=True)
class Resampling:
    """How uncertainties are found.

    Args:
        num_resamples: Bootstrap resamples of the objects.
        seed: Fixes the draws.
    """

    num_resamples: int = 200
    seed: int = 0


def add_probability_scores(
    report: Report, subject: str, p: Array, y: Array, slice: str, resampling: Resampling
) -> None:
    """Add Brier score, log-loss (natural) and expected calibration error of an event.

    Probabilities are clipped to [1e-6, 1 - 1e-6] in the log-loss, so that one sure mistake does
    not make it infinite. The bootstrap of the calibration error resamples outcomes within its bins.

    Args:
        report: Where the numbers go.
        subject: Whose they are.
        p: Probability of the event, shape (n,).
        y: Whether it happened, shape (n,).
        slice: The objects that these are.
        resampling: How uncertainties are found.
    """
    clipped = np.clip(p, FLOOR, 1 - FLOOR)
    log_losses = -np.where(y, np.log(clipped), np.log1p(-clipped))
    losses = np.stack([(p - y) ** 2, log_losses], 1)
    n = len(p)
    stds = bootstrap_std(losses, lambda sums: sums / n, resampling.num_resamples, resampling.seed)
    report.add(subject, "brier", brier_score(y, p), slice, float(stds[0]), n)
    report.add(subject, "log_loss", float(log_losses.mean()), slice, float(stds[1]), n)
    table = reliability_table(y, p, NUM_BINS)
    rng = np.random.default_rng(resampling.seed)
    sizes = np.broadcast_to(table.num_objects, (resampling.num_resamples, len(table.num_objects)))
    drawn = rng.binomial(sizes, np.clip(table.frequency, 0, 1)) / sizes
    errors = np.average(np.abs(drawn - table.probability), axis=1, weights=table.num_objects)
    ece = expected_calibration_error(y, p, NUM_BINS)
    report.add(subject, "ece", ece, slice, float(errors.std()), n)


def draw_diagonal(axes: Axes) -> None:
    """Draw what perfect calibration looks like and fix the limits."""
    axes.plot([0, 1], [0, 1], color="#888888", linestyle=":", linewidth=1.2, label="calibrated")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def draw_reliability(axes: Axes, p: Array, y: Array, colour: str, label: str) -> None:
    """Draw observed frequency against stated probability, with binomial errors.

    Args:
        axes: The panel.
        p: Probability of the event, shape (n,).
        y: Whether it happened, shape (n,).
        colour: Of the line.
        label: In the legend.
    """
    table = reliability_table(y, p, NUM_BINS)
    error = np.sqrt(table.frequency * (1 - table.frequency) / table.num_objects)
    axes.errorbar(
        table.probability,
        table.frequency,
        error,
        marker="o",
        markersize=4,
        color=colour,
        label=label,
    )
