"""What the model and the baselines say of the held-out stars, each measured on the same ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor

from callbacks.report.base import ReportData
from callbacks.report.gather import whole_precision
from callbacks.spectra.baselines import KEYS, LinearBaseline
from callbacks.spectra.fidelity import (
    PixelSums,
    Spectra,
    hidden_pixels,
    hidden_scores,
    hide,
    star_scores,
)

Array = NDArray[Any]
Batch = dict[str, Tensor]
TERMS = ("nll", "kl")
"""Terms of the loss that are a star's own, in nats."""


@runtime_checkable
class SpectraData(ReportData, Protocol):
    """What the report of spectra asks of a datamodule besides."""

    labels: tuple[str, ...]
    wavelength: Array
    grid: Any
    rows: dict[str, Tensor]

    def true_flux(self, index: Array) -> Array | None:
        """Return the spectra without noise, shape (n, P), or None if nobody knows them."""

    def element_windows(self) -> dict[str, list[tuple[float, float]]]:
        """Return element to list of (low, high) in A."""

    def mask_report(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return shares of masked pixels by split and bit."""


@dataclass
class Predictions:
    """A model or a baseline, and what it says of the held-out stars.

    Args:
        subject: Its name in the report.
        scores: Of each held-out star, see `fidelity`.
        pixels: Sums over the held-out stars.
        latent: Means of the latents of the held-out stars, shape (n, D); None if it has none.
        latent_std: Their posterior deviations, shape (n, D), of the model only.
        fitted: Latents of the stars that regressions are fitted on, shape (m, D).
    """

    subject: str
    scores: Mapping[str, Array]
    pixels: PixelSums
    latent: Array | None = None
    latent_std: Array | None = None
    fitted: Array | None = None

    @cached_property
    def kl(self) -> NDArray[np.float64]:
        """Mean over stars of KL(N(latent, latent_std^2) || N(0, 1)) in nat, shape (D,)."""
        assert self.latent is not None
        assert self.latent_std is not None
        mean, variance = self.latent.astype(np.float64), self.latent_std.astype(np.float64) ** 2
        return np.asarray(0.5 * (mean**2 + variance - 1 - np.log(variance)).mean(0))


def to_arrays(columns: dict[str, Tensor], keys: Sequence[str] = KEYS) -> dict[str, Array]:
    """Return the columns of a batch as arrays."""
    return {name: whole_precision(columns[name]).cpu().numpy() for name in keys}


def take(batch: Batch, rows: Tensor) -> Batch:
    """Return some objects of a batch; what is not one a row is left out."""
    size = len(batch["index"])
    return {k: v[rows] for k, v in batch.items() if v.ndim and len(v) == size}


def reported_split(data: SpectraData) -> str:
    """Return the split of the stars reported: `test`, or `all` without one."""
    return "test" if len(data.rows["test"]) else "all"


def model_scores(
    module: Any,
    batch: Batch,
    reconstruction: Tensor,
    pixels: PixelSums,
    data: SpectraData,
    seed: int,
) -> dict[str, Array]:
    """Return the scores of held-out stars under the model, and add them to the sums over stars.

    Args:
        module: Encodes and decodes once more, with some pixels hidden.
        batch: The held-out stars alone.
        reconstruction: Of nothing hidden, shape (n, P).
        pixels: Where sums go.
        data: Gives noise-free fluxes, where known, and chips.
        seed: Fixes which pixels are hidden.
    """
    spectra = to_arrays(batch)
    model = whole_precision(reconstruction).cpu().numpy()
    pixels.add(spectra, model)
    hidden = hidden_pixels(spectra["index"], spectra["good"], seed)
    seen = hide(spectra, hidden)
    masked = {**batch, **{k: torch.from_numpy(seen[k]).to(batch[k]) for k in KEYS}}
    mean, _ = module.encode(masked)
    guess = whole_precision(module.decode(mean, batch["label"])).cpu().numpy()
    terms = module.star_terms(batch)
    return {
        "index": spectra["index"],
        **to_arrays(terms, [name for name in TERMS if name in terms]),
        **star_scores(spectra, model, data.grid.chips, data.true_flux(spectra["index"])),
        **hidden_scores(spectra, guess, hidden),
    }


def baseline_predictions(
    data: SpectraData, baselines: Sequence[LinearBaseline], fitted: Spectra, seed: int
) -> list[Predictions]:
    """Return the baselines, and the truth where it is known, measured on the stars reported.

    Args:
        data: Its batches are gone through once.
        baselines: Fitted.
        fitted: The stars that they were fitted on.
        seed: Fixes which pixels are hidden.
    """
    num_pixels, chips = len(data.wavelength), data.grid.chips
    parts: dict[str, list[dict[str, Array]]] = {}
    sums: dict[str, PixelSums] = {}
    for batch in data.batches(reported_split(data), KEYS):
        spectra = to_arrays(batch)
        truth = data.true_flux(spectra["index"])
        for name, model, guess, extra in _answers(spectra, baselines, truth, seed):
            sums.setdefault(name, PixelSums(num_pixels, chips)).add(spectra, model)
            seen = star_scores(spectra, model, chips, truth)
            scores = {"index": spectra["index"], **seen, **guess, **extra}
            parts.setdefault(name, []).append(scores)
    subjects = []
    for name, own in parts.items():
        whole = {key: np.concatenate([part[key] for part in own]) for key in own[0]}
        order = np.argsort(whole["index"], kind="stable")
        whole = {key: values[order] for key, values in whole.items()}
        baseline = next((baseline for baseline in baselines if baseline.subject == name), None)
        latent = whole.pop("latent", None)
        known = baseline.encode(fitted) if baseline is not None and latent is not None else None
        subjects.append(Predictions(name, whole, sums[name], latent, fitted=known))
    return subjects


def _answers(
    spectra: Spectra, baselines: Sequence[LinearBaseline], truth: Array | None, seed: int
) -> Iterator[tuple[str, Array, dict[str, Array], dict[str, Array]]]:
    """Yield name, flux, scores of hidden pixels and latents of each subject for some stars."""
    hidden = hidden_pixels(spectra["index"], spectra["good"], seed)
    seen = hide(spectra, hidden)
    for baseline in baselines:
        latent = baseline.encode(spectra)
        guess = hidden_scores(spectra, baseline.reconstruct(seen), hidden)
        # Of the same components only the plain latents are audited.
        extra = {"latent": latent} if latent.shape[1] and not baseline.weighted else {}
        yield baseline.subject, baseline.decode(latent, spectra["label"]), guess, extra
    if truth is not None:
        yield "truth", truth, hidden_scores(spectra, truth, hidden), {}


def examples(module: LightningModule, data: SpectraData, index: Array) -> dict[str, Array]:
    """Return spectra of a few stars with the model's `reconstruction`, in the order asked for.

    Args:
        module: The model.
        data: Its batches are gone through.
        index: Rows of the store.
    """
    found = []
    for batch in data.batches(reported_split(data)):
        own = torch.isin(batch["index"], torch.from_numpy(index))
        if own.any():
            part = {k: v.to(module.device) for k, v in take(batch, own).items()}
            with torch.inference_mode():
                said = module.predict_step(part, 0)["reconstruction"]
            found.append(to_arrays({**part, "reconstruction": said}, (*KEYS, "reconstruction")))
    whole = {name: np.concatenate([own[name] for own in found]) for name in found[0]}
    order = [int(np.flatnonzero(whole["index"] == i)[0]) for i in index]
    return {name: values[order] for name, values in whole.items()}
