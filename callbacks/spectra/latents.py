"""What the latents of spectra are like: prior match, independence of labels, correlations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from callbacks.metrics.disentanglement import correlations
from callbacks.report.bootstrap import subsample
from callbacks.report.scope import Scope
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


def correlation_matrix(latent: Array, label: Array) -> NDArray[np.float64]:
    """Return the correlations of latents and labels over the stars with all labels."""
    joint = np.concatenate([latent, label], 1).astype(np.float64)
    joint = joint[np.isfinite(joint).all(1)]
    matrix = correlations(joint, joint)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def write_matrix(
    path: Path, names: Sequence[str], columns: Sequence[str], matrix: Array, corner: str = ""
) -> None:
    """Write a matrix as CSV with the names of its rows first, atomically."""
    lines = [",".join((corner, *columns))]
    for name, row in zip(names, matrix, strict=True):
        lines.append(",".join((name, *(f"{value:.6g}" for value in row))))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


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
        names = path.read_text(encoding="utf-8").splitlines()[0].split(",")[1:]
        own = names[sum(name[1:].isdigit() for name in names) :]
        if own != list(labels):
            raise ValueError(
                f"SpectraReport.compare: the labels of {path} are {own}, those of this run "
                f"{list(labels)}; compare models of the same labels"
            )
        columns = range(1, len(names) + 1)
        matrix = np.loadtxt(path, delimiter=",", skiprows=1, usecols=columns, ndmin=2)
        found["/".join(folder.resolve().parts[-2:])] = matrix
    return found


def latent_names(size: int) -> list[str]:
    """Return `z00`, `z01`..."""
    return [f"z{number:02d}" for number in range(size)]
