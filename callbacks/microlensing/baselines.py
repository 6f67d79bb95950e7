"""The classical method in the microlensing report: how badly a single lens fits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from callbacks.microlensing.events import BINARY, FRACTIONS, Subject
from callbacks.report.gather import Rows
from callbacks.report.projector import subsample

Array = NDArray[Any]
NAME = "classical/pspl_fit"


def classical_subject(
    datamodule: Any, training: Rows, reported: Rows, size: int, seed: int
) -> Subject | None:
    """Return the probability of two lenses from the two numbers of a single-lens fit.

    The numbers, `datamodule.anomaly_scores`, are compressed to sign(x) ln(1 + |x|) and become
    a probability by logistic regression, one for each fraction of the curve, fitted on events of
    the training split.

    Args:
        datamodule: Fits the light curves.
        training: Labelled rows of the training split.
        reported: Labelled rows that are reported.
        size: Events that are fitted at most, of each.
        seed: Fixes the subsamples.

    Returns:
        The subject; None if the training rows do not have both single and double lenses.
    """
    chosen = subsample(len(training["index"]), size, seed)
    outcome = training["label"][chosen] == BINARY
    if not 0 < outcome.sum() < len(outcome):
        return None
    rows = subsample(len(reported["index"]), size, seed)
    probability = np.empty((len(rows), len(FRACTIONS)))
    for column in range(len(FRACTIONS)):
        features = _features(datamodule, training, chosen, column)
        regression = fit_regression(features, outcome)
        found = regression.predict_proba(_features(datamodule, reported, rows, column))
        probability[:, column] = found[:, 1]
    predicted = np.where(probability >= 0.5, BINARY, 0)
    return Subject(NAME, rows, probability, predicted, classes=False)


def fit_regression(features: Array, outcome: Array) -> Pipeline:
    """Fit logistic regression on standardised features.

    Args:
        features: Shape (n, 2).
        outcome: Whether there are two lenses, shape (n,).
    """
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, outcome)


def compress(scores: Array) -> Array:
    """Return sign(x) ln(1 + |x|): chi^2 spans decades and may be negative."""
    return np.sign(scores) * np.log1p(np.abs(scores))


def _features(datamodule: Any, rows: Rows, chosen: Array, column: int) -> Array:
    """Return the compressed numbers of events as seen up to one fraction, shape (n, 2)."""
    return compress(datamodule.anomaly_scores(rows["index"][chosen], rows["until"][chosen, column]))
