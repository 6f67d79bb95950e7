"""One part of a report: a subject on some objects, to which whole families of scores are added."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import r2_score

from callbacks.metrics.calibration import ReliabilityTable, reliability_table
from callbacks.metrics.contingency import contingency
from callbacks.metrics.ranking import (
    Ranking,
    area_under_roc,
    average_precision,
    completeness_at_purity,
    divide,
)
from callbacks.report.bootstrap import Bootstrap
from callbacks.report.table import Report

Array = NDArray[Any]
FLOOR = 1e-6
NUM_BINS = 15


@dataclass(frozen=True)
class Scope:
    """A subject of a report and the slice that its numbers are of.

    Args:
        report: Where the numbers go.
        subject: `model`, `model_<variant>` or `baseline/<name>`.
        bootstrap: Of the objects that the numbers are of.
        slice: `<name>=<value>`, several joined by `/`, or empty.
    """

    report: Report
    subject: str
    bootstrap: Bootstrap
    slice: str = ""

    def where(self, **slices: Any) -> "Scope":
        """Return the scope of a narrower slice.

        Args:
            slices: Name to value; a float is written with two decimals, a pair as `low..high`.
        """
        parts = [f"{name}={_written(value)}" for name, value in slices.items()]
        return replace(self, slice="/".join(part for part in (self.slice, *parts) if part))

    def of(self, rows: Array) -> "Scope":
        """Return the scope of some of its objects, by mask or positions, in the same slice."""
        return replace(self, bootstrap=self.bootstrap.take(rows))

    def add(
        self,
        metric: str,
        value: SupportsFloat,
        std: SupportsFloat | None = None,
        n: int | None = None,
    ) -> None:
        """Add one number; see `Row`."""
        self.report.add(self.subject, metric, value, self.slice, std, n)

    def mean(self, metric: str, values: Array) -> None:
        """Add a mean over objects, values of shape (n,), with its bootstrap deviation."""
        self.ratio(metric, values, np.ones(len(values)))

    def ratio(self, metric: str, part: Array, whole: Array) -> None:
        """Add a ratio of two sums over objects with its bootstrap deviation.

        Args:
            metric: Its name.
            part: Summed above the line, shape (n,).
            whole: Summed below the line, shape (n,).
        """
        both = np.stack([part, whole], 1)
        std = self.bootstrap.std(both, lambda sums: divide(sums[:, 0], sums[:, 1]))
        value = divide(np.sum(part, dtype=np.float64), np.sum(whole, dtype=np.float64))
        self.add(metric, value, std, len(part))

    def share(self, metric: str, happened: Array) -> None:
        """Add the share of objects, shape (n,) bool, with its standard deviation."""
        count = len(happened)
        if self.bootstrap.groups is not None and count:
            self.mean(metric, happened)
            return
        share = float(happened.mean()) if count else float("nan")
        # What a bootstrap over objects would give.
        self.add(metric, share, (share * (1 - share) / max(count, 1)) ** 0.5, count)

    def probability(self, p: Array, y: Array) -> None:
        """Add Brier score, log-loss (natural) and expected calibration error of an event.

        Probabilities are clipped to [1e-6, 1 - 1e-6] in the log-loss, so that one sure mistake does
        not make it infinite.

        Args:
            p: Probability of the event, shape (n,).
            y: Whether it happened, shape (n,).
        """
        n, clipped = len(p), np.clip(p, FLOOR, 1 - FLOOR)
        squares, logs = (p - y) ** 2, -np.where(y, np.log(clipped), np.log1p(-clipped))
        self.mean("brier", squares)
        self.mean("log_loss", logs)
        table = reliability_table(y, p, NUM_BINS)
        self.add("ece", table.error, self._ece_std(table, p, y), n)

    def _ece_std(self, table: ReliabilityTable, p: Array, y: Array) -> float:
        """Return the deviation of the calibration error, outcomes resampled within its bins."""
        if self.bootstrap.groups is None:
            rng = np.random.default_rng(self.bootstrap.seed)
            shape = (self.bootstrap.num_resamples, len(table.num_objects))
            sizes = np.broadcast_to(table.num_objects, shape)
            drawn = rng.binomial(sizes, np.clip(table.frequency, 0, 1)) / sizes
            errors = np.average(np.abs(drawn - table.probability), axis=1, weights=sizes[0])
            return float(errors.std())
        edges = np.concatenate([[0], np.cumsum(table.num_objects)])
        place = np.searchsorted(edges, np.argsort(np.argsort(p, kind="stable")), side="right") - 1
        inside = np.eye(len(table.num_objects))[place]
        gaps = np.column_stack([inside * (y - p)[:, None], np.ones(len(p))])
        return float(
            self.bootstrap.std(gaps, lambda sums: np.abs(sums[:, :-1]).sum(1) / sums[:, -1])
        )

    def ranking(self, p: Array, y: Array, purities: Sequence[float] = ()) -> None:
        """Add the areas under the ROC and precision-recall curves and completeness at purities.

        Args:
            p: Score that rises with the probability of the event, shape (n,).
            y: Whether it happened, shape (n,).
            purities: Purities of the selections whose completeness is given.
        """
        ranking = Ranking(y, p)

        def measure(weights: Array | None) -> list[float]:
            curve = ranking.curve(weights)
            pure = [completeness_at_purity(curve, purity) for purity in purities]
            return [area_under_roc(curve), average_precision(curve), *pure]

        stds = self.bootstrap.std_weighted(len(p), measure)
        scopes = [self, self, *(self.where(purity=float(purity)) for purity in purities)]
        names = ["auc", "average_precision", *["completeness"] * len(purities)]
        for scope, name, value, std in zip(scopes, names, measure(None), stds, strict=True):
            scope.add(name, value, std, len(p))

    def classes(self, predicted: Array, true: Array, names: Sequence[str]) -> None:
        """Add the confusion matrix, and precision, recall and F1 of each class.

        Args:
            predicted: Class of each object, 0..C-1, shape (n,).
            true: Shape (n,).
            names: Of the C classes.
        """
        count = len(names)
        table = contingency(true, predicted, count, count)
        for row, name in enumerate(names):
            scope = self.where(**{"class": name})
            found, own, right = table[:, row].sum(), table[row].sum(), table[row, row]
            scope.add("precision", divide(right, found), n=int(found))
            scope.add("recall", divide(right, own), n=int(own))
            scope.add("f1", divide(2 * right, found + own), n=int(own))
            for column, other in enumerate(names):
                cell = self.where(true=name, predicted=other)
                cell.add("confusion", int(table[row, column]), n=int(own))

    def regression(self, predicted: Array, true: Array, suffix: str = "") -> float:
        """Add R^2, which is returned, and the rms error of a regression, in the values' units.

        Args:
            predicted: Shape (n,).
            true: Shape (n,).
            suffix: Put behind the names `r2` and `rmse`, such as `_ridge`.
        """
        value = float(r2_score(true, predicted))
        error = np.square(true - predicted)
        stds = self.bootstrap.std(
            np.stack([error, true, np.square(true), np.ones(len(true))], 1), _r2_and_rmse
        )
        self.add(f"r2{suffix}", value, stds[0], len(true))
        self.add(f"rmse{suffix}", np.sqrt(error.mean()), stds[1], len(true))
        return value

    def by_bins(
        self, name: str, values: Array, edges: Sequence[float]
    ) -> Iterator[tuple["Scope", Array]]:
        """Yield the scope and the mask of the objects of each bin of a quantity that holds any.

        Args:
            name: Of the quantity.
            values: Shape (n,); NaN is in no bin.
            edges: Of the bins, rising; a bin holds its lower edge.
        """
        for low, high in pairwise(edges):
            inside = (values >= low) & (values < high)
            if inside.any():
                yield self.where(**{name: (low, high)}), inside


def _written(value: Any) -> str:
    """Return a value as slices have it."""
    if isinstance(value, tuple):
        return "..".join(f"{edge:g}" for edge in value)
    return f"{value:.2f}" if isinstance(value, float | np.floating) else str(value)


def _r2_and_rmse(sums: Array) -> Array:
    """Return R^2 and rms error from sums of error^2, value, value^2 and 1, shape (R, 2)."""
    error, value, square, count = sums.T
    return np.stack([1 - error / (square - value**2 / count), np.sqrt(error / count)], 1)
