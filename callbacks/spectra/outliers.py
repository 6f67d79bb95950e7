"""How well the outlier score tells junk, made of held-out spectra, from the spectra themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from callbacks.metrics.ranking import Ranking, area_under_roc
from callbacks.report.scope import Scope
from callbacks.spectra.baselines import Spectra

Array = NDArray[Any]
Generator = np.random.Generator
MAX_STARS = 300
HEIGHT = 0.1
"""Of emission lines and mean of cosmic rays, over the continuum."""


def emission_lines(spectra: Spectra, rng: Generator) -> dict[str, Array]:
    """Add one Gaussian line, two pixels in deviation, to each spectrum."""
    pixel = np.arange(spectra["flux"].shape[1])
    centre = rng.integers(len(pixel), size=(len(spectra["flux"]), 1))
    return {"flux": spectra["flux"] + HEIGHT * np.exp(-0.5 * ((pixel - centre) / 2) ** 2)}


def cosmic_rays(spectra: Spectra, rng: Generator) -> dict[str, Array]:
    """Add exponential spikes that no mask knows to one pixel in a thousand."""
    shape = spectra["flux"].shape
    spikes = rng.exponential(HEIGHT, shape) * (rng.random(shape) < 1e-3)
    return {"flux": spectra["flux"] + spikes}


def shuffled_pixels(spectra: Spectra, rng: Generator) -> dict[str, Array]:
    """Shuffle flux, error and mask together, in the same way for all."""
    order = rng.permutation(spectra["flux"].shape[1])
    return {name: spectra[name][:, order] for name in ("flux", "flux_ivar", "good")}


def foreign_labels(spectra: Spectra, rng: Generator) -> dict[str, Array]:
    """Give each star the labels of the next."""
    return {"label": np.roll(spectra["label"], 1, axis=0)}


JUNK: dict[str, Callable[[Spectra, Generator], dict[str, Array]]] = {
    kind.__name__: kind for kind in (emission_lines, cosmic_rays, shuffled_pixels, foreign_labels)
}


def add_outliers(scope: Scope, module: Any, spectra: Spectra) -> None:
    """Add the area under the ROC curve of the outlier score, junk against the same stars.

    Args:
        scope: Of the model.
        module: Its `outlier_score(batch)` is asked; without one, or without a population to
            compare with, nothing is added.
        spectra: Held-out stars, the first 300 of which serve.
    """
    if not hasattr(module, "outlier_score"):
        return
    spectra = {name: values[:MAX_STARS] for name, values in spectra.items()}
    usual = _scores(module, spectra)
    if not np.isfinite(usual).any():
        scope.report.note(
            "the model has no population to compare outliers with: train it for an epoch"
        )
        return
    for kind, spoil in JUNK.items():
        rng = np.random.default_rng(scope.bootstrap.seed)
        junk = _scores(module, {**spectra, **spoil(spectra, rng)})
        values = np.concatenate([usual, junk])
        positive = np.repeat([False, True], [len(usual), len(junk)])
        known = np.isfinite(values)
        area = area_under_roc(Ranking(positive[known], values[known]).curve())
        scope.where(junk=kind).add("outlier_auc", area, n=len(usual))


def _scores(module: Any, spectra: Spectra) -> Array:
    """Return the outlier score of each spectrum."""
    batch = {name: torch.from_numpy(values) for name, values in spectra.items()}
    batch = {
        k: (v.float() if v.is_floating_point() else v).to(module.device) for k, v in batch.items()
    }
    with torch.inference_mode():
        score: Array = module.outlier_score(batch).float().cpu().numpy()
    return score
