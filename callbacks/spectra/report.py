"""The report of the spectra method: fidelity, latents and what they know, beside baselines."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from callbacks.report.base import SPLITS, ReportCallback, ReportData, TestRun
from callbacks.report.gather import RowGatherer, Rows
from callbacks.report.table import Report
from callbacks.spectra.baselines import KEYS, LABELS_ONLY, fit_baselines, training_sample
from callbacks.spectra.fidelity import PixelSums, add_fidelity, add_windows
from callbacks.spectra.figures import Findings, spectra_figures
from callbacks.spectra.latents import (
    add_independence,
    add_prior_match,
    add_terms,
    earlier_correlations,
    write_tables,
)
from callbacks.spectra.outliers import add_outliers
from callbacks.spectra.predictions import (
    Predictions,
    SpectraData,
    baseline_predictions,
    model_scores,
    reported_split,
    take,
    to_arrays,
)
from callbacks.spectra.recovery import MIN_STARS, add_factors, add_recovery, find_targets

Array = NDArray[Any]
FEW = ("index", "label")
"""Keys of a batch that regressions need."""


class SpectraReport(ReportCallback):
    """Writes `report.json`, `report.csv`, matrices as CSV and `figures/*.png` at the end of `test`.

    Every number is of held-out stars and of the means of their latents. Subjects are `model`,
    `baseline/pca` (as many components as the model has latents, masked pixels filled with the
    mean), `baseline/labels` (a quadratic emulator of the labels), `baseline/labels_pca` (the same
    and components of its residual), both kinds of components with latents by weighted least squares
    (`baseline/pca_weighted`, `baseline/labels_pca_weighted`) and, on simulations, `truth`.
    Baselines and regressions are fitted on stars of the training split. What the data do not have
    is left out with a note.

    Args:
        baselines: Whether to fit the baselines.
        num_resamples: Bootstrap resamples of the stars for the uncertainties.
        max_fit: Training stars that baselines and regressions are fitted on at most.
        max_boosting: Training stars that boosted trees are fitted on at most; 0 leaves them out.
        seed: Fixes subsamples, resamples, trees, hidden pixels and junk.
        compare: Folders of earlier reports, such as that of a model before its fine-tuning, whose
            correlations are drawn beside this one's.
    """

    method: ClassVar[str] = "spectra"
    outputs: ClassVar[tuple[str, ...]] = ("latent", "latent_std")

    def __init__(
        self,
        baselines: bool = True,
        num_resamples: int = 200,
        max_fit: int = 6000,
        max_boosting: int = 2000,
        seed: int = 0,
        compare: Sequence[str] = (),
    ) -> None:
        super().__init__(baselines, num_resamples, max_fit, seed)
        self.compare = tuple(compare)
        self.max_boosting = max_boosting
        self._scores = RowGatherer()
        self._held_out: Rows = {}
        self._earlier: dict[str, Array] = {}

    def begin(self, module: LightningModule, data: ReportData | None) -> None:
        """Refuse data that are no spectra; find earlier reports."""
        if not isinstance(data, SpectraData):
            raise ValueError(
                f"SpectraReport needs a datamodule with wavelength and true_flux; "
                f"{type(data).__name__} lacks them: use SpectraDataModule or a subclass"
            )
        self._module, self._data = module, data
        self._earlier = earlier_correlations(self.compare, data.labels)
        self._scores.clear()
        self._pixels = PixelSums(len(data.wavelength), data.grid.chips)

    def reduce(self, batch: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return labels and latents; keep scores, sums and loss terms of the held-out stars."""
        held_out = batch["split"] == SPLITS["held_out"]
        if reported_split(self._data) == "all":
            held_out[:] = True
        part = take(dict(batch), held_out)
        # A row that a rank repeats, at loss scale 0, must not count twice.
        if len(part["index"]) and batch.get("loss_scale", 1) != 0:
            reconstruction = outputs["reconstruction"][held_out]
            found = model_scores(
                self._module, part, reconstruction, self._pixels, self._data, self.seed
            )
            self._scores.add({name: torch.from_numpy(values) for name, values in found.items()})
        return super().reduce(batch, outputs)

    def gather(self, trainer: Trainer) -> None:
        """Sum pixels over ranks and gather the scores of the held-out stars."""
        self._held_out = self._scores.gather(trainer)
        self._pixels.reduce(trainer)

    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        """Fill the report, write the matrices and return the figures."""
        held_out, scores, data = run.held_out(), self._held_out, run.datamodule
        keys = KEYS if self.baselines else FEW
        fitted = training_sample(data, self.max_fit, self.seed, keys)
        model = self._model(run, held_out, fitted)
        found = [model, *self._baselines(run, model, fitted)]
        label = run.rows["label"][held_out]
        known = known_labels(run.report, label, data.labels)
        add_masks(run)
        for one in found:
            scope = run.scope(one.subject, held_out)
            add_fidelity(scope, one.scores, one.pixels)
            add_windows(scope, one.pixels, data.wavelength, data.element_windows())
        scope = run.scope("model", held_out)
        add_prior_match(scope, model)
        for one in found:
            if one.latent is not None:
                add_independence(run.scope(one.subject, held_out), one.latent, label[:, known])
        add_terms(scope, model, len(known))
        add_outliers(scope, run.module, to_arrays(next(data.batches(reported_split(data), KEYS))))
        write_tables(run, found, label[:, known], known)
        targets = find_targets(run, fitted, scores["index"], label, known)
        findings = Findings(run, found, targets, label, known, self._earlier)
        self._add_recovery(findings, held_out)
        return self.draw(findings)

    def draw(self, findings: Findings) -> dict[str, Figure]:
        """Return the figures by name; override for others, or none."""
        return spectra_figures(findings)

    def _add_recovery(self, findings: Findings, held_out: Array) -> None:
        """Add what can be told from the latents of each subject."""
        targets = findings.targets
        for one in findings.found if targets is not None else ():
            assert targets is not None
            scope = findings.run.scope(one.subject, held_out)
            if one.latent is not None or one.subject == LABELS_ONLY:
                add_recovery(scope, one, targets, self.max_boosting)
            if one.latent is not None and targets.factors:
                add_factors(scope, one.latent, targets, self.max_boosting > 0)

    def _model(self, run: TestRun, held_out: Array, fitted: Mapping[str, Array]) -> Predictions:
        """Return what the model says of the held-out stars, and its latents of those fitted on."""
        latent, index = run.rows["latent"], fitted.get("index", np.zeros(0, np.int64))
        known = latent[np.searchsorted(run.rows["index"], index)]
        std = run.rows["latent_std"][held_out]
        return Predictions("model", self._held_out, self._pixels, latent[held_out], std, known)

    def _baselines(
        self, run: TestRun, model: Predictions, fitted: dict[str, Array]
    ) -> Iterator[Predictions]:
        """Yield the baselines and the truth, and say what they are."""
        assert model.latent is not None
        baselines = []
        if self.baselines and fitted:
            baselines = fit_baselines(fitted, model.latent.shape[1], self.seed)
            run.report.note(
                f"baselines fitted on {len(fitted['index'])} training stars, "
                f"{len(baselines[0].components)} components; chi2 with the same errors and pixels "
                "for all"
            )
        yield from baseline_predictions(run.datamodule, baselines, fitted, self.seed)


def add_masks(run: TestRun) -> None:
    """Add the share of pixels that each bit of the mask covers, if any, and that it alone loses."""
    splits = run.datamodule.mask_report()
    for bit, shares in splits.get("test", splits["all"]).items():
        if shares["share"]:
            scope = run.scope("data", bit=bit)
            scope.add("masked", shares["share"])
            scope.add("masked_alone", shares["alone"])


def known_labels(report: Report, label: Array, names: Sequence[str]) -> list[int]:
    """Return the labels that enough held-out stars have; say which are left out.

    Args:
        report: Where the note goes.
        label: Shape (n, L), NaN where missing.
        names: Of the labels.
    """
    count = np.isfinite(label).sum(0)
    missing = int((~np.isfinite(label)).any(1).sum())
    if missing:
        report.note(
            f"{missing} held-out stars lack a label: the model takes its default, "
            "baselines the mean"
        )
    rare = [name for name, own in zip(names, count, strict=True) if own < MIN_STARS]
    if rare:
        report.note(f"fewer than {MIN_STARS} held-out stars have {', '.join(rare)}: left out")
    return [place for place, own in enumerate(count) if own >= MIN_STARS]
