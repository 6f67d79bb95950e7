"""The variational autoencoder of spectra: SpectraVAE."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from rich.progress import Progress
from torch import Tensor, nn

from lightning_modules.base import Batch
from lightning_modules.losses.divergence import gaussian_kl
from lightning_modules.optimizers import Schedule
from lightning_modules.spectra.base import Inputs, SpectraModule, chi2_per_pixel
from lightning_modules.spectra.labels import monomials
from lightning_modules.spectra.losses import (
    negative_log_likelihood,
    scattered_negative_log_likelihood,
)
from lightning_modules.spectra.moments import label_trend, moments_of
from lightning_modules.spectra.network import SkipNetwork, SpectraNetwork
from lightning_modules.spectra.outliers import population_rows
from lightning_modules.spectra.reference_network import ReferenceNetwork
from lightning_modules.spectra.separability import SEPARABILITIES, Separability
from lightning_modules.spectra.structure import STRUCTURES, Posterior, Structure
from lightning_modules.spectra.warm_start import PASSES, Part, fit_linear_model

INITIAL_SCATTER = 0.1  # of the median error
START_LOG_SCATTER = -4.0  # in standard units, for want of statistics: weights of another model
TRUNK = (512, 256, 128)


class SpectraVAE(SpectraModule):
    """Variational autoencoder of stellar spectra with injected labels.

    Labels (Teff, log g, [Fe/H]) go into encoder and decoder; D latents hold what labels do not say.
    In training labels are re-sampled within their errors, the same draw for both; a missing label
    gets a learned default. The loss of a star, in nats, is

        -log p(x | z, u) + β structure + separability_weight · I(z; u)

    with a Gaussian likelihood over good pixels, each with its own error (and intrinsic scatter, if
    asked for). Likelihood and KL are a star's own and the other terms means, so that weights mean
    the same at any batch size. `loss` is the mean over stars divided by the number of pixels of the
    grid, a constant, so that gradients are of order one.

    Evaluation uses the mean latents and labels as given, so that `val/loss` is reproducible. The
    population that `outlier_score` compares with is fitted on the validation split at each
    validation of a training run (without one, on the training batches).

    Logged terms, in nats a star but where said: `loss` (nats a pixel); `nll`; `chi2` per good pixel
    by the errors alone; `kl`; `structure`; `separability`.

    Reference: Kingma & Welling 2014 (arXiv:1312.6114); Tijauna/apogee-vae for injected labels and
    separability.

    Args:
        num_pixels: Length P of a spectrum; must match the data.
        num_labels: Injected labels L; must match the data.
        latent_dim: Latents D.
        network: `skip`, a linear model with its exact posterior and trunks around it; or
            `reference`, that of Tijauna/apogee-vae.
        hidden_dims: Widths of the encoder, mirrored in the decoder; null is 512, 256, 128 for
            `skip`, and seven times half the width before for `reference`.
        beta: Weight β of the structure term; 1 with `kl` gives the evidence lower bound.
        structure: `kl`; `mmd` (no KL, `structure_penalty` · MMD²); `beta_tc` (KL + penalty · total
            correlation); `dip` (KL + penalty · squared deviation of the means' covariance from 1).
        structure_penalty: Weight inside `mmd`, `beta_tc` and `dip`.
        free_nats: Nats of KL that each latent has for free.
        warmup_epochs: Epochs over which β rises from 0 in training.
        separability: `gaussian_mi`, `cross_correlation`, `hsic`, `adversary` or `none`.
        separability_weight: Weight of a nat of separability; 0 measures it only.
        separability_momentum: Share of the running covariance kept at each step; more for smaller
            batches, but what it remembers is of weights m / (1 - m) steps ago.
        decorrelate: Whether, before each validation of a training run, the latents of `skip` lose
            what a linear regression on the labels explains. The decoder gets it, so that the
            spectra stay; which latents to choose among those that give the same spectra is free.
        label_noise: Factor of the label errors when labels are re-sampled in training.
        label_dropout: Probability that a star loses its labels in training, so that the default
            and what stands in for it are learnt.
        intrinsic_scatter: Whether to learn a scatter of each pixel beside the errors.
        warm_start: Whether training of `skip` starts from a fitted linear model.
        compile: Compile the network's trunks with `torch.compile`.
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay of AdamW; norms, biases and embeddings have none.
        schedule: `constant`, or `cosine`: half a cosine from `lr` to 0 at the last optimizer step.
        warmup_steps: Optimizer steps over which the rate first rises linearly to `lr`.
    """

    terms: ClassVar[tuple[str, ...]] = ("loss", "nll", "chi2", "kl", "structure", "separability")
    warm_started: Tensor

    def __init__(
        self,
        num_pixels: int = 7514,
        num_labels: int = 3,
        latent_dim: int = 28,
        network: Literal["skip", "reference"] = "skip",
        hidden_dims: Sequence[int] | None = None,
        beta: float = 1.0,
        structure: Structure = "kl",
        structure_penalty: float = 10.0,
        free_nats: float = 0.0,
        warmup_epochs: int = 0,
        separability: Separability = "gaussian_mi",
        separability_weight: float = 0.0,
        separability_momentum: float = 0.5,
        decorrelate: bool = True,
        label_noise: float = 1.0,
        label_dropout: float = 0.0,
        intrinsic_scatter: bool = False,
        warm_start: bool = True,
        compile: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
    ) -> None:
        _check_shares(label_dropout, separability_momentum)
        super().__init__(lr, weight_decay, schedule, warmup_steps)
        self.save_hyperparameters()
        sizes = num_pixels, num_labels, latent_dim
        net: SpectraNetwork = (
            SkipNetwork(*sizes, hidden_dims or TRUNK)
            if network == "skip"
            else ReferenceNetwork(*sizes, hidden_dims)
        )
        self.build(num_pixels, net)
        self.beta, self.warmup_epochs = beta, warmup_epochs
        self.structure, self.free_nats = structure, free_nats
        self.structure_penalty = structure_penalty
        self.separability = SEPARABILITIES[separability if num_labels else "none"](
            latent_dim, num_labels, separability_weight, separability_momentum
        )
        self.warm_start, self.decorrelate = warm_start, decorrelate
        self.label_noise, self.label_dropout = label_noise, label_dropout
        if intrinsic_scatter:
            self.log_scatter = nn.Parameter(torch.full((num_pixels,), START_LOG_SCATTER))
        self.register_buffer("warm_started", torch.tensor(False))
        if compile:  # in place: the names of the weights stay
            for module in net.trunks():
                module.compile()

    def fit_statistics(self, statistics: dict[str, Tensor]) -> None:
        """Take the scaling and start the intrinsic scatter at a tenth of the median error."""
        super().fit_statistics(statistics)
        if self.log_scatter is not None:
            scatter = INITIAL_SCATTER * statistics["flux_noise"] / statistics["flux_scale"]
            with torch.no_grad():
                self.log_scatter.copy_(scatter.clamp_min(1e-4).log())

    def star_terms(self, batch: Batch, sample: bool = False) -> dict[str, Tensor]:
        """Return `nll`, `chi2` per good pixel and `kl` of every star, each (B,).

        Args:
            batch: As the datamodule documents.
            sample: Draw latents and labels as in training.
        """
        return self._pass(batch, sample)[0]

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the loss and its terms, means over the stars."""
        stars, inputs, posterior = self._pass(batch, stage == "train")
        nll = stars["nll"].mean()
        counts = inputs.labelled & self.counted(batch)
        u = self.net.labels(batch["label"])[0].detach()  # draws would add correlations of theirs
        with torch.autocast(self.device.type, enabled=False):
            structure = STRUCTURES[self.structure](
                posterior, self.free_nats, self.structure_penalty
            )
            separability, term = self.separability(
                posterior.mean, u, counts, self.sum_over_processes
            )
        self._collect(posterior.mean, stars["chi2"], batch, stage)
        beta = self.beta * self.ramp(stage, self.warmup_epochs)
        loss = (nll + beta * structure + term) / self.num_pixels
        return {
            "loss": loss,
            "nll": nll,
            "chi2": stars["chi2"].nan_to_num(0.0).mean(),
            "kl": stars["kl"].mean(),
            "structure": structure,
            "separability": separability,
        }

    def on_fit_start(self) -> None:
        """Fit the linear model that training starts from, once in the life of the weights.

        Raises:
            ValueError: If the trainer has no datamodule to take spectra or statistics from.
        """
        self._check_scaled()
        if not self.warm_start or self.warm_started or not isinstance(self.net, SkipNetwork):
            return
        if getattr(self.trainer, "datamodule", None) is None:
            raise ValueError(
                "SpectraVAE starts from a linear model of the whole training split: call "
                "Trainer.fit(module, datamodule=...), or set model.warm_start to false"
            )
        with Progress(disable=not self.trainer.is_global_zero, transient=True) as progress:
            task = progress.add_task("warm start: linear model", total=PASSES)
            model = fit_linear_model(
                self._parts, self.net.latent_dim, advance=lambda: progress.advance(task)
            )
        self.net.assign_linear(*self.trainer.strategy.broadcast(model))
        self.warm_started.fill_(True)

    def on_validation_epoch_start(self) -> None:
        """Take the labels' trend out of the latents; collect the population afresh."""
        self.population.reset()
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._decorrelate()

    def on_validation_epoch_end(self) -> None:
        """Log the means; in a training run, fit the population."""
        super().on_validation_epoch_end()
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.population.fit()
        self.population.reset()

    def on_train_epoch_end(self) -> None:
        """Log the means; without validation, fit the population to the training batches."""
        super().on_train_epoch_end()
        if not self._validates():
            self.population.fit()
        self.population.reset()

    @torch.no_grad()
    def _decorrelate(self) -> None:
        """Shift the latents by a regression on the labels over some of the training split."""
        if not self.decorrelate or not isinstance(self.net, SkipNetwork):
            return
        stars = ((x.u, self._encode(x)[0], x.labelled) for x in self.training_inputs())
        slopes = label_trend(stars)
        if slopes is not None:  # every process has found them, but maybe not to the last bit
            self.net.shift_latents(self.trainer.strategy.broadcast(slopes))

    def _pass(self, batch: Batch, sample: bool) -> tuple[dict[str, Tensor], Inputs, Posterior]:
        """Return the terms of each star, the batch in standard units, and the posteriors."""
        label = batch["label"]
        if sample:
            shares = self.label_noise, self.label_dropout
            label = self.net.labels.draw(label, batch["label_error"], *shares)
        inputs = self.inputs(batch, label)
        mean, log_variance = self._encode(inputs)
        noise = torch.randn_like(mean) if sample else torch.zeros_like(mean)
        latent = torch.addcmul(mean, (0.5 * log_variance).exp(), noise)
        y = self.net.decode(latent, inputs.u, inputs.missing)
        if self.log_scatter is None:
            nll = negative_log_likelihood(y, inputs.x, inputs.error_weight)
            chi2 = 2.0 * nll.detach() / inputs.num_good
        else:
            nll = scattered_negative_log_likelihood(
                y, inputs.x, inputs.error_weight, self.log_scatter
            )
            chi2 = chi2_per_pixel(y, inputs)
        kl = gaussian_kl(mean, log_variance).sum(dim=1)
        posterior = Posterior(mean, log_variance, latent)
        return {"nll": nll, "chi2": chi2, "kl": kl}, inputs, posterior

    def _parts(self) -> Iterator[Part]:
        """Yield training stars with all their labels, for the warm start."""
        for inputs in self.training_inputs():
            part, known = Part(inputs.x, inputs.weight, monomials(inputs.u)), inputs.labelled
            yield part if known.all() else Part(*(values[known] for values in part))

    def _collect(self, mean: Tensor, chi2: Tensor, batch: Batch, stage: str) -> None:
        """Collect the population: validation stars of a training run, else training stars."""
        if not self.has_trainer or self.trainer.state.fn != "fit":
            return
        if stage == ("val" if self._validates() else "train"):
            rows, counts = population_rows(mean.detach(), chi2)
            moments = moments_of(rows, counts & self.counted(batch))
            self.population.update(self.sum_over_processes(moments))


def _check_shares(label_dropout: float, separability_momentum: float) -> None:
    """Refuse what is no share.

    Raises:
        ValueError: Naming the arguments.
    """
    if not (0 <= label_dropout <= 1 and 0 <= separability_momentum < 1):
        raise ValueError(
            f"model.label_dropout={label_dropout} must be in 0..1 and "
            f"model.separability_momentum={separability_momentum} from 0 to below 1"
        )
