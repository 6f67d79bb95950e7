"""What every method's report is made of: rows of a test run, gathered, scored, drawn, written."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from astropy.table import Table
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from callbacks.report.beside import Beside
from callbacks.report.bootstrap import Bootstrap, subsample
from callbacks.report.figures import save_figures, style, tensorboard_writers
from callbacks.report.gather import RowGatherer, Rows, check_finite
from callbacks.report.parts import add_parts, kept_parts
from callbacks.report.paths import log_folder
from callbacks.report.quantities import to_markdown
from callbacks.report.scope import Scope
from callbacks.report.table import Provenance, Report, run_facts

Array = NDArray[Any]
Mask = NDArray[np.bool_]
SPLITS = {"train": 0, "val": 1, "held_out": 2}
"""Name of a split to its code in a batch's `split`."""


@runtime_checkable
class NamedData(Protocol):
    """A datamodule that knows the objects' own ids."""

    def names(self, index: Array) -> Array:
        """Return the ids (int64 or string) of rows of the data, shape (n,)."""


@runtime_checkable
class ReportData(NamedData, Provenance, Protocol):
    """What every report asks of a datamodule; `BaseDataModule` gives all of it."""

    def catalogue(self, index: Array) -> Table:
        """Return what is known of objects, one row each."""

    def groups(self, index: Array) -> Array | None:
        """Return the group of each object, shape (n,), or None if they have none."""

    def batches(self, split: str, keys: Sequence[str] | None = None) -> Iterator[dict[str, Tensor]]:
        """Yield the objects of a split in order."""

    def training_statistics(self) -> dict[str, Tensor]:
        """Return what modules are fitted to."""


class Baseline(Protocol):
    """A classical method that stands beside the model in its report."""

    @property
    def name(self) -> str:
        """Its name in the report, behind `baseline/`."""

    def fit(self, rows: Rows) -> Self:
        """Fit to objects of the training split and return itself."""

    def predict(self, rows: Rows) -> Any:
        """Return what the method says of objects, as the method's report wants it."""


AnyBaseline = TypeVar("AnyBaseline", bound=Baseline)


@dataclass
class TestRun:
    """What a report is made of.

    Args:
        report: To be filled.
        rows: What was kept of every tested object, sorted by index.
        module: The model.
        datamodule: The data.
        bootstrap: Of all rows.
        folder: Of the run's files.
        use_baselines: Whether baselines are asked for.
        max_fit: Objects that a baseline is fitted on at most.
        beside: Name to what another trained run's `test_step` says of the same rows; see
            `ReportCallback`.
    """

    __test__ = False  # no test of pytest's

    report: Report
    rows: Rows
    module: Any
    datamodule: Any
    bootstrap: Bootstrap
    folder: Path
    use_baselines: bool = True
    max_fit: int = 20000
    beside: dict[str, Rows] = field(default_factory=dict)

    def split(self, name: Literal["train", "val", "held_out"]) -> Mask:
        """Return which rows are of a split, shape (n,)."""
        unknown = np.full(len(self.rows["index"]), SPLITS["held_out"])
        return np.asarray(self.rows.get("split", unknown) == SPLITS[name])

    def held_out(self) -> Mask:
        """Return the rows that no training saw, (n,); all, with a note, without a test split."""
        found = self.split("held_out")
        if "split" not in self.rows:
            self.report.note(
                "the batches have no split: all objects count as held out, though the "
                "model may have been trained on them"
            )
        if not found.any():
            found[:] = True
            self.report.note("the data have no test split: all objects are reported as held out")
        self.report.covers("held_out", int(found.sum()))
        return found

    def select(self, where: Array) -> Rows:
        """Return some of the rows, by mask or positions."""
        return {name: values[where] for name, values in self.rows.items()}

    def scope(self, subject: str, where: Array | None = None, **slices: Any) -> Scope:
        """Return where numbers of a subject on some of the rows go.

        Args:
            subject: `model`, `model_<variant>` or `baseline/<name>`.
            where: Mask or positions of the rows; None is all.
            slices: Name to value of the slice, such as `split="held_out"`.
        """
        return Scope(self.report, subject, self.bootstrap.take(where)).where(**slices)

    def catalogue(self, where: Array) -> Table:
        """Return what the datamodule knows of some of the rows; no columns without a datamodule."""
        index = self.rows["index"][where]
        return Table() if self.datamodule is None else self.datamodule.catalogue(index)

    def names(self, index: Array) -> list[str]:
        """Return the names of objects; their row numbers without a datamodule."""
        found = index if self.datamodule is None else self.datamodule.names(index)
        return [str(name) for name in found]

    def fit(self, model: AnyBaseline, fitted: Array) -> AnyBaseline:
        """Return a method fitted on at most `max_fit` random ones of some rows.

        Args:
            model: Not fitted yet.
            fitted: Mask of the rows to fit on.
        """
        rows = np.flatnonzero(fitted)
        return model.fit(self.select(rows[subsample(len(rows), self.max_fit, self.bootstrap.seed)]))

    def baselines(
        self, *models: Baseline, fitted: Array, scored: Array | None = None
    ) -> Iterator[tuple[str, Any]]:
        """Yield each baseline's subject and predictions, if baselines are asked for.

        Args:
            models: Not fitted yet.
            fitted: Mask of the rows to fit on, of which a subsample of `max_fit` is taken.
            scored: Mask or positions of the rows to predict; None is all.
        """
        rows = self.rows if scored is None else self.select(scored)
        for model in models if self.use_baselines else ():
            yield f"baseline/{model.name}", self.fit(model, fitted).predict(rows)


