"""The report of the spectra method: fidelity, latents, what they know, beside classical peers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from callbacks.report.figures import save_figures, style
from callbacks.report.gather import RowCollector, Rows, check_finite
from callbacks.report.paths import log_folder
from callbacks.report.probability import Resampling
from callbacks.report.table import Report
from callbacks.spectra.audit import (
    FEW,
    add_masks,
    add_terms,
    element_windows,
    find_targets,
    known_labels,
    write_tables,
)
from callbacks.spectra.baselines import KEYS, LABELS_ONLY, fit_peers, training_sample
from callbacks.spectra.fidelity import PixelSums, add_fidelity, add_windows
from callbacks.spectra.figures import spectra_figures
from callbacks.spectra.latents import (
    Subject,
    add_independence,
    add_prior_match,
    earlier_correlations,
)
from callbacks.spectra.outliers import add_outliers
from callbacks.spectra.recovery import Targets, add_factors, add_recovery
from callbacks.spectra.subjects import (
    HELD_OUT,
    classical_subjects,
    model_scores,
    model_subject,
    take,
    true_flux,
)

Array = NDArray[Any]
OUTPUTS = ("index", "latent", "latent_std")


class SpectraReport(Callback):
    """Writes `report.json`, `report.csv`, matrices as CSV and `figures/*.png` at the end of `test`.

    Every number is of held-out stars and of the means of their latents. Subjects are `model`,
    `classical/pca` (as many components as the model has latents, masked pixels filled with the
    mean), `classical/labels` (a quadratic emulator of the labels), `classical/labels_pca` (the same
    and components of its residual), both kinds of components with latents by weighted least squares
    (`classical/pca_weighted`, `classical/labels_pca_weighted`) and, on simulations, `truth`. Peers
    and regressions are fitted on stars of the training split. What the data do not have is left out
    with a note.

    Args:
        baselines: Whether to fit the peers.
        num_resamples: Bootstrap resamples of the stars for the uncertainties.
        max_fit: Training stars that peers and regressions are fitted on at most.
        max_boosting: Training stars that boosted trees are fitted on at most; 0 leaves them out.
        seed: Fixes subsamples, resamples, trees, hidden pixels and junk.
        compare: Folders of earlier reports, such as that of a model before its fine-tuning, whose
            correlations are drawn beside this one's.
    """

    def __init__(
        self,
        baselines: bool = True,
        num_resamples: int = 200,
        max_fit: int = 6000,
        max_boosting: int = 2000,
        seed: int = 0,
        compare: Sequence[str] = (),
    ) -> None:
        self.compare = tuple(compare)
        self.baselines = baselines
        self.max_fit = max_fit
        self.max_boosting = max_boosting
        self.resampling = Resampling(num_resamples, seed)
        self._rows = RowCollector()
        self._scores = RowCollector()
        self._pixels: PixelSums | None = None
        self._earlier: dict[str, Array] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what an interrupted run left; refuse data that the report cannot ask."""
        datamodule: Any = getattr(trainer, "datamodule", None)
        if not hasattr(datamodule, "wavelength") or not hasattr(datamodule, "batches"):
            raise ValueError(
                f"SpectraReport needs a datamodule with wavelength and batches; "
                f"{type(datamodule).__name__} lacks them: use SpectraDataModule or a subclass"
            )
        self._earlier = earlier_correlations(self.compare, datamodule.labels)
        self._rows.clear()
        self._scores.clear()
        self._pixels = PixelSums(len(datamodule.wavelength), datamodule.grid.chips)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what one batch contributes."""
        datamodule: Any = getattr(trainer, "datamodule", None)
        split = batch["split"]
        held_out = split == HELD_OUT if len(datamodule.rows["test"]) else torch.ones_like(split) > 0
        kept = {name: outputs[name] for name in OUTPUTS if name in outputs}
        self._rows.add({**kept, "label": batch["label"]})
        part = take(batch, held_out)
        # A row that a rank repeats, at loss scale 0, must not count twice.
        if len(part["index"]) and batch.get("loss_scale", 1) != 0:
            self._measure(pl_module, part, outputs["reconstruction"][held_out], datamodule)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report on rank 0."""
        rows, scores = self._rows.gather(trainer), self._scores.gather(trainer)
        assert self._pixels is not None
        self._pixels.reduce(trainer)
        folder = log_folder(trainer)
        if not trainer.is_global_zero:
            return
        check_finite(rows, OUTPUTS)
        datamodule: Any = getattr(trainer, "datamodule", None)
        report = Report.of_run(trainer, pl_module, "spectra", "held_out", len(scores["index"]))
        if not len(datamodule.rows["test"]):
            report.note(
                "the data have no test split: all stars are reported as held out, "
                "those that peers are fitted on among them"
            )
        with style():
            figures = self.assess(report, folder, pl_module, datamodule, rows, scores)
            save_figures(trainer, folder, figures, prefix="test/")
        report.write(folder)
        report.print([""])
        print(f"report: {folder / 'report.json'}\nfigures: {folder / 'figures'}")

    def assess(
        self,
        report: Report,
        folder: Path,
        module: Any,
        datamodule: Any,
        rows: Rows,
        scores: Rows,
    ) -> dict[str, Figure]:
        """Fill the report, write the matrices and return the figures.

        Args:
            report: Where the numbers go.
            folder: Where the matrices go.
            module: The model.
            datamodule: Gives spectra, true fluxes and catalogue of stars.
            rows: Of all stars.
            scores: Of the held-out stars.
        """
        assert self._pixels is not None
        seed = self.resampling.seed
        fitted = training_sample(datamodule, self.max_fit, seed, KEYS if self.baselines else FEW)
        subjects = [model_subject(rows, scores, self._pixels, fitted)]
        subjects += self._peers(report, datamodule, fitted, subjects[0])
        add_masks(report, datamodule)
        windows = element_windows(datamodule)
        for subject in subjects:
            add_fidelity(report, subject.name, subject.scores, subject.pixels, self.resampling)
            add_windows(report, subject.name, subject.pixels, datamodule.wavelength, windows)
        label = rows["label"][np.searchsorted(rows["index"], scores["index"])]
        known = known_labels(report, label, datamodule.labels)
        add_prior_match(report, subjects[0], seed)
        audited = [subject for subject in subjects if subject.latent is not None]
        for subject in audited:
            add_independence(report, subject, label[:, known], seed)
        add_terms(report, subjects[0], len(known))
        split = "test" if len(datamodule.rows["test"]) else "all"
        add_outliers(report, module, datamodule, split, seed)
        write_tables(folder, subjects, label[:, known], datamodule, known)
        targets = find_targets(report, datamodule, fitted, scores["index"], label, known)
        if targets is not None:
            for subject in subjects:
                if subject.latent is not None or subject.name == LABELS_ONLY:
                    add_recovery(report, subject, targets, self.max_boosting, seed)
            for subject in audited if targets.factors else []:
                add_factors(report, subject, targets, self.max_boosting > 0, seed)
        return self.draw(report, subjects, targets, label, known, module, datamodule)

    def draw(
        self,
        report: Report,
        subjects: Sequence[Subject],
        targets: Targets | None,
        label: Array,
        known: Sequence[int],
        module: Any,
        datamodule: Any,
    ) -> dict[str, Figure]:
        """Return the figures by name; override for others, or none.

        Args:
            report: Filled.
            subjects: The model first.
            targets: What was told from the latents, if anything.
            label: Of the held-out stars, shape (n, L).
            known: Labels that enough stars have.
            module: The model.
            datamodule: Gives spectra, names and catalogue.
        """
        # Matrices of all labels go beside matrices of all labels only.
        earlier = self._earlier if len(known) == label.shape[1] else {}
        inputs = report, subjects, targets, label, known, module, datamodule
        return spectra_figures(*inputs, self.resampling.seed, earlier)

    def _measure(self, module: Any, batch: Any, reconstruction: Tensor, datamodule: Any) -> None:
        """Keep scores, sums and loss terms of held-out stars."""
        assert self._pixels is not None
        settings = datamodule.grid.chips, self.resampling.seed
        truth = true_flux(datamodule, batch["index"].cpu().numpy())
        found = model_scores(module, batch, reconstruction, self._pixels, truth, *settings)
        self._scores.add({name: torch.from_numpy(values) for name, values in found.items()})

    def _peers(
        self, report: Report, datamodule: Any, fitted: dict[str, Array], model: Subject
    ) -> list[Subject]:
        """Return the peers and the truth, and say what they are."""
        assert model.latent is not None
        size, seed = model.latent.shape[1], self.resampling.seed
        peers = []
        if self.baselines and fitted:
            peers = fit_peers(fitted, size, seed)
            report.note(
                f"peers fitted on {len(fitted['index'])} training stars, "
                f"{len(peers[0].components)} components; chi2 with the same errors and pixels for "
                "all"
            )
        split = "test" if len(datamodule.rows["test"]) else "all"
        return classical_subjects(datamodule, split, peers, fitted, datamodule.grid.chips, seed)
