"""The classical method in the microlensing report: how badly a single lens fits."""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from callbacks.microlensing.events import BINARY, FRACTIONS
from callbacks.report.gather import Rows

Array = NDArray[Any]


class PSPLFit:
    """The probability of two lenses from the two numbers of a single-lens fit.

    The numbers are compressed to sign(x) ln(1 + |x|), for chi^2 spans decades and may be negative,
    and become a probability by logistic regression, one for each fraction of the curve.

    Args:
        scores: From index and cutoff time, shape (n,) each, to the two numbers, shape (n, 2).
    """

    name: ClassVar[str] = "pspl_fit"

    def __init__(self, scores: Callable[[Array, Array], Array]) -> None:
        self.scores = scores
        self.regressions: list[Pipeline] = []

    def fit(self, rows: Rows) -> Self:
        """Fit the regressions to events of both kinds."""
        binary = rows["label"] == BINARY
        self.regressions = [
            make_pipeline(StandardScaler(), LogisticRegression()).fit(features, binary)
            for features in self._features(rows)
        ]
        return self

    def predict(self, rows: Rows) -> Array:
        """Return the probability of two lenses at each fraction, shape (n, F)."""
        pairs = zip(self.regressions, self._features(rows), strict=True)
        return np.stack([model.predict_proba(features)[:, 1] for model, features in pairs], 1)

    def _features(self, rows: Rows) -> list[Array]:
        """Return the compressed numbers of events as seen up to each fraction, (n, 2) each."""
        columns = range(len(FRACTIONS))
        scores = [self.scores(rows["index"], rows["cutoff_time"][:, k]) for k in columns]
        return [np.sign(found) * np.log1p(np.abs(found)) for found in scores]