class ReportCallback(Callback, ABC):
    """Writes `report.json`, `report.csv` and `figures/*.png` at the end of `test`.

    A method names the keys that it keeps and fills the report in `evaluate`; gathering over ranks,
    checking, styling, saving and printing are done here. Rank 0 alone evaluates.

    Args:
        baselines: Whether to fit the baselines.
        num_resamples: Bootstrap resamples of the objects for the uncertainties.
        max_fit: Objects that a baseline is fitted on at most; a random subsample beyond.
        seed: Fixes subsamples, resamples and the baselines' starts.

    Attributes:
        beside: Name to another trained model of the method, to be scored on the same rows. It must
            have been trained on the same split; `astrolit test --beside.NAME RUN` sees to that.
    """

    method: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]]
    """Keys of `test_step`'s answer that are kept, where it has them; they must be finite."""
    inputs: ClassVar[tuple[str, ...]] = ("label", "split")
    """Keys of the batch that are kept, where it has them."""
    shown: ClassVar[tuple[str, ...]] = ("",)
    """Slices that are printed."""
    shows_beside: ClassVar[bool] = False
    """Whether `evaluate` shows what `run.beside` says; `--beside` is refused if it does not."""
    own_subjects: ClassVar[tuple[str, ...]] = ()
    """Names that a run beside cannot have, since a baseline of the report has them."""

    def __init__(
        self,
        baselines: bool = True,
        num_resamples: int = 200,
        max_fit: int = 20000,
        seed: int = 0,
    ) -> None:
        self.baselines = baselines
        self.num_resamples = num_resamples
        self.max_fit = max_fit
        self.seed = seed
        self.beside: dict[str, LightningModule] = {}
        self._rows = RowGatherer()
        self._beside = Beside({}, self.outputs, self.own_subjects)

    @abstractmethod
    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        """Fill `run.report` and return the figures, if any, by name."""

    def begin(self, module: LightningModule, data: ReportData | None) -> None:
        """Get ready for a run; refuse data that the report cannot ask."""

    def reduce(self, batch: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what is kept of a batch: tensors with first axis the objects, `index` among them.

        Args:
            batch: As the datamodule documents it.
            outputs: What `test_step` returned.
        """
        kept = {name: outputs[name] for name in ("index", *self.outputs) if name in outputs}
        kept |= kept_parts(outputs)
        return kept | {name: batch[name] for name in self.inputs if name in batch}

    def gather(self, trainer: Trainer) -> None:
        """Sum over ranks what is kept beside the rows; every rank calls this."""

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what an interrupted run left."""
        self._rows.clear()
        self._beside = Beside(self.beside, self.outputs, self.own_subjects)
        self._beside.start(pl_module.device)
        self.begin(pl_module, report_data(trainer, type(self).__name__))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        *args: Any,
    ) -> None:
        """Keep what one batch contributes."""
        self._rows.add(self.reduce(batch, outputs))
        self._beside.add(trainer, batch, batch_idx)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report on rank 0."""
        rows = self._rows.gather(trainer)
        self.gather(trainer)
        folder = log_folder(trainer)
        check_finite(rows, self.outputs)  # all ranks hold all rows and so fail together
        beside = self._beside.gather(trainer)
        if not trainer.is_global_zero:
            return
        data = report_data(trainer, type(self).__name__)
        groups = None if data is None else data.groups(rows["index"])
        groups = None if groups is None else np.asarray(groups)
        report = Report(self.method, **run_facts(trainer, pl_module))
        bootstrap = Bootstrap(self.num_resamples, self.seed, groups)
        options = (self.baselines, self.max_fit, beside)
        run = TestRun(report, rows, pl_module, data, bootstrap, folder, *options)
        for line in self._beside.notes():
            report.note(line)
        with style():
            save_figures(trainer, folder, self.evaluate(run), prefix="test/")
        add_parts(run)
        for writer in tensorboard_writers(trainer):
            for name, table in report.tables.items():
                writer.add_text(f"test/{name}", to_markdown(table), trainer.global_step)
        report.write(folder)
        report.print(self.shown)
        print(f"report: {folder / 'report.json'}\nfigures: {folder / 'figures'}")


def report_data(trainer: Trainer, owner: str) -> ReportData | None:
    """Return the trainer's datamodule, if it has one.

    Args:
        trainer: Of the run.
        owner: Who asks, for the message.

    Raises:
        ValueError: If the datamodule lacks what reports ask of it.
    """
    data = getattr(trainer, "datamodule", None)
    if data is None or isinstance(data, ReportData):
        return data
    asked = sorted(name for name in dir(ReportData) if not name.startswith("_"))
    missing = ", ".join(name for name in asked if not hasattr(data, name))
    raise ValueError(
        f"{owner} cannot ask {type(data).__name__} for {missing}: make it a subclass of "
        "datamodules.base.BaseDataModule"
    )
