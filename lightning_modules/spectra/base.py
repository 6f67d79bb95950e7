"""What every spectra model is to a scientist: units, latents, denoised and invented spectra."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.base import BaseModule, Batch
from lightning_modules.spectra.losses import negative_log_likelihood, with_scatter
from lightning_modules.spectra.moments import Population
from lightning_modules.spectra.network import SpectraNetwork
from lightning_modules.spectra.outliers import outlier_score

MOST_STARS = 20_000  # of a larger training split, every second, third... star will do
INPUT_KEYS = ("flux", "flux_ivar", "good", "label")


class Inputs(NamedTuple):
    """A batch in standard units.

    x: Flux, 0 where not good, shape (B, P).
    error_weight: Inverse variance of the errors, 0 where not good, shape (B, P).
    weight: The same with intrinsic scatter, if any, shape (B, P).
    num_good: Good pixels, shape (B,).
    u: Labels, defaults where missing, shape (B, L).
    missing: Which labels are missing, shape (B, L).
    """

    x: Tensor
    error_weight: Tensor
    weight: Tensor
    num_good: Tensor
    u: Tensor
    missing: Tensor

    @property
    def labelled(self) -> Tensor:
        """Which stars have all their labels, (B,)."""
        return ~self.missing.any(dim=1)


class SpectraModule(BaseModule):
    """Base of models that embed spectra: units, masks, predictions and the scientist's methods.

    Batches and labels are in physical units everywhere; pixels that are not good leave no trace in
    anything. Scaling, population and how the training spectra's continuum was normalised
    (`continuum_mask`, the pixels of a polynomial's fit, and `continuum_degree`, -1 if nobody said)
    are fitted buffers and travel in the checkpoint.
    """

    log_scatter: Tensor | None
    continuum_mask: Tensor
    continuum_degree: Tensor

    def build(self, num_pixels: int, net: SpectraNetwork) -> None:
        """Take a network for spectra of P pixels, and make the buffers; called by constructors."""
        self.num_pixels, self.net = num_pixels, net
        self.population = Population(net.latent_dim + 1)
        self.log_scatter = None
        self.register_buffer("continuum_mask", torch.zeros(num_pixels, dtype=torch.bool))
        self.register_buffer("continuum_degree", torch.tensor(-1))

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shapes of `flux` and `label`."""
        return {
            "flux": ((self.num_pixels,), "num_pixels"),
            "label": ((self.net.num_labels,), "num_labels"),
        }

    def fit_statistics(self, statistics: dict[str, Tensor]) -> None:
        """Take `flux_mean`, `flux_scale` (P,), `label_mean` and `label_std` (L,).

        `continuum_mask` (P,) and `continuum_degree` () are kept if the data have them.
        """
        for name in ("continuum_mask", "continuum_degree"):
            if name in statistics:
                self.get_buffer(name).copy_(statistics[name])
        self.net.pixels.assign(statistics["flux_mean"], statistics["flux_scale"])
        self.net.labels.assign(statistics["label_mean"], statistics["label_std"])

    def inputs(self, batch: Batch, label: Tensor | None = None) -> Inputs:
        """Return a batch in standard units, with its own labels or those given (B, L).

        Raises:
            ValueError: If the batch is empty.
        """
        if not len(batch["flux"]):
            raise ValueError(f"{type(self).__name__} got a batch without spectra")
        good = batch["good"]
        x, error_weight = self.net.pixels.standardise(batch["flux"], batch["flux_ivar"], good)
        scatter = self.log_scatter
        weight = error_weight if scatter is None else with_scatter(error_weight, scatter)
        u, missing = self.net.labels(batch["label"] if label is None else label)
        return Inputs(x, error_weight, weight, good.sum(dim=1, dtype=torch.int32), u, missing)

    def training_inputs(self) -> Iterator[Inputs]:
        """Yield stars of the training split, in standard units; without a datamodule none.

        Of more than `MOST_STARS` every second, third... star is taken.
        """
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            return
        step = -(-len(data.rows["train"]) // MOST_STARS)
        for batch in data.batches("train", INPUT_KEYS):
            some = {name: values[::step].to(self.device) for name, values in batch.items()}
            yield self.inputs(some)

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | spectrum, label), each (B, D)."""
        return self._encode(self.inputs(batch))

    def decode(self, latent: Tensor, label: Tensor) -> Tensor:
        """Return the flux (B, P) of latents (B, D) and physical labels (B, L), NaN if missing."""
        return self.net.pixels.flux(self.net.decode(latent, *self.net.labels(label)))

    @torch.no_grad()
    def denoise(self, batch: Batch) -> Tensor:
        """Return the reconstruction of every spectrum, flux units, shape (B, P).

        A spectrum without good pixels gives the spectrum expected from its labels alone.
        """
        return self.decode(self.encode(batch)[0], batch["label"])

    @torch.no_grad()
    def impute(self, batch: Batch) -> Tensor:
        """Return the flux (B, P) with pixels that are not good filled by the reconstruction."""
        return torch.where(batch["good"], batch["flux"], self.denoise(batch))

    @torch.no_grad()
    def generate(self, label: Tensor, num: int = 1) -> Tensor:
        """Return spectra (B, num, P) of new stars with given physical labels (B, L).

        Latents are drawn from N(0, 1) by torch's generator; nothing of noise is added.
        """
        latent = torch.randn(len(label) * num, self.net.latent_dim, device=label.device)
        flux = self.decode(latent, label.repeat_interleave(num, dim=0))
        return flux.unflatten(0, (len(label), num))

    @torch.no_grad()
    def counterfactual(self, batch: Batch, label: Tensor) -> Tensor:
        """Return the spectra (B, P) that the stars would have with other labels, latents the same.

        Args:
            batch: As the datamodule documents.
            label: Physical, (L,) or (B, L); NaN keeps the star's own.
        """
        other = torch.where(torch.isfinite(label), label, batch["label"])
        return self.decode(self.encode(batch)[0], other)

    @torch.no_grad()
    def outlier_score(self, batch: Batch) -> Tensor:
        """Return how unusual each star is, shape (B,); see `outliers.outlier_score`."""
        return self.predict_step(batch)["outlier_score"]

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return what the model says of each spectrum.

        Returns:
            `index` (B,); `latent` (B, D), the mean, and `latent_std` (B, D); `reconstruction`
            (B, P) in flux units; `chi2` (B,) per good pixel by the errors alone, NaN without any;
            `num_good` (B,); `outlier_score` (B,); `label` (B, L), physical, as used;
            `label_missing` (B, L).
        """
        inputs = self.inputs(batch)
        mean, log_variance = self._encode(inputs)
        y = self.net.decode(mean, inputs.u, inputs.missing).float()
        chi2 = chi2_per_pixel(y, inputs)
        return {
            "index": batch["index"],
            "latent": mean,
            "latent_std": (0.5 * log_variance).exp(),
            "reconstruction": self.net.pixels.flux(y),
            "chi2": chi2,
            "num_good": inputs.num_good,
            "outlier_score": outlier_score(self.population, mean, chi2),
            "label": self.net.labels.physical(inputs.u),
            "label_missing": inputs.missing,
        }

    def _check_scaled(self) -> None:
        """Refuse to train in raw units, where temperatures square to millions.

        Raises:
            ValueError: If neither pixels nor labels were ever scaled.
        """
        net = self.net
        if (net.pixels.flux_scale == 1).all() and (net.labels.label_std == 1).all():
            raise ValueError(
                f"{type(self).__name__} knows no scale of flux and labels: call Trainer.fit("
                "module, datamodule=...), or module.fit_statistics(data.training_statistics())"
            )

    def _encode(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the posterior, each (B, D)."""
        return self.net.encode(inputs.x, inputs.weight, inputs.u, inputs.missing)

    def _validates(self) -> bool:
        """Return whether this training run has validation batches."""
        return sum(self.trainer.num_val_batches) > 0


@torch.no_grad()
def chi2_per_pixel(reconstruction: Tensor, inputs: Inputs) -> Tensor:
    """Return Σ_p (x_p - y_p)² / s_p² over the number of good pixels, (B,), NaN without any."""
    chi2 = 2.0 * negative_log_likelihood(reconstruction, inputs.x, inputs.error_weight)
    return chi2 / inputs.num_good
