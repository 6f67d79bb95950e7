"""Clusterings, and which class each of their columns is."""

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from callbacks.metrics.contingency import align, align_by_f1, contingency
from callbacks.report.gather import Rows

Array = NDArray[Any]


@runtime_checkable
class FieldModule(Protocol):
    """A module that knows the field: one of its columns is "no cluster" by construction."""

    field_column: int | None
    """That column of `probability`; None if the columns have no names."""


@dataclass(frozen=True)
class Clustering:
    """One subject's answer for all objects.

    Args:
        assignment: Column of each object, 0..K-1, shape (n,).
        probability: Soft membership in each column, shape (n, K); None for a hard clustering.
        num_columns: K.
        field_column: The column that means "no cluster" by construction (HDBSCAN's noise, or the
            field of a mixture).
        subject: Its name in the report.
        alignment: Class of each column, shape (K,); None without labels.
    """

    assignment: Array
    probability: Array | None
    num_columns: int
    field_column: int | None = None
    subject: str = ""
    alignment: Array | None = None

    @property
    def strength(self) -> Array:
        """Probability of each object's own column, shape (n,); 1 for a hard clustering."""
        if self.probability is None:
            return np.ones(len(self.assignment))
        return np.take_along_axis(self.probability, self.assignment[:, None], 1)[:, 0]

    def probability_of(self, column: int) -> Array:
        """Return the probability of a column, shape (n,); 0 or 1 for a hard clustering."""
        if self.probability is None:
            return (self.assignment == column).astype(np.float64)
        return self.probability[:, column].astype(np.float64)

    def take(self, rows: Array) -> "Clustering":
        """Return the answer for some of the objects."""
        soft = None if self.probability is None else self.probability[rows]
        return replace(self, assignment=self.assignment[rows], probability=soft)


def answer_of(rows: Rows, module: object) -> Clustering:
    """Return what a trained module says of the objects.

    Args:
        rows: With its `assignment`, and its `probability` if it has one.
        module: May be a `FieldModule`.
    """
    soft = rows.get("probability")
    columns = int(rows["assignment"].max()) + 1 if soft is None else soft.shape[1]
    field = module.field_column if isinstance(module, FieldModule) else None
    return Clustering(rows["assignment"], soft, columns, field)


def align_columns(clustering: Clustering, label: Array, has_field: bool) -> Array:
    """Return the class of each column by the labels of some objects.

    Columns carry no names, so this is the one place where labels meet a clustering. With a field
    the F1 of membership decides which columns are clusters (`align_by_f1`): counts of right objects
    would call the column of a rare cluster field. A column that means "no cluster" is field, and
    the others may be field too, since a method may find it both as noise and as a cluster. Without
    a field it is the Hungarian method on counts.

    Args:
        clustering: The answer for the objects to align on.
        label: True classes, 0 the field if there is one, -1 unknown, shape (n,).
        has_field: Whether class 0 is the field.

    Returns:
        Classes, shape (K,): -1 for further columns of the field, or without a field for those left
        over; a number beyond the labels for further columns of members.
    """
    classes = max(2, int(label.max(initial=0)) + 1)
    table = contingency(label, clustering.assignment, classes, clustering.num_columns)
    return align_by_f1(table, clustering.field_column) if has_field else align(table)


def membership(clustering: Clustering, alignment: Array) -> Array:
    """Return each star's probability to belong to any cluster, shape (n,).

    The sum over columns aligned with a cluster. A hard clustering gives 0 or 1.
    """
    if clustering.probability is None:
        return (alignment[clustering.assignment] > 0).astype(np.float64)
    return np.clip(clustering.probability[:, alignment > 0].sum(1, dtype=np.float64), 0.0, 1.0)


def event(
    clustering: Clustering, label: Array, alignment: Array, has_field: bool
) -> tuple[Array, Array]:
    """Return the probability that is checked and whether its event happened, each shape (n,).

    With a field: membership in any cluster. Without: that the object's most likely class is its
    true one (top-label calibration).
    """
    if has_field:
        return membership(clustering, alignment), label > 0
    chosen = clustering.strength.astype(np.float64).clip(0, 1)
    return chosen, alignment[clustering.assignment] == label
