"""What the latents of spectra are like: prior match, independence of labels, correlations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray

from callbacks.metrics.disentanglement import correlations
from callbacks.report.base import TestRun
from callbacks.report.bootstrap import subsample
from callbacks.report.scope import Scope
from callbacks.spectra.fidelity import star_chi2
from callbacks.spectra.predictions import Predictions
from datamodules.files import atomic_path
from lightning_modules.metrics.discrepancy import (
    hsic,
    hsic_noise_level,
    mmd_noise_level,
    mmd_to_normal,
)
from lightning_modules.metrics.information import (
    gaussian_mutual_information,
    total_correlation,
)

Array = NDArray[Any]
ACTIVE_VARIANCE = 0.01
INFORMED = 0.1
"""KL in nat from which a dimension counts as informed."""
OVER_INFORMATIVE = 100.0
MAX_MMD, MAX_HSIC = 5000, 1000
CORRELATIONS = "latent_correlation.csv"


def add_prior_match(scope: Scope, model: Predictions) -> None:
    """Add active units, KL, flags, and the distance of the posterior means to the prior.

    The aggregate posterior is what should match N(0, 1): its MMD is that of one draw for each star.

    Args:
        scope: Of the model on the held-out stars.
        model: With latents and their deviations.
    """
    assert model.latent is not None
    assert model.latent_std is not None
    mean, kl, seed = model.latent.astype(np.float64), model.kl, scope.bootstrap.seed
    count, size = mean.shape
    active = int((mean.var(0) > ACTIVE_VARIANCE).sum())
    scope.add("active_units", active, n=count)
    scope.add("informed_units", int((kl > INFORMED).sum()), n=count)
    scope.add("kl", kl.sum(), n=count)
    scope.add("posterior_collapsed", float(active < 0.5 * size or kl.sum() < 1))
    scope.add("over_informative", float(kl.sum() > OVER_INFORMATIVE))
    standard = mean / np.maximum(mean.std(0), 1e-12) - mean.mean(0) / np.maximum(mean.std(0), 1e-12)
    scope.add("latent_mean_max", np.abs(mean.mean(0)).max(), n=count)
    scope.add("latent_skewness_max", np.abs((standard**3).mean(0)).max(), n=count)
    scope.add("latent_kurtosis_max", np.abs((standard**4).mean(0) - 3).max(), n=count)
    rows = subsample(count, MAX_MMD, seed)
    noise = np.random.default_rng(seed).normal(size=(len(rows), size))
    drawn = torch.from_numpy(mean[rows] + noise * model.latent_std[rows])
    scope.add("mmd2", float(mmd_to_normal(drawn)), n=len(rows))
    scope.add("mmd2_noise", mmd_noise_level(len(rows), size), n=len(rows))
    for number, value in enumerate(kl):
        scope.where(latent=f"{number:02d}").add("kl", value, n=count)


def add_independence(scope: Scope, latent: Array, label: Array) -> None:
    """Add how much the latents know of the labels given, and of each other.

    Args:
        scope: Of the subject on the held-out stars.
        latent: Means of the latents, shape (n, D).
        label: Labels given to the decoder, NaN where missing; only stars with all are used.
    """
    known, seed = np.isfinite(label).all(1), scope.bootstrap.seed
    latent, labels = latent[known].astype(np.float64), label[known].astype(np.float64)
    count = len(latent)
    if not labels.shape[1]:
        return
    if count < 2 * (latent.shape[1] + labels.shape[1]):
        scope.report.note(
            f"{scope.subject}: {count} held-out stars with all labels are too few for independence"
        )
        return
    block, own = np.abs(correlations(latent, labels)), correlations(latent, latent)
    off = np.abs(own[~np.eye(len(own), dtype=bool)])
    for what, values in (("label", block), ("latent", off)):
        scope.add(f"{what}_correlation_max", values.max(initial=0), n=count)
        scope.add(f"{what}_correlation_rms", np.sqrt(np.square(values).mean()), n=count)
    scope.add("correlation_floor", count**-0.5, n=count)
    x, y = torch.from_numpy(latent), torch.from_numpy(labels)
    scope.add("mutual_information", float(gaussian_mutual_information(x, y)), n=count)
    biased = gaussian_mutual_information(x, y, bias_correction=False)
    scope.add("mutual_information_biased", float(biased), n=count)
    scope.add("total_correlation", float(total_correlation(x)), n=count)
    rows = torch.from_numpy(subsample(count, MAX_HSIC, seed))
    scope.add("hsic", float(hsic(x[rows], y[rows])), n=len(rows))
    scope.add("hsic_noise", hsic_noise_level(x[rows], y[rows], 10, seed), n=len(rows))


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


def correlation_matrix(latent: Array, label: Array) -> NDArray[np.float64]:
    """Return the correlations of latents and labels over the stars with all labels."""
    joint = np.concatenate([latent, label], 1).astype(np.float64)
    joint = joint[np.isfinite(joint).all(1)]
    matrix = correlations(joint, joint)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def write_columns(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns as CSV, numbers with seven digits, atomically."""
    table = Table(columns)
    digits = {name: ".7g" for name in table.colnames if table[name].dtype.kind == "f"}
    with atomic_path(path) as temporary:
        table.write(temporary, format="ascii.csv", formats=digits)


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
    stars: dict[str, Any] = {"name": run.names(found[0].scores["index"])}
    wavelength = [f"{value:.3f}" for value in data.wavelength]
    pixels: dict[str, Any] = {"wavelength": wavelength, "stars": found[0].pixels["count"]}
    for one in found:
        plain = one.subject.removeprefix("baseline/")
        if one.latent is not None:
            matrix = correlation_matrix(one.latent, label)
            names = [*latent_names(one.latent.shape[1]), *(data.labels[place] for place in known)]
            file = CORRELATIONS if one is found[0] else f"latent_correlation_{plain}.csv"
            write_columns(folder / file, {"name": names, **dict(zip(names, matrix, strict=True))})
        for what in ("residual", "pull"):
            pixels[f"{plain}_{what}_mean"] = one.pixels.mean(what)
            pixels[f"{plain}_{what}_std"] = one.pixels.std(what)
        stars[f"{plain}_chi2"] = star_chi2(one.scores)
    write_columns(folder / "pixels.csv", pixels)
    write_columns(folder / "stars.csv", stars)


def earlier_correlations(folders: Sequence[str], labels: Sequence[str]) -> dict[str, Array]:
    """Return what earlier reports wrote as `latent_correlation.csv`, by the end of its path.

    Args:
        folders: Of these reports.
        labels: That this report's matrices end with.

    Raises:
        FileNotFoundError: If a folder has no such file.
        ValueError: If its labels are others.
    """
    found = {}
    for folder in map(Path, folders):
        path = folder / CORRELATIONS
        if not path.is_file():
            raise FileNotFoundError(
                f"SpectraReport.compare: {path} does not exist; give the folder of a run that was "
                "tested with SpectraReport"
            )
        table = Table.read(path, format="ascii.csv")
        names = table.colnames[1:]
        own = names[sum(name[1:].isdigit() for name in names) :]
        if own != list(labels):
            raise ValueError(
                f"SpectraReport.compare: the labels of {path} are {own}, those of this run "
                f"{list(labels)}; compare models of the same labels"
            )
        matrix = np.stack([table[name] for name in names], 1)
        found["/".join(folder.resolve().parts[-2:])] = matrix
    return found


def latent_names(size: int) -> list[str]:
    """Return `z00`, `z01`..."""
    return [f"z{number:02d}" for number in range(size)]
