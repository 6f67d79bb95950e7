"""The report of the microlensing method: scores while events unfold, calibration, decisions."""

from dataclasses import replace
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks.microlensing.baselines import classical_subject
from callbacks.microlensing.events import (
    BINARY,
    FRACTIONS,
    HELD_OUT,
    Example,
    Subject,
    reduce_batch,
    take_examples,
)
from callbacks.microlensing.figures import example_figure, microlensing_figures
from callbacks.microlensing.scores import (
    add_bins,
    add_ceiling,
    add_decisions,
    add_subject,
    slice_name,
)
from callbacks.report.figures import save_figures, style
from callbacks.report.gather import RowCollector, Rows, check_finite
from callbacks.report.paths import log_folder
from callbacks.report.probability import Resampling
from callbacks.report.table import Report

Array = NDArray[Any]
TRAINING = 0
NUM_EXAMPLES = 3


class MicrolensingReport(Callback):
    """Writes `report.json`, `report.csv` and `figures/*.png` at the end of `test`.

    Every number is of held-out events, at 10, 25, 33, 50, 67, 83 and 100 % of the curve: of the
    time between its first and last planned epoch. A prediction there is that after the last epoch
    seen by then. The event to be found is two lenses (label 1) against all others.

    Subjects are `model`, `classical/pspl_fit` (chi^2 of a single-lens fit and its largest windowed
    residual, made a probability by logistic regression on training events, fitted anew at each
    fraction) and `signal`, what the binaries' Delta chi^2 allows. Decisions are made when the
    probability first reaches a threshold, at any epoch. Data without labels get examples only.

    Args:
        baselines: Whether to fit the classical method.
        num_resamples: Bootstrap resamples of the events for the uncertainties.
        max_classical: Events that the classical method fits at most, of each split; a random
            subsample beyond.
        seed: Fixes subsamples and resamples.
    """

    def __init__(
        self,
        baselines: bool = True,
        num_resamples: int = 200,
        max_classical: int = 2000,
        seed: int = 0,
    ) -> None:
        self.baselines = baselines
        self.max_classical = max_classical
        self.resampling = Resampling(num_resamples, seed)
        self._rows = RowCollector()
        self._examples: list[tuple[int, Example]] = []
        self._counts: dict[int, int] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what an interrupted run left."""
        self._rows.clear()
        self._examples, self._counts = [], {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what one batch contributes."""
        kept = reduce_batch(batch, outputs["probability"])
        kept |= {name: batch[name] for name in ("delta_chi2",) if name in batch}
        self._rows.add(kept)
        self._examples += take_examples(batch, outputs["probability"], self._counts, NUM_EXAMPLES)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report on rank 0."""
        rows = self._rows.gather(trainer)
        folder = log_folder(trainer)
        if not trainer.is_global_zero:
            return
        check_finite(rows, ("at_fraction",))
        datamodule = getattr(trainer, "datamodule", None)
        held_out = rows["split"] == HELD_OUT
        if not held_out.any():
            held_out |= True
        report = Report.of_run(trainer, pl_module, "microlensing", "held_out", int(held_out.sum()))
        if not (rows["split"] == HELD_OUT).any():
            report.note("the data have no test split: all events are reported as held out")
        classes = list(getattr(pl_module, "classes", ())) or _names(rows)
        with style():
            figures = self.assess(report, rows, held_out, classes, datamodule)
            figures |= self._draw_examples(datamodule, classes)
        save_figures(trainer, folder, figures, prefix="test/")
        report.write(folder)
        report.print([slice_name(0.5), slice_name(1.0), "threshold=0.90"])
        print(f"report: {folder / 'report.json'}\nfigures: {folder / 'figures'}")

    def assess(
        self, report: Report, rows: Rows, held_out: Array, classes: list[str], datamodule: Any
    ) -> dict[str, Figure]:
        """Fill the report and return the figures.

        Args:
            report: Where the numbers go.
            rows: Of all events.
            held_out: Which events are reported, shape (n,).
            classes: Names of the classes.
            datamodule: Gives parameters and classical scores of events, by index.
        """
        known = rows["label"] >= 0
        events = {name: values[held_out & known] for name, values in rows.items()}
        label = events["label"]
        report.note(_counts(label, classes))
        binary = label == BINARY
        if not 0 < binary.sum() < len(binary):
            report.note("scores need held-out events of one lens and of two: they are left out")
            return {}
        subjects = [_model(events)]
        training = {name: x[(rows["split"] == TRAINING) & known] for name, x in rows.items()}
        if self.baselines and hasattr(datamodule, "anomaly_scores"):
            subjects += self._classical(report, datamodule, training, events)
        for subject in subjects:
            add_subject(report, subject, label, classes, self.resampling)
        add_decisions(report, events["decided"], binary, self.resampling)
        parameters = _parameters(datamodule, events)
        if "delta_chi2" in parameters:
            add_ceiling(report, parameters["delta_chi2"], binary)
        for subject in subjects:
            add_bins(report, subject, label, parameters)
        return microlensing_figures(report, subjects, label, events["decided"], classes)

    def _classical(
        self, report: Report, datamodule: Any, training: Rows, events: Rows
    ) -> list[Subject]:
        """Return the classical subject, or none, and say what it is."""
        seed = self.resampling.seed
        subject = classical_subject(datamodule, training, events, self.max_classical, seed)
        if subject is None:
            report.note("classical/pspl_fit needs training events of one lens and of two")
            return []
        count = min(len(training["index"]), self.max_classical)
        report.note(
            f"classical/pspl_fit: {len(subject.rows)} held-out events, logistic regression on "
            f"{count} training events at each fraction; its decision times are not followed"
        )
        return [subject]

    def _draw_examples(self, datamodule: Any, classes: list[str]) -> dict[str, Figure]:
        """Return the figure of the example events, if there are any."""
        if not self._examples:
            return {}
        index = np.array([number for number, _ in self._examples])
        names = datamodule.names(index) if hasattr(datamodule, "names") else index
        pairs = zip(self._examples, names, strict=True)
        named = [replace(example, name=str(name)) for (_, example), name in pairs]
        named = sorted(named, key=lambda example: example.label)
        return {"examples": example_figure(named, classes)}


def _model(events: Rows) -> Subject:
    """Return the model's own answers."""
    probability = events["at_fraction"].astype(np.float64)
    rows = np.arange(len(probability))
    return Subject("model", rows, probability[..., BINARY], probability.argmax(-1), classes=True)


def _parameters(datamodule: Any, events: Rows) -> dict[str, Array]:
    """Return parameters of the events in their order, with `delta_chi2` of the batch."""
    found: dict[str, Array] = {}
    if hasattr(datamodule, "parameters"):
        found = dict(datamodule.parameters(events["index"]))
    if "delta_chi2" in events:
        found["delta_chi2"] = events["delta_chi2"]
    return found


def _counts(label: Array, classes: list[str]) -> str:
    """Say how many held-out events of each class there are."""
    parts = [f"{int((label == number).sum())} {name}" for number, name in enumerate(classes)]
    return f"held-out events with a label: {', '.join(parts)}; fractions are {list(FRACTIONS)}"


def _names(rows: Rows) -> list[str]:
    """Name classes of a module that does not."""
    return [f"class_{number}" for number in range(rows["at_fraction"].shape[-1])]
