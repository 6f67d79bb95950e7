"""The figures of the report of spectra."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks.report.table import Report
from callbacks.spectra.audit import element_windows
from callbacks.spectra.drawings import (
    chi2_figure,
    example_figure,
    recovery_figure,
    residual_figure,
)
from callbacks.spectra.fidelity import star_chi2
from callbacks.spectra.latent_drawings import (
    corner_figures,
    correlation_figure,
    kl_figure,
    traversal_figure,
)
from callbacks.spectra.latents import Subject, correlation_matrix
from callbacks.spectra.recovery import Targets, meanings
from callbacks.spectra.subjects import examples

Array = NDArray[Any]
EXAMPLES = {"best 10 %": 0.1, "median": 0.5, "worst 5 %": 0.95}
"""Title to the quantile of chi^2 of an example."""


def spectra_figures(
    report: Report,
    subjects: Sequence[Subject],
    targets: Targets | None,
    label: Array,
    known: Sequence[int],
    module: Any,
    datamodule: Any,
    seed: int,
    earlier: Mapping[str, Array],
) -> dict[str, Figure]:
    """Return all figures by name.

    Args:
        report: Filled.
        subjects: The model first.
        targets: What was told from the latents, if anything.
        label: Of the held-out stars, shape (n, L).
        known: Labels that enough stars have.
        module: The model.
        datamodule: Gives spectra, names and catalogue.
        seed: Fixes the stars shown.
        earlier: Correlations of latents and labels of other models, by their names.
    """
    model, wavelength = subjects[0], datamodule.wavelength
    assert model.latent is not None
    index = model.scores["index"]
    texts = meanings(model.latent, targets) if targets is not None and targets.scored else []
    catalogue = {
        **datamodule.catalogue(index).columns,
        **dict(zip(datamodule.labels, label.T, strict=True)),
    }
    matrices = {
        subject.name: correlation_matrix(subject.latent, label[:, known])
        for subject in subjects
        if subject.latent is not None
    }
    figures = {
        "residuals": residual_figure(
            subjects, wavelength, datamodule.grid.chips, element_windows(datamodule)
        ),
        "examples": _examples(module, datamodule, model),
        "chi2": chi2_figure(subjects),
        "correlations": correlation_figure(
            {**matrices, **earlier}, [datamodule.labels[place] for place in known]
        ),
        "kl": kl_figure(model, texts),
        "traversals": traversal_figure(module, model, label, wavelength, texts),
        **corner_figures(model, catalogue, seed),
    }
    for metric in ("r2_ridge", "r2_boosting"):
        figure = recovery_figure(report, metric)
        figures |= {} if figure is None else {metric.replace("r2", "recovery"): figure}
    return figures


def _examples(module: Any, datamodule: Any, model: Subject) -> Figure:
    """Return the figure of a good, a middling and a bad reconstruction."""
    chi2 = star_chi2(model.scores)
    order = np.argsort(np.where(np.isfinite(chi2), chi2, np.inf), kind="stable")
    known = int(np.isfinite(chi2).sum())
    chosen = [int(order[int(share * (known - 1))]) for share in EXAMPLES.values()]
    split = "test" if len(datamodule.rows["test"]) else "all"
    index = model.scores["index"][chosen]
    spectra = examples(module, datamodule, split, index)
    names = [
        rf"{name} ({title}): $\chi^2$ per pixel {chi2[row]:.2f}"
        for name, title, row in zip(datamodule.names(index), EXAMPLES, chosen, strict=True)
    ]
    return example_figure(spectra, names, datamodule.wavelength)
