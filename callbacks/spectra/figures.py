"""The figures of the report of spectra."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks.metrics.disentanglement import correlations
from callbacks.report.base import TestRun
from callbacks.report.plots import subject_colours
from callbacks.spectra.drawings import (
    chi2_figure,
    example_figure,
    recovery_figure,
    residual_figure,
    target_name,
)
from callbacks.spectra.fidelity import star_chi2
from callbacks.spectra.latent_drawings import (
    corner_figures,
    correlation_figure,
    kl_figure,
    traversal_figure,
)
from callbacks.spectra.latents import correlation_matrix
from callbacks.spectra.predictions import Predictions, SpectraData, examples
from callbacks.spectra.recovery import RecoveryTargets

Array = NDArray[Any]
EXAMPLES = {"best 10 %": 0.1, "median": 0.5, "worst 5 %": 0.95}
"""Title to the quantile of chi^2 of an example."""


@dataclass(frozen=True)
class Findings:
    """What the report has found, to be drawn.

    Args:
        run: With the filled report, the model and the data.
        found: What the subjects say, the model first.
        targets: What was told from the latents, if anything.
        label: Of the held-out stars, shape (n, L).
        known: Labels that enough stars have.
        earlier: Correlations of latents and labels of other models, by their names.
    """

    run: TestRun
    found: Sequence[Predictions]
    targets: RecoveryTargets | None
    label: Array
    known: Sequence[int]
    earlier: Mapping[str, Array]

    @property
    def matrices(self) -> dict[str, Array]:
        """Correlations of latents and labels, by the names of their models."""
        own = {
            one.subject: correlation_matrix(one.latent, self.label[:, self.known])
            for one in self.found
            if one.latent is not None
        }
        # Matrices of all labels go beside matrices of all labels only.
        return {**own, **(self.earlier if len(self.known) == self.label.shape[1] else {})}

    @property
    def catalogue(self) -> dict[str, Array]:
        """Columns of the held-out stars, the labels as given among them."""
        data: SpectraData = self.run.datamodule
        table = data.catalogue(self.found[0].scores["index"])
        columns = {name: np.asarray(table[name]) for name in table.colnames}
        return columns | dict(zip(data.labels, self.label.T, strict=True))


def spectra_figures(findings: Findings) -> dict[str, Figure]:
    """Return all figures by name."""
    run, found, targets = findings.run, findings.found, findings.targets
    data: SpectraData = run.datamodule
    model, wavelength = found[0], data.wavelength
    assert model.latent is not None
    texts = meanings(model.latent, targets) if targets is not None and targets.scored else []
    names = [data.labels[place] for place in findings.known]
    figures = {
        "residuals": residual_figure(found, wavelength, data.grid.chips, data.element_windows()),
        "examples": _examples(run, model),
        "chi2": chi2_figure(found, subject_colours(run.report)),
        "correlations": correlation_figure(findings.matrices, names),
        "kl": kl_figure(model, texts),
        "traversals": traversal_figure(run.module, model, findings.label, wavelength, texts),
        **corner_figures(model, findings.catalogue, run.bootstrap.seed),
    }
    for metric in ("r2_ridge", "r2_boosting"):
        figure = recovery_figure(run.report, metric)
        figures |= {} if figure is None else {metric.replace("r2", "recovery"): figure}
    return figures


def meanings(latent: Array, targets: RecoveryTargets) -> list[str]:
    """Say of each latent which target it is correlated with most."""
    names = [name for name in targets.scored if name not in targets.label or not targets.factors]
    if not names:
        return []
    known = {name: np.isfinite(targets.scored[name]) for name in names}
    matrix = np.hstack(
        [
            correlations(latent[rows], targets.scored[name][rows, None])
            for name, rows in known.items()
        ]
    )
    return [
        f"{target_name(names[column].removeprefix('true_'))} (r = {row[column]:+.2f})"
        for row, column in zip(matrix, np.abs(matrix).argmax(1), strict=True)
    ]


def _examples(run: TestRun, model: Predictions) -> Figure:
    """Return the figure of a good, a middling and a bad reconstruction."""
    chi2 = star_chi2(model.scores)
    order = np.argsort(np.where(np.isfinite(chi2), chi2, np.inf), kind="stable")
    known = int(np.isfinite(chi2).sum())
    chosen = [int(order[int(share * (known - 1))]) for share in EXAMPLES.values()]
    index = model.scores["index"][chosen]
    names = [
        rf"{name} ({title}): $\chi^2$ per pixel {chi2[row]:.2f}"
        for name, title, row in zip(run.names(index), EXAMPLES, chosen, strict=True)
    ]
    spectra = examples(run.module, run.datamodule, index)
    return example_figure(spectra, names, run.datamodule.wavelength)
