"""The classical baselines of a model of spectra: PCA, an emulator of the labels, and both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import PolynomialFeatures
from sklearn.utils.extmath import randomized_svd

Array = NDArray[Any]
Spectra = Mapping[str, Array]
LABELS_ONLY = "baseline/labels"
KEYS = ("index", "flux", "flux_ivar", "good", "label")


@dataclass(frozen=True)
class Emulator:
    """A spectrum from labels: a polynomial at each pixel (Ness et al. 2015, The Cannon).

    Args:
        degree: 0 (the mean spectrum), 1 or 2.
        location: Means of the labels, shape (L,); taken where a label is missing.
        scale: Their deviations, shape (L,).
        coefficients: Of 1 and the monomials of the standardised labels at each pixel, shape (F, P).
    """

    degree: int
    location: Array
    scale: Array
    coefficients: Array

    def __call__(self, label: Array) -> Array:
        """Return the flux at labels of shape (n, L), shape (n, P)."""
        terms = monomials((label - self.location) / self.scale, self.degree)
        return terms.astype(np.float32) @ self.coefficients


def monomials(u: Array, degree: int) -> Array:
    """Return all monomials of the columns up to a degree, NaN taken as 0, shape (n, F)."""
    if not degree:
        return np.ones((len(u), 1))  # scikit-learn wants a column, and there may be no labels
    return np.asarray(PolynomialFeatures(degree).fit_transform(np.nan_to_num(u.astype(np.float64))))


def fit_emulator(spectra: Spectra, degree: int, weighted: bool = True) -> Emulator:
    """Fit each pixel by least squares over its good stars with all labels known.

    Args:
        spectra: Of training stars.
        degree: Of the polynomial.
        weighted: Whether a pixel's inverse variance is its weight; otherwise 1 if good.
    """
    known = np.isfinite(spectra["label"]).all(1) if degree else np.full(len(spectra["good"]), True)
    if not known.any():
        raise ValueError("an emulator of labels needs training stars with all labels known")
    label = spectra["label"][known]
    location, scale = np.zeros(label.shape[1]), np.ones(label.shape[1])
    if degree:
        location, scale = label.mean(0, dtype=np.float64), label.std(0, dtype=np.float64)
        scale = np.where(scale > 0, scale, 1.0)
    terms = monomials((label - location) / scale, degree)
    good = spectra["good"][known]
    weight = np.where(good, spectra["flux_ivar"][known] if weighted else 1, 0).astype(np.float32)
    flux = np.where(good, spectra["flux"][known], 0).astype(np.float32)
    size = terms.shape[1]
    outer = (terms[:, :, None] * terms[:, None]).reshape(len(terms), -1).astype(np.float32)
    left = (weight.T @ outer).astype(np.float64).reshape(-1, size, size)
    right = ((weight * flux).T @ terms.astype(np.float32)).astype(np.float64)
    # A pixel that no star has good is 1, the continuum, times the constant term.
    ridge = 1e-6 * np.maximum(left[:, :1, :1], 1e-12) * np.eye(size)
    right[weight.sum(0) == 0, 0] = ridge[weight.sum(0) == 0, 0, 0]
    coefficients = np.linalg.solve(left + ridge, right[..., None])[..., 0]
    return Emulator(degree, location, scale, coefficients.T.astype(np.float32))


@dataclass(frozen=True)
class LinearBaseline:
    """A linear model of spectra: an emulator and principal components of what it leaves.

    Args:
        subject: `baseline/<name>` in the report.
        emulator: Of the labels; of degree 0 the mean spectrum.
        components: Orthonormal rows, shape (k, P).
        weighted: Whether latents are fitted by weighted least squares on the good pixels;
            otherwise by projection with the emulator's flux put into masked pixels.
    """

    subject: str
    emulator: Emulator
    components: Array
    weighted: bool = False

    def encode(self, spectra: Spectra) -> Array:
        """Return the latents, shape (n, k)."""
        good = spectra["good"]
        flux = np.where(good, spectra["flux"], 0)
        residual = np.where(good, flux - self.emulator(spectra["label"]), 0).astype(np.float32)
        if not self.weighted or not len(self.components):
            return residual @ self.components.T
        size = len(self.components)
        weight = np.where(good, spectra["flux_ivar"], 0).astype(np.float32)
        outer = (self.components[:, None] * self.components).reshape(size * size, -1)
        left = (weight @ outer.T).reshape(-1, size, size).astype(np.float64)
        right = ((weight * residual) @ self.components.T).astype(np.float64)
        # Keeps a star without good pixels at the mean.
        return np.linalg.solve(left + 1e-3 * np.eye(size), right[..., None])[..., 0]

    def decode(self, latent: Array, label: Array) -> Array:
        """Return the flux of latents (n, k) at labels (n, L), shape (n, P)."""
        return self.emulator(label) + latent.astype(np.float32) @ self.components

    def reconstruct(self, spectra: Spectra) -> Array:
        """Return the flux that the baseline says, shape (n, P)."""
        return self.decode(self.encode(spectra), spectra["label"])


def fit_baselines(spectra: Spectra, num_latents: int, seed: int = 0) -> list[LinearBaseline]:
    """Fit the baselines on training stars.

    `baseline/pca` is the plain one: masked pixels filled with the mean, no errors.
    `baseline/labels` is a quadratic emulator of the labels, `baseline/labels_pca` the same plus
    components of its residual. With latents by weighted least squares on the good pixels they are
    `baseline/pca_weighted` and `baseline/labels_pca_weighted`: no latents of the same components
    have a lower χ². LinearBaselines of labels are left out if no star has all labels.

    Args:
        spectra: Of training stars.
        num_latents: k, at most the number of stars.
        seed: Fixes the randomised SVD.
    """
    mean = fit_emulator(spectra, degree=0, weighted=False)
    components = principal_components(spectra, mean, num_latents, seed)
    baselines = [
        LinearBaseline("baseline/pca", mean, components),
        LinearBaseline("baseline/pca_weighted", mean, components, weighted=True),
    ]
    if not spectra["label"].shape[1] or not np.isfinite(spectra["label"]).all(1).any():
        return baselines
    emulator = fit_emulator(spectra, degree=2)
    rest = principal_components(spectra, emulator, num_latents, seed)
    return [
        *baselines,
        LinearBaseline(LABELS_ONLY, emulator, rest[:0]),
        LinearBaseline("baseline/labels_pca", emulator, rest),
        LinearBaseline("baseline/labels_pca_weighted", emulator, rest, weighted=True),
    ]


def principal_components(
    spectra: Spectra, emulator: Emulator, num_latents: int, seed: int
) -> Array:
    """Return the first principal components of flux less emulator, masked pixels 0, (k, P)."""
    good = spectra["good"]
    residual = np.where(good, spectra["flux"], 0).astype(np.float32)
    residual -= emulator(spectra["label"])
    residual[~good] = 0
    size = min(num_latents, *residual.shape)
    _, _, components = randomized_svd(residual, size, n_iter=4, random_state=seed)
    return np.asarray(components, dtype=np.float32)


def training_sample(
    datamodule: Any, size: int, seed: int, keys: Sequence[str] = KEYS
) -> dict[str, Array]:
    """Return at most `size` random stars of the training split, in its order.

    Args:
        datamodule: Its batches are gone through once.
        size: Stars to hold in memory.
        seed: Fixes the choice.
        keys: Of the batch.

    Returns:
        Key to values; nothing if there is no training split.
    """
    count = len(datamodule.rows["train"])
    chosen = np.full(count, True)
    if count > size:
        chosen[np.random.default_rng(seed).permutation(count)[size:]] = False
    parts: dict[str, list[Array]] = {name: [] for name in keys}
    start = 0
    for batch in datamodule.batches("train", keys):
        own = chosen[start : start + len(batch["index"])]
        start += len(own)
        for name, values in batch.items():
            parts[name].append(values.numpy()[own])
    return {name: np.concatenate(values) for name, values in parts.items() if values}
