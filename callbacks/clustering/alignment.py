"""The vocabulary of the clustering report: objects, slices, clusterings and their alignment."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import RobustScaler

from callbacks.metrics.contingency import align, contingency
from callbacks.report.gather import Rows

Array = NDArray[Any]
ASTROMETRY = ("x", "y", "parallax", "pmra", "pmdec")
HELD_OUT = 2  # code of the test split in `split`


@dataclass(frozen=True)
class Objects:
    """What is known of the objects, apart from what a model says.

    Args:
        scaled: Features robust-scaled as the baselines see them (the network may take their asinh),
            absent as 0, shape (n, F).
        astrometry: x, y [deg], parallax [mas], proper motions [mas/yr], NaN where absent, shape
            (n, 5); None if these are no stars.
        parallax_error: mas, shape (n,); None if these are no stars.
        label: True classes, -1 unknown, shape (n,); None if nothing is labelled.
        split: 0 train, 1 validation, 2 test, shape (n,); None if not known.
        magnitude: G [mag], shape (n,), or None.
        colour: BP - RP [mag], shape (n,), or None.
    """

    scaled: Array
    astrometry: Array | None = None
    parallax_error: Array | None = None
    label: Array | None = None
    split: Array | None = None
    magnitude: Array | None = None
    colour: Array | None = None

    @classmethod
    def from_rows(cls, rows: Rows, datamodule: object = None) -> "Objects":
        """Return the objects of gathered rows.

        Args:
            rows: `features` and what else the batch had.
            datamodule: Its `features` name the columns of `features` and its
                `training_statistics()` scale them; without it their order is that of `ASTROMETRY`
                and the scale robust.
        """
        features, label = rows["features"].astype(np.float64), rows.get("label")
        features = features.reshape(len(features), -1)
        names = getattr(datamodule, "features", ASTROMETRY)
        labelled = label is not None and bool((label >= 0).any())
        stars = "parallax_error" in rows
        return cls(
            scale_features(features, rows.get("split"), datamodule),
            pick_astrometry(features, names) if stars else None,
            rows.get("parallax_error"),
            label if labelled else None,
            rows.get("split"),
            rows.get("magnitude"),
            rows.get("colour"),
        )

    @property
    def has_field(self) -> bool:
        """Whether class 0 is the field: true of star catalogues."""
        return self.parallax_error is not None

    @property
    def num_classes(self) -> int | None:
        """Number of classes that are among the labels, and the field; None without labels."""
        if self.label is None:
            return None
        field = {0} if self.has_field else set()
        return max(2, len(set(self.label[self.label >= 0].tolist()) | field))


def pick_astrometry(features: Array, names: Sequence[str]) -> Array:
    """Return the columns of `ASTROMETRY`, NaN where the features lack one, shape (n, 5)."""
    result = np.full((len(features), len(ASTROMETRY)), np.nan)
    for i, name in enumerate(ASTROMETRY):
        if name in names:
            result[:, i] = features[:, list(names).index(name)]
    return result


def scale_features(features: Array, split: Array | None, datamodule: object = None) -> Array:
    """Return features less location over scale, absent as 0, shape (n, F).

    Location and scale are those of the datamodule's training statistics, as in the network;
    without them median and interquartile range of the training split, or of all.
    """
    if hasattr(datamodule, "training_statistics"):
        statistics = datamodule.training_statistics()
        if {"location", "scale"} <= statistics.keys():
            location, scale = (statistics[key].numpy().ravel() for key in ("location", "scale"))
            return np.nan_to_num((features - location) / scale)
    reference = features if split is None or not (split == 0).any() else features[split == 0]
    scaler = RobustScaler(unit_variance=True).fit(reference)
    return np.nan_to_num(scaler.transform(features))


@dataclass(frozen=True)
class Slice:
    """Objects that a number is about, and those it may learn from.

    Args:
        name: `split=all` or `split=held_out`.
        scored: Objects that are scored, bool, shape (n,).
        fitted: Objects that baselines are fitted on, bool, shape (n,).
        aligned: Objects whose labels give the columns their classes, bool, shape (n,).
    """

    name: str
    scored: Array
    fitted: Array
    aligned: Array


def make_slices(objects: Objects) -> list[Slice]:
    """Return the transductive slice and, where there is a test split, the held-out one."""
    every = np.ones(len(objects.scaled), dtype=bool)
    slices = [Slice("split=all", every, every, every)]
    if objects.split is not None and {0, HELD_OUT} <= set(np.unique(objects.split).tolist()):
        held_out = objects.split == HELD_OUT
        slices.append(Slice("split=held_out", held_out, objects.split == 0, ~held_out))
    return slices


@dataclass(frozen=True)
class Clustering:
    """One subject's answer for all objects.

    Args:
        subject: Its name in the report.
        assignment: Column of each object, 0..K-1, shape (n,).
        probability: Soft membership in each column, shape (n, K); None for a hard clustering.
        num_columns: K.
        field_column: The column that means "no cluster" by construction (HDBSCAN's noise).
    """

    subject: str
    assignment: Array
    probability: Array | None
    num_columns: int
    field_column: int | None = None

    def take(self, rows: Array) -> "Clustering":
        """Return the answer for some of the objects."""
        soft = None if self.probability is None else self.probability[rows]
        return replace(self, assignment=self.assignment[rows], probability=soft)


def align_columns(clustering: Clustering, label: Array, has_field: bool) -> Array:
    """Return the class of each column by Hungarian on labelled objects.

    Columns carry no names, so this is the one place where labels meet a clustering. A column that
    means "no cluster" (HDBSCAN's noise) is field, and the others compete for all classes, the
    field among them, since a method may find the field both as noise and as a cluster.

    Args:
        clustering: The answer for the objects to align on.
        label: True classes, 0 the field if there is one, -1 unknown, shape (n,).
        has_field: Whether class 0 is the field.

    Returns:
        Classes, shape (K,); -1 for the columns left over.
    """
    classes = max(2, int(label.max(initial=0)) + 1)
    table = contingency(label, clustering.assignment, classes, clustering.num_columns)
    free = np.ones(clustering.num_columns, dtype=bool)
    if clustering.field_column is not None and has_field:
        free[clustering.field_column] = False
    alignment = np.zeros(clustering.num_columns, dtype=np.int64)
    alignment[free] = align(table[:, free])
    return alignment


def membership(clustering: Clustering, alignment: Array) -> Array:
    """Return each star's probability to belong to any cluster, shape (n,).

    The sum over columns aligned with a cluster; columns left over count as field. A hard clustering
    gives 0 or 1.
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
    assert clustering.probability is not None
    chosen = np.take_along_axis(clustering.probability, clustering.assignment[:, None], 1)[:, 0]
    return np.clip(chosen.astype(np.float64), 0, 1), alignment[clustering.assignment] == label


@dataclass(frozen=True)
class Answer:
    """A clustering and what its columns mean.

    Args:
        clustering: For all objects.
        alignment: Class of each column, shape (K,); None without labels.
    """

    clustering: Clustering
    alignment: Array | None
