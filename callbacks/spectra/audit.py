"""Steps of the report of spectra beside its scores: masks, targets, loss terms, tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callbacks.report.base import TestRun
from callbacks.report.scope import Scope
from callbacks.report.table import Report
from callbacks.spectra.fidelity import star_chi2
from callbacks.spectra.latents import (
    CORRELATIONS,
    correlation_matrix,
    latent_names,
    write_matrix,
)
from callbacks.spectra.predictions import Predictions
from callbacks.spectra.recovery import MIN_STARS, RecoveryTargets, make_targets

Array = NDArray[Any]
FEW = ("index", "label")
"""Keys of a batch that regressions need."""


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


def find_targets(
    run: TestRun, fitted: Mapping[str, Array], index: Array, label: Array, known: Sequence[int]
) -> RecoveryTargets | None:
    """Return what can be told of the stars, or None with a note if nothing can be fitted.

    Args:
        run: Its datamodule's catalogue is a table of one value a star and column.
        fitted: Stars of the training split that regressions are fitted on.
        index: Of the held-out stars.
        label: Theirs, shape (n, L).
        known: Labels that enough stars have.
    """
    report, data = run.report, run.datamodule
    if not fitted:
        report.note("no training split: baselines, recovery of labels and abundances are left out")
        return None
    targets = make_targets(
        data.catalogue(fitted["index"]).columns,
        data.catalogue(index).columns,
        [data.labels[place] for place in known],
        (fitted["label"][:, known], label[:, known]),
    )
    if not targets.abundances:
        report.note(f"no abundance is known of {MIN_STARS} stars: their recovery is left out")
    if not targets.factors:
        report.note(f"no true factor is known of {MIN_STARS} stars: scores against it are left out")
    if targets.scored:
        report.note(
            f"R^2 on {len(index)} held-out stars of regressions on {len(fitted['index'])} training "
            "stars (trees on fewer); MIG with 20 equal-count bins (fewer below 2000 stars), DCI "
            "with boosted trees"
        )
    return targets


def add_terms(scope: Scope, model: Predictions, num_labels: int) -> None:
    """Add the loss terms of the held-out stars in nats a star, and by their natural count.

    That is the good pixels for the likelihood, latents for KL and pairs of latent and label for
    separability, which is the mutual information of all held-out stars (of batches in training).

    Args:
        scope: Of the model; the report has the mutual information.
        model: With scores and latents.
        num_labels: L.
    """
    assert model.latent is not None
    count, size = model.latent.shape
    units = {"nll": float(model.scores["num_good"][:, 0].mean()), "kl": float(size)}
    terms = {name: float(model.scores[name].mean()) for name in units if name in model.scores}
    for row in scope.report.rows_of("mutual_information", "model"):
        terms["separability"] = row.value
        units["separability"] = float(size * max(num_labels, 1))
    for name, value in terms.items():
        own = scope.where(term=name)
        own.add("loss_term", value, n=count)
        own.add("loss_term_normalised", value / units[name], n=count)


def write_tables(
    run: TestRun, found: Sequence[Predictions], label: Array, known: Sequence[int]
) -> None:
    """Write correlation matrices, pixels by wavelength and chi^2 of each star as CSV.

    `latent_correlation.csv` is the model's, `latent_correlation_<baseline>.csv` a baseline's.

    Args:
        run: Gives the folder and the names of labels and stars.
        found: The model first.
        label: Labels of the held-out stars that enough of them have.
        known: Which labels these are.
    """
    folder, data = run.folder, run.datamodule
    for one in found:
        if one.latent is not None:
            labels = [data.labels[place] for place in known]
            names = [*latent_names(one.latent.shape[1]), *labels]
            file = f"latent_correlation_{plain(one.subject)}.csv"
            matrix = correlation_matrix(one.latent, label)
            write_matrix(folder / (CORRELATIONS if one is found[0] else file), names, names, matrix)
    columns, values = ["stars"], [found[0].pixels["count"]]
    for one in found:
        for what in ("residual", "pull"):
            for kind, measure in (("mean", one.pixels.mean), ("std", one.pixels.std)):
                columns.append(f"{plain(one.subject)}_{what}_{kind}")
                values.append(measure(what))
    wavelength = [f"{value:.3f}" for value in data.wavelength]
    write_matrix(folder / "pixels.csv", wavelength, columns, np.stack(values, 1), "wavelength")
    names = run.names(found[0].scores["index"])
    per_star = np.stack([star_chi2(one.scores) for one in found], 1)
    chi2_names = [f"{plain(one.subject)}_chi2" for one in found]
    write_matrix(folder / "stars.csv", names, chi2_names, per_star, "name")


def plain(name: str) -> str:
    """Return the name of a subject as part of a file's or a column's."""
    return name.removeprefix("baseline/")
