"""How well spectra are reproduced: sums over stars at each pixel, and scores of each star."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from callbacks.metrics.ranking import divide
from callbacks.report.gather import all_gather
from callbacks.report.scope import Scope

Array = NDArray[Any]
Spectra = Mapping[str, Array]
"""`index`, `flux`, `flux_ivar`, `good`, `label` of some stars, as in a batch."""

HIDDEN_SHARE = 0.15
CHIPS = ("blue", "green", "red")
SUMS = ("count", "pull", "pull_squared", "residual", "residual_squared", "pairs", "pair_product")


class PixelSums:
    """Sums over stars at each pixel, of good pixels only.

    Args:
        num_pixels: P.
        chips: Pixels of each chip; neighbours across a gap are no pair.
    """

    def __init__(self, num_pixels: int, chips: Sequence[slice]) -> None:
        self.values = np.zeros((len(SUMS), num_pixels))
        self.same_chip = np.ones(num_pixels - 1, dtype=bool)
        for chip in chips:
            if 0 < chip.start <= len(self.same_chip):
                self.same_chip[chip.start - 1] = False

    def add(self, spectra: Spectra, model: Array) -> None:
        """Add some stars.

        Args:
            spectra: What was observed.
            model: What is said of it, in units of the flux, shape (n, P).
        """
        residual = residuals(spectra, model)
        pull = residual * np.sqrt(spectra["flux_ivar"])
        good = spectra["good"]
        pair = good[:, 1:] & good[:, :-1] & self.same_chip
        product = pull[:, 1:] * pull[:, :-1] * pair  # pulls are 0 where not good
        # A product with ones is summed many times faster than an axis is; a batch is short.
        ones = np.ones(len(good), np.float32)
        for row, part in enumerate((pull, pull**2, residual, residual**2), start=1):
            self.values[row] += ones @ part.astype(np.float32, copy=False)
        self.values[0] += np.count_nonzero(good, axis=0)
        self.values[5, 1:] += np.count_nonzero(pair, axis=0)
        self.values[6, 1:] += ones @ product.astype(np.float32, copy=False)

    def reduce(self, trainer: Trainer) -> None:
        """Sum over all ranks; every rank must call this."""
        self.values = all_gather(trainer, torch.from_numpy(self.values)).sum(0).numpy()

    def __getitem__(self, name: str) -> Array:
        """Return one of `SUMS`, shape (P,)."""
        return self.values[SUMS.index(name)]

    def mean(self, name: str) -> Array:
        """Return the mean of `pull` or `residual` at each pixel, NaN without a good star."""
        return divide(self[name], self["count"])

    def std(self, name: str) -> Array:
        """Return the standard deviation of `pull` or `residual` at each pixel."""
        variance = divide(self[f"{name}_squared"], self["count"]) - self.mean(name) ** 2
        return np.sqrt(np.maximum(variance, 0))

    def lag_one(self) -> float:
        """Return the autocorrelation of pulls at neighbouring good pixels: 0 for white noise."""
        variance = self["pull_squared"].sum() / self["count"].sum()
        return float(self["pair_product"].sum() / self["pairs"].sum() / variance)


def residuals(spectra: Spectra, model: Array) -> Array:
    """Return flux less model, 0 where not good, shape (n, P)."""
    good = spectra["good"]
    return np.where(good, np.where(good, spectra["flux"], 0) - model, 0)


def star_scores(
    spectra: Spectra, model: Array, chips: Sequence[slice], truth: Array | None = None
) -> dict[str, Array]:
    """Return what is measured of each star.

    Args:
        spectra: What was observed.
        model: What is said of it, shape (n, P).
        chips: Pixels of each chip.
        truth: The noise-free flux, shape (n, P), where simulated.

    Returns:
        `chi2_sum` and `num_good` (n, 1 + chips): of all pixels, then of each chip; with a truth
        `truth_squared` and `noise_squared` (n,): sums over good pixels of the squared differences
        of the model and of the flux to it.
    """
    good = spectra["good"]
    squares = np.square(residuals(spectra, model)) * np.where(good, spectra["flux_ivar"], 0)
    parts = [slice(None), *chips]
    scores = {
        "chi2_sum": np.stack([squares[:, part].sum(1, dtype=np.float64) for part in parts], 1),
        "num_good": np.stack([good[:, part].sum(1, dtype=np.float64) for part in parts], 1),
    }
    if truth is not None:
        off = np.where(good, model - truth, 0)
        scores["truth_squared"] = np.square(off).sum(1, dtype=np.float64)
        scores["noise_squared"] = np.square(residuals(spectra, truth)).sum(1, dtype=np.float64)
    return scores


def hidden_pixels(index: Array, good: Array, seed: int) -> Array:
    """Return the good pixels to be hidden, a function of star and seed alone, bool (n, P)."""
    drawn = [np.random.default_rng((seed, int(i))).random(good.shape[1]) for i in index]
    return good & (np.stack(drawn) < HIDDEN_SHARE)


def hide(spectra: Spectra, hidden: Array) -> dict[str, Array]:
    """Return the stars with some pixels made bad, their flux NaN."""
    return {
        **spectra,
        "flux": np.where(hidden, np.nan, spectra["flux"]).astype(np.float32),
        "flux_ivar": np.where(hidden, 0, spectra["flux_ivar"]).astype(np.float32),
        "good": spectra["good"] & ~hidden,
    }


def hidden_scores(spectra: Spectra, model: Array, hidden: Array) -> dict[str, Array]:
    """Return `hidden_chi2_sum` and `num_hidden` (n,), of the hidden pixels alone.

    Args:
        spectra: What was observed, nothing hidden.
        model: What is said without the hidden pixels, shape (n, P).
        hidden: The hidden pixels, shape (n, P).
    """
    whole = star_scores({**spectra, "good": hidden}, model, ())
    return {"hidden_chi2_sum": whole["chi2_sum"][:, 0], "num_hidden": whole["num_good"][:, 0]}


def add_fidelity(scope: Scope, scores: Mapping[str, Array], pixels: PixelSums) -> None:
    """Add how well a subject reproduces the held-out stars.

    Args:
        scope: Of the subject on these stars.
        scores: Of `star_scores` and `hidden_scores`, of the same stars.
        pixels: Of the same stars.
    """
    sums, counts = scores["chi2_sum"], scores["num_good"]
    scope.ratio("chi2", sums[:, 0], counts[:, 0])
    own = star_chi2(scores)
    own = own[np.isfinite(own)]
    for name, share in (("chi2_star_median", 0.5), ("chi2_star_95", 0.95)):
        scope.add(name, np.quantile(own, share) if len(own) else np.nan, n=len(own))
    if "hidden_chi2_sum" in scores:
        scope.ratio("chi2_hidden", scores["hidden_chi2_sum"], scores["num_hidden"])
    if "truth_squared" in scores:
        rms = np.sqrt(scores["truth_squared"].sum() / counts[:, 0].sum())
        noise = np.sqrt(scores["noise_squared"].sum() / counts[:, 0].sum())
        scope.add("rms_to_truth", rms, n=len(sums))
        if rms > 0:
            scope.add("denoising_gain", noise / rms, n=len(sums))
    total = pixels["count"].sum()
    scope.add("pull_mean", pixels["pull"].sum() / total, n=len(sums))
    scope.add("pull_lag_one", pixels.lag_one(), n=len(sums))
    scope.add("residual_rms", np.sqrt(pixels["residual_squared"].sum() / total))
    for column in range(1, sums.shape[1]):
        name = CHIPS[column - 1] if sums.shape[1] == 4 else str(column - 1)
        scope.where(chip=name).ratio("chi2", sums[:, column], counts[:, column])


def add_windows(
    scope: Scope, pixels: PixelSums, wavelength: Array, windows: Mapping[str, Any]
) -> None:
    """Add pulls and the bias of the equivalent width inside the windows of each element.

    The bias, in mA summed over the windows, is that of an absorption: positive if the model's
    lines are too deep.

    Args:
        scope: Of the subject on the held-out stars.
        pixels: Sums over these stars.
        wavelength: In A, shape (P,).
        windows: Element to list of (low, high) in A.
    """
    width = np.gradient(wavelength)
    for element, spans in windows.items():
        inside = in_windows(wavelength, spans) & (pixels["count"] > 0)
        if not inside.any():
            continue
        count, own = pixels["count"][inside].sum(), scope.where(element=element)
        own.add("pull_rms", np.sqrt(pixels["pull_squared"][inside].sum() / count))
        bias = (pixels.mean("residual") * width)[inside].sum() * 1e3
        own.add("equivalent_width_bias", bias)


def in_windows(wavelength: Array, spans: Sequence[tuple[float, float]]) -> Array:
    """Return which pixels are inside any of the windows, bool, shape (P,)."""
    parts = [(wavelength >= low) & (wavelength <= high) for low, high in spans]
    return np.any(parts, axis=0)


def star_chi2(scores: Mapping[str, Array]) -> Array:
    """Return chi^2 per good pixel of each star, NaN without good pixels, shape (n,)."""
    return divide(scores["chi2_sum"][:, 0], scores["num_good"][:, 0])
