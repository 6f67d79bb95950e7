"""What the clustering report knows of objects, whatever a model says: values, scales, subsets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import RobustScaler

from callbacks.report.base import TestRun

Array = NDArray[Any]
ASTROMETRY = ("x", "y", "parallax", "pmra", "pmdec")
PHOTOMETRY = ("magnitude", "colour")


@runtime_checkable
class StarData(Protocol):
    """A datamodule that names the columns of `features`."""

    features: list[str]


@runtime_checkable
class ShapedModule(Protocol):
    """A module that says what it needs of a batch."""

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shape of each key that it needs, and the option that sets it."""


def sees_photometry(module: object) -> bool:
    """Return whether a module needs magnitude and colour beside the features."""
    needed = module.expected_shapes() if isinstance(module, ShapedModule) else {}
    return needed.keys() >= set(PHOTOMETRY)


@dataclass(frozen=True)
class StarSample:
    """What is known of the objects, apart from what a model says.

    Args:
        scaled: Features robust-scaled as the baselines see them (the network may take their asinh),
            absent as 0, shape (n, F).
        astrometry: x, y [deg], parallax [mas], proper motions [mas/yr], NaN where absent, shape
            (n, 5); None if these are no stars.
        parallax_error: mas, shape (n,); None if these are no stars.
        label: True classes, -1 unknown, shape (n,); None if nothing is labelled.
        magnitude: G [mag], shape (n,), or None.
        colour: BP - RP [mag], shape (n,), or None.
        motion_covariance: Of the errors of the proper motions [mas²/yr²], entries xx, xy, yy, shape
            (n, 3); None if these are no stars.
    """

    scaled: Array
    astrometry: Array | None = None
    parallax_error: Array | None = None
    label: Array | None = None
    magnitude: Array | None = None
    colour: Array | None = None
    motion_covariance: Array | None = None

    @classmethod
    def of_run(cls, run: TestRun) -> "StarSample":
        """Return the objects of a test run.

        Args:
            run: Its datamodule's `features` name the columns of `features`, and its
                `training_statistics()` scale them; without it their order is that of `ASTROMETRY`
                and the scale robust.
        """
        rows, label = run.rows, run.rows.get("label")
        features = rows["features"].astype(np.float64).reshape(len(rows["features"]), -1)
        names = feature_names(run)
        labelled = label is not None and bool((label >= 0).any())
        stars = "parallax_error" in rows
        return cls(
            scale_features(features, run),
            pick_astrometry(features, names) if stars else None,
            rows.get("parallax_error"),
            label if labelled else None,
            rows.get("magnitude"),
            rows.get("colour"),
            rows.get("motion_covariance"),
        )

    def with_photometry(self, run: TestRun) -> Array | None:
        """Return `scaled` beside magnitude and colour, scaled robustly, absent as 0, (n, F + 2).

        None if no star has a magnitude or none a colour, or if `features` hold them.

        Args:
            run: Its training split gives the scale.
        """
        if (
            self.magnitude is None
            or self.colour is None
            or set(PHOTOMETRY) & set(feature_names(run))
        ):
            return None
        photometry = np.stack([self.magnitude, self.colour], 1).astype(np.float64)
        if not np.isfinite(photometry[reference_rows(run)]).any(0).all():
            return None
        return np.concatenate([self.scaled, robust_scaled(photometry, run)], 1)

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


def feature_names(run: TestRun) -> Sequence[str]:
    """Return what the columns of `features` are; those of `ASTROMETRY` unless the data say so."""
    return run.datamodule.features if isinstance(run.datamodule, StarData) else ASTROMETRY


def pick_astrometry(features: Array, names: Sequence[str]) -> Array:
    """Return the columns of `ASTROMETRY`, NaN where the features lack one, shape (n, 5)."""
    columns, absent = dict(zip(names, features.T, strict=False)), np.full(len(features), np.nan)
    return np.stack([columns.get(name, absent) for name in ASTROMETRY], 1)


def scale_features(features: Array, run: TestRun) -> Array:
    """Return features less location over scale, absent as 0, shape (n, F).

    Location and scale are those of the datamodule's training statistics, as in the network;
    without them median and interquartile range of the training split, or of all.

    Args:
        features: Shape (n, F).
        run: With the datamodule and the splits.
    """
    statistics = {} if run.datamodule is None else run.datamodule.training_statistics()
    if {"location", "scale"} <= statistics.keys():
        location, scale = (statistics[key].numpy().ravel() for key in ("location", "scale"))
        return np.nan_to_num((features - location) / scale)
    return robust_scaled(features, run)


def reference_rows(run: TestRun) -> Array:
    """Return which rows give a scale, bool, shape (n,): the training split, or all without one."""
    training = run.split("train")
    return training if training.any() else np.ones_like(training)


def robust_scaled(values: Array, run: TestRun) -> Array:
    """Return values less their median over the interquartile range, absent as 0, shape (n, F).

    Args:
        values: Shape (n, F).
        run: With the splits, see `reference_rows`.
    """
    scaler = RobustScaler(unit_variance=True).fit(values[reference_rows(run)])
    return np.nan_to_num(scaler.transform(values))


@dataclass(frozen=True)
class Subset:
    """Objects that a number is about, and those it may learn from.

    Args:
        split: `all` or `held_out`.
        scored: Objects that are scored, bool, shape (n,).
        fitted: Objects that baselines are fitted on, bool, shape (n,).
        aligned: Objects whose labels give the columns their classes, bool, shape (n,).
    """

    split: str
    scored: Array
    fitted: Array
    aligned: Array


def make_subsets(run: TestRun) -> list[Subset]:
    """Return the transductive subset and, where there is a test split, the held-out one."""
    every = np.ones(len(run.rows["index"]), dtype=bool)
    subsets = [Subset("all", every, every, every)]
    training, held_out = run.split("train"), run.split("held_out")
    if training.any() and held_out.any():
        subsets.append(Subset("held_out", held_out, training, ~held_out))
    return subsets
