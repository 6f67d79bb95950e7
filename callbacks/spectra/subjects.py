"""The subjects of the report of spectra, each measured on the same held-out stars."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor

from callbacks.report.gather import Rows, whole_precision
from callbacks.spectra.baselines import KEYS, Peer
from callbacks.spectra.fidelity import (
    PixelSums,
    Spectra,
    hidden_pixels,
    hidden_scores,
    hide,
    star_scores,
)
from callbacks.spectra.latents import Subject

Array = NDArray[Any]
Batch = dict[str, Tensor]
HELD_OUT = 2
TERMS = ("nll", "kl")
"""Terms of the loss that are a star's own, in nats."""


def to_arrays(columns: dict[str, Tensor], keys: Sequence[str] = KEYS) -> dict[str, Array]:
    """Return the columns of a batch as arrays."""
    return {name: whole_precision(columns[name]).cpu().numpy() for name in keys}


def take(batch: Batch, rows: Tensor) -> Batch:
    """Return some objects of a batch; what is not one a row is left out."""
    size = len(batch["index"])
    return {k: v[rows] for k, v in batch.items() if v.ndim and len(v) == size}


def true_flux(datamodule: Any, index: Array) -> Array | None:
    """Return the noise-free spectra, or None if nobody knows them."""
    if not hasattr(datamodule, "true_flux"):
        return None
    truth: Array | None = datamodule.true_flux(index)
    return truth


def model_scores(
    module: Any, batch: Batch, reconstruction: Tensor, pixels: PixelSums, truth: Array | None,
    chips: Sequence[slice], seed: int,
) -> dict[str, Array]:  # fmt: skip
    """Return the scores of held-out stars under the model, and add them to the sums over stars.

    Args:
        module: Encodes and decodes once more, with some pixels hidden.
        batch: The held-out stars alone.
        reconstruction: Of nothing hidden, shape (n, P).
        pixels: Where sums go.
        truth: Noise-free flux, where known.
        chips: Pixels of each chip.
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
        **star_scores(spectra, model, chips, truth),
        **hidden_scores(spectra, guess, hidden),
    }


def classical_subjects(
    datamodule: Any, split: str, peers: Sequence[Peer], fitted: Spectra, chips: Sequence[slice],
    seed: int,
) -> list[Subject]:  # fmt: skip
    """Return the peers, and the truth where it is known, measured on the stars of a split.

    Args:
        datamodule: Its batches are gone through once.
        split: `test`, or `all` without one.
        peers: Fitted.
        fitted: The stars that they were fitted on.
        chips: Pixels of each chip.
        seed: Fixes which pixels are hidden.
    """
    num_pixels = len(datamodule.wavelength)
    parts: dict[str, list[dict[str, Array]]] = {}
    sums: dict[str, PixelSums] = {}
    for batch in datamodule.batches(split, KEYS):
        spectra = to_arrays(batch)
        truth = true_flux(datamodule, spectra["index"])
        for name, model, guess, extra in _answers(spectra, peers, truth, seed):
            sums.setdefault(name, PixelSums(num_pixels, chips)).add(spectra, model)
            seen = star_scores(spectra, model, chips, truth)
            scores = {"index": spectra["index"], **seen, **guess, **extra}
            parts.setdefault(name, []).append(scores)
    subjects = []
    for name, own in parts.items():
        whole = {key: np.concatenate([part[key] for part in own]) for key in own[0]}
        order = np.argsort(whole["index"], kind="stable")
        whole = {key: values[order] for key, values in whole.items()}
        peer = next((peer for peer in peers if peer.name == name), None)
        latent = whole.pop("latent", None)
        known = peer.encode(fitted) if peer is not None and latent is not None else None
        subjects.append(Subject(name, whole, sums[name], latent, fitted=known))
    return subjects


def _answers(
    spectra: Spectra, peers: Sequence[Peer], truth: Array | None, seed: int
) -> Iterator[tuple[str, Array, dict[str, Array], dict[str, Array]]]:
    """Yield name, flux, scores of hidden pixels and latents of each subject for some stars."""
    hidden = hidden_pixels(spectra["index"], spectra["good"], seed)
    seen = hide(spectra, hidden)
    for peer in peers:
        latent = peer.encode(spectra)
        guess = hidden_scores(spectra, peer.reconstruct(seen), hidden)
        # Of the same components only the plain latents are audited.
        extra = {"latent": latent} if latent.shape[1] and not peer.weighted else {}
        yield peer.name, peer.decode(latent, spectra["label"]), guess, extra
    if truth is not None:
        yield "truth", truth, hidden_scores(spectra, truth, hidden), {}


def model_subject(rows: Rows, scores: Rows, pixels: PixelSums, fitted: Spectra) -> Subject:
    """Return the model as a subject.

    Args:
        rows: Gathered, of all stars, sorted by index.
        scores: Gathered, of the held-out stars, sorted by index.
        pixels: Sums over the held-out stars of all ranks.
        fitted: Stars that regressions are fitted on; none without a training split.
    """
    held_out = np.searchsorted(rows["index"], scores["index"])
    positions = np.searchsorted(rows["index"], fitted.get("index", np.zeros(0, np.int64)))
    mean, std = rows["latent"][held_out], rows["latent_std"][held_out]
    return Subject("model", scores, pixels, mean, std, rows["latent"][positions])


def examples(
    module: LightningModule, datamodule: Any, split: str, index: Array
) -> dict[str, Array]:
    """Return spectra of a few stars with the model's `reconstruction`, in the order asked for.

    Args:
        module: The model.
        datamodule: Its batches are gone through.
        split: Of the stars.
        index: Rows of the store.
    """
    found = []
    for batch in datamodule.batches(split):
        own = torch.isin(batch["index"], torch.from_numpy(index))
        if own.any():
            part = {k: v.to(module.device) for k, v in take(batch, own).items()}
            with torch.inference_mode():
                said = module.predict_step(part, 0)["reconstruction"]
            part["reconstruction"] = said
            found.append(to_arrays(part, (*KEYS, "reconstruction")))
    whole = {name: np.concatenate([own[name] for own in found]) for name in found[0]}
    order = [int(np.flatnonzero(whole["index"] == i)[0]) for i in index]
    return {name: values[order] for name, values in whole.items()}
