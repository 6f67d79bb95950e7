"""Steps of the report of spectra that ask the datamodule: targets, loss terms, tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callbacks.report.table import Report
from callbacks.spectra.fidelity import star_chi2
from callbacks.spectra.latents import (
    CORRELATIONS,
    Subject,
    correlation_matrix,
    latent_names,
    write_matrix,
)
from callbacks.spectra.recovery import MIN_STARS, Targets, make_targets

Array = NDArray[Any]
FEW = ("index", "label")
"""Keys of a batch that regressions need."""


def element_windows(datamodule: Any) -> dict[str, list[tuple[float, float]]]:
    """Return element to list of (low, high) in A; empty if the datamodule knows none."""
    found = getattr(datamodule, "element_windows", dict)
    windows: dict[str, list[tuple[float, float]]] = found()
    return windows


def add_masks(report: Report, datamodule: Any) -> None:
    """Add the share of pixels that each bit of the mask covers, if any, and that it alone loses.

    Args:
        report: Where the numbers go, as those of `data`.
        datamodule: Its `mask_report()` gives shares by split and bit.
    """
    if not hasattr(datamodule, "mask_report"):
        return
    splits = datamodule.mask_report()
    for bit, shares in splits.get("test", splits["all"]).items():
        if shares["share"]:
            report.add("data", "masked", shares["share"], f"bit={bit}")
            report.add("data", "masked_alone", shares["alone"], f"bit={bit}")


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
            f"{missing} held-out stars lack a label: the model takes its default, peers the mean"
        )
    rare = [name for name, own in zip(names, count, strict=True) if own < MIN_STARS]
    if rare:
        report.note(f"fewer than {MIN_STARS} held-out stars have {', '.join(rare)}: left out")
    return [place for place, own in enumerate(count) if own >= MIN_STARS]


def find_targets(
    report: Report,
    datamodule: Any,
    fitted: Mapping[str, Array],
    index: Array,
    label: Array,
    known: Sequence[int],
) -> Targets | None:
    """Return what can be told of the stars, or None with a note if nothing can be fitted.

    Args:
        report: Where notes go.
        datamodule: Its `catalogue(index)` is a table of one value a star and column.
        fitted: Stars of the training split that regressions are fitted on.
        index: Of the held-out stars.
        label: Theirs, shape (n, L).
        known: Labels that enough stars have.
    """
    if not fitted:
        report.note("no training split: peers, recovery of labels and abundances are left out")
        return None
    targets = make_targets(
        datamodule.catalogue(fitted["index"]).columns,
        datamodule.catalogue(index).columns,
        [datamodule.labels[place] for place in known],
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


def add_terms(report: Report, model: Subject, num_labels: int) -> None:
    """Add the loss terms of the held-out stars in nats a star, and by their natural count.

    That is the good pixels for the likelihood, latents for KL and pairs of latent and label for
    separability, which is the mutual information of all held-out stars (of batches in training).

    Args:
        report: Where the numbers go, with the mutual information.
        model: With scores and latents.
        num_labels: L.
    """
    assert model.latent is not None
    count, size = model.latent.shape
    units = {"nll": float(model.scores["num_good"][:, 0].mean()), "kl": float(size)}
    terms = {name: float(model.scores[name].mean()) for name in units if name in model.scores}
    for row in report.rows:
        if row.key == "model/mutual_information":
            terms["separability"] = row.value
            units["separability"] = float(size * max(num_labels, 1))
    for name, value in terms.items():
        report.add("model", "loss_term", value, f"term={name}", n=count)
        report.add("model", "loss_term_normalised", value / units[name], f"term={name}", n=count)


def write_tables(
    folder: Path, subjects: Sequence[Subject], label: Array, datamodule: Any, known: Sequence[int]
) -> None:
    """Write correlation matrices, pixels by wavelength and chi^2 of each star as CSV.

    `latent_correlation.csv` is the model's, `latent_correlation_<peer>.csv` a peer's.

    Args:
        folder: Of the report.
        subjects: The model first.
        label: Labels of the held-out stars that enough of them have.
        datamodule: Names labels and stars.
        known: Which labels these are.
    """
    for subject in subjects:
        if subject.latent is not None:
            labels = [datamodule.labels[place] for place in known]
            names = [*latent_names(subject.latent.shape[1]), *labels]
            file = f"latent_correlation_{plain(subject.name)}.csv"
            matrix = correlation_matrix(subject.latent, label)
            own = CORRELATIONS if subject is subjects[0] else file
            write_matrix(folder / own, names, names, matrix)
    columns, values = ["stars"], [subjects[0].pixels["count"]]
    for subject in subjects:
        for what in ("residual", "pull"):
            for kind, measure in (("mean", subject.pixels.mean), ("std", subject.pixels.std)):
                columns.append(f"{plain(subject.name)}_{what}_{kind}")
                values.append(measure(what))
    wavelength = [f"{value:.3f}" for value in datamodule.wavelength]
    write_matrix(folder / "pixels.csv", wavelength, columns, np.stack(values, 1), "wavelength")
    names = [str(name) for name in datamodule.names(subjects[0].scores["index"])]
    per_star = np.stack([star_chi2(subject.scores) for subject in subjects], 1)
    chi2_names = [f"{plain(subject.name)}_chi2" for subject in subjects]
    write_matrix(folder / "stars.csv", names, chi2_names, per_star, "name")


def plain(name: str) -> str:
    """Return the name of a subject as part of a file's or a column's."""
    return name.removeprefix("classical/")
