"""The report of the microlensing method: scores while events unfold, calibration, decisions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import LightningModule
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.microlensing.baselines import PSPLFit
from callbacks.microlensing.events import (
    BINARY,
    FRACTIONS,
    Example,
    Predictions,
    reduce_batch,
    take_examples,
)
from callbacks.microlensing.figures import example_figure, microlensing_figures
from callbacks.microlensing.scores import (
    add_bins,
    add_ceiling,
    add_decisions,
    add_fractions,
    slice_name,
)
from callbacks.report.base import ReportCallback, ReportData, TestRun
from callbacks.report.bootstrap import subsample
from lightning_modules.physics.arrays import Array

NUM_EXAMPLES = 3


@runtime_checkable
class MicrolensingData(Protocol):
    """A datamodule that can fit single lenses to its light curves."""

    def anomaly_scores(self, index: Array, cutoff_time: Array) -> Array:
        """Return how badly single lenses fit up to a time, shape (n, 2)."""


class MicrolensingReport(ReportCallback):
    """Writes `report.json`, `report.csv` and `figures/*.png` at the end of `test`.

    Every number is of held-out events, at 10, 25, 33, 50, 67, 83 and 100 % of the curve: of the
    time between its first and last planned epoch. A prediction there is that after the last epoch
    seen by then. The event to be found is two lenses (label 1) against all others.

    Subjects are `model`, `baseline/pspl_fit` (chi^2 of a single-lens fit and its largest windowed
    residual, made a probability by logistic regression on training events, fitted anew at each
    fraction) and `signal`, what the binaries' Delta chi^2 allows. Decisions are made when the
    probability first reaches a threshold, at any epoch. Data without labels get examples only.

    Args:
        baselines: Whether to fit the baseline.
        num_resamples: Bootstrap resamples of the events for the uncertainties.
        max_fit: Events that the baseline fits at most, of each split; a random subsample beyond.
        seed: Fixes subsamples and resamples.
    """

    method: ClassVar[str] = "microlensing"
    outputs: ClassVar[tuple[str, ...]] = ("at_fraction",)
    inputs: ClassVar[tuple[str, ...]] = ("label", "split", "delta_chi2")
    shown: ClassVar[tuple[str, ...]] = (slice_name(0.5), slice_name(1.0), "threshold=0.90")

    def __init__(
        self,
        baselines: bool = True,
        num_resamples: int = 200,
        max_fit: int = 2000,
        seed: int = 0,
    ) -> None:
        super().__init__(baselines, num_resamples, max_fit, seed)
        self._examples: list[Example] = []
        self._counts: dict[int, int] = {}

    def begin(self, module: LightningModule, data: ReportData | None) -> None:
        """Forget the examples of an interrupted run."""
        self._examples, self._counts = [], {}

    def reduce(self, batch: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what is kept of each event, without the curves."""
        probability = outputs["probability"]
        self._examples += take_examples(batch, probability, self._counts, NUM_EXAMPLES)
        return super().reduce(batch, outputs) | reduce_batch(batch, probability)

    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        """Fill the report and return the figures."""
        p, label = run.rows["at_fraction"].astype(np.float64), run.rows["label"]
        unnamed = [f"class_{number}" for number in range(p.shape[-1])]
        classes = list(getattr(run.module, "classes", ())) or unnamed
        reported = np.flatnonzero(run.held_out() & (label >= 0))
        p, label = p[reported], label[reported]
        model = Predictions("model", reported, label, p[..., BINARY], p.argmax(-1), True)
        counts = [f"{(label == number).sum()} {name}" for number, name in enumerate(classes)]
        run.report.note(
            f"held-out events with a label: {', '.join(counts)}; fractions are {list(FRACTIONS)}"
        )
        figures = self._draw_examples(run, classes)
        if not 0 < model.binary.sum() < len(reported):
            run.report.note("scores need held-out events of one lens and of two: they are left out")
            return figures
        subjects = [model, *self._baselines(run, model)]
        for subject in subjects:
            add_fractions(run, subject, classes)
        add_decisions(run, model)
        add_ceiling(run, model)
        for subject in subjects:
            add_bins(run, subject)
        return microlensing_figures(run, subjects, classes) | figures

    def _baselines(self, run: TestRun, model: Predictions) -> Iterator[Predictions]:
        """Yield the baseline's predictions, and say what it is."""
        if not self.baselines or not isinstance(run.datamodule, MicrolensingData):
            return
        training = run.split("train") & (run.rows["label"] >= 0)
        kinds = run.rows["label"][training] == BINARY
        if not 0 < kinds.sum() < len(kinds):
            run.report.note("baseline/pspl_fit needs training events of one lens and of two")
            return
        chosen = subsample(len(model.rows), self.max_fit, self.seed)
        scored = model.rows[chosen]
        baseline = PSPLFit(run.datamodule.anomaly_scores)
        for subject, p in run.baselines(baseline, fitted=training, scored=scored):
            predicted = np.where(p >= 0.5, BINARY, 0)
            yield Predictions(subject, scored, model.label[chosen], p, predicted, False)
        run.report.note(
            f"baseline/pspl_fit: {len(scored)} held-out events, logistic regression on "
            f"{min(len(kinds), self.max_fit)} training events at each fraction; its decision times "
            "are not followed"
        )

    def _draw_examples(self, run: TestRun, classes: Sequence[str]) -> dict[str, Figure]:
        """Return the figure of the example events, if there are any."""
        if not self._examples:
            return {}
        examples = sorted(self._examples, key=lambda example: example.label)
        names = run.names(np.array([example.index for example in examples]))
        return {"examples": example_figure(examples, names, classes)}
