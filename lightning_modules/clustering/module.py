"""Autoencoders of stars: what every clustering model shares, plain and variational."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.clustering.features import check_features
from lightning_modules.clustering.latent_module import LatentModule
from lightning_modules.clustering.losses import (
    AdaptiveClusteringLoss,
    gaussian_log_likelihood,
    reconstruction_error,
    weighted_sum,
)
from lightning_modules.clustering.network import AutoencoderNet, VariationalNet, soft_assignment
from lightning_modules.clustering.physics_losses import ASTROMETRIC, NEEDS, TERMS, check_terms
from lightning_modules.losses.divergence import gaussian_kl
from lightning_modules.nn.mlp import Variant
from lightning_modules.nn.modes import evaluation
from lightning_modules.optimizers import Schedule


class StellarAutoencoder(LatentModule):
    """Autoencoder of stars' astrometry; the pretraining of deep embedded clustering.

    Each hidden layer is linear, batch normalisation, ReLU, dropout; latent and output are linear.
    The loss is the mean squared error of the scaled features that are good. `hidden_dims:
    [500, 500, 2000], latent_dim: 10, batch_norm: false, dropout: 0` is the network of the DEC and
    IDEC papers.

    Reference: Hinton & Salakhutdinov 2006 (Science 313, 504); Vincent et al. 2008 (ICML) for
    `corruption`.

    Args:
        num_features: Features of a star; must match the data.
        hidden_dims: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent_dim: Width of the latent space.
        batch_norm: Normalise hidden layers over the batch.
        dropout: Dropout in the hidden layers.
        corruption: Share of input features set to the median in training, to be restored by the
            network (denoising autoencoder); 0.2 in the DEC paper.
        variant: `plain`, `residual` (shortcuts around hidden layers) or `attention`
            (self-attention among the features before the encoder).
        asinh: Whether to compress the tails of the scaled features by asinh, so that a few fast
            or near field stars do not dominate the loss.
        gradient_checkpointing: Recompute hidden layers in the backward pass to save memory.
        physics: Weights of the terms of `physics_losses` that join the loss: `spatial`,
            `kinematic`, `distance`, `locus`, `age`, `metallicity`. Their columns are the stars'
            neighbourhoods in the latent.
        adaptive: Learn the weights of all terms from these on (`AdaptiveClusteringLoss`).
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay of AdamW; norms, biases and embeddings have none.
        schedule: `constant`, or `cosine`: half a cosine from `lr` to 0 at the last optimizer step.
        warmup_steps: Optimizer steps over which the rate first rises linearly to `lr`.
    """

    def __init__(
        self,
        num_features: int = 5,
        hidden_dims: Sequence[int] = (128, 64, 32),
        latent_dim: int = 16,
        batch_norm: bool = True,
        dropout: float = 0.1,
        corruption: float = 0.0,
        variant: Variant = "plain",
        asinh: bool = True,
        gradient_checkpointing: bool = False,
        physics: dict[str, float] | None = None,
        adaptive: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
    ) -> None:
        self.physics = dict(physics or {})
        check_terms(self.physics)
        if self.physics:  # before the base makes a mean of each
            names = dict.fromkeys((*self.terms, "reconstruction", *self.physics))
            self.terms = tuple(names)  # type: ignore[misc]
        super().__init__(lr, weight_decay, schedule, warmup_steps)
        self.save_hyperparameters()
        options = batch_norm, dropout, variant, gradient_checkpointing
        net = AutoencoderNet(num_features, hidden_dims, latent_dim, *options)
        self.build(num_features, net, asinh)
        self.latent_dim, self.corruption = latent_dim, corruption
        self.adaptive = self.learned_weights({"reconstruction": 1.0}) if adaptive else None

    def learned_weights(self, weights: dict[str, float]) -> AdaptiveClusteringLoss:
        """Return weights to learn, of the given terms and of the physical ones.

        Args:
            weights: To start from, by name.
        """
        return AdaptiveClusteringLoss(weights | self.physics)

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shapes of `features` and of what the physical terms need."""
        needed = {key for name in self.physics for key in NEEDS[name]}
        shapes = {key: ((5, 5) if key == "covariance" else (), "physics") for key in needed}
        return {**super().expected_shapes(), **shapes}

    def setup(self, stage: str) -> None:
        """Refuse physical terms of what no star has, or of features in another order.

        Raises:
            ValueError: If a column that a term needs is elsewhere or, in training, all NaN.
        """
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        for term in (name for name in ASTROMETRIC if name in self.physics):
            check_features(datamodule, f"model.physics with {term!r}")
        if stage != "fit" or datamodule is None:
            return
        for term in self.physics:
            for key in NEEDS[term]:
                if not any(
                    part[key].isfinite().any() for part in datamodule.batches("train", [key])
                ):
                    raise ValueError(
                        f"model.physics has {term!r}, but no star of the training split has a "
                        f"{key!r}; leave {term!r} out or bring it"
                    )

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the loss and its terms; the reconstruction error is in scaled units."""
        x, good = self.scaled(batch)
        latent = self.embed(corrupted(x, self.corruption, stage))
        error = reconstruction_error(x, self.net.decode(latent), good).mean()
        near = soft_assignment(latent, self.gather_rows(latent, batch)) if self.physics else latent
        return self.combined({"reconstruction": error}, {"reconstruction": 1.0}, near, batch)

    def combined(
        self, terms: dict[str, Tensor], weights: dict[str, float], q: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        """Return terms of the loss with the physical ones and their weighted sum, `loss`.

        The physical terms judge the global batch, so that any number of processes finds the same.

        Args:
            terms: Name to a scalar.
            weights: Of the terms that are trained, by name.
            q: Memberships that the physical terms judge, shape (batch, columns).
            batch: As the datamodule documents it.
        """
        if self.physics:
            keys = {"features", *(key for name in self.physics for key in NEEDS[name])}
            stars = {key: self.gather_rows(batch[key], batch) for key in sorted(keys)}
            q = self.gather_rows(q, batch)
            with torch.autocast(q.device.type, enabled=False):
                terms = terms | {name: TERMS[name](q, stars) for name in self.physics}
        total = weighted_sum if self.adaptive is None else self.adaptive
        return {"loss": total(weights | self.physics, terms), **terms}


class StellarVAE(LatentModule):
    """Variational autoencoder of stars' astrometry.

    Minimises the negative evidence lower bound -log p(x|z) + β KL(q(z|x) ‖ N(0, 1)) in nats a
    star, with a Gaussian likelihood whose standard deviation is learnt for each feature. In
    training, β rises linearly from 0 over the first `warmup_epochs`, step by step; validation and
    test use the full β, so that epochs can be compared, and the mean of q(z|x) for z, so that
    they are reproducible.

    Logged terms: `loss`, `nll` (-log p(x|z)), `kl`, `reconstruction` (mean squared error in
    scaled units).

    Reference: Kingma & Welling 2014 (arXiv:1312.6114); warm-up: Bowman et al. 2016
    (arXiv:1511.06349); learnt noise: Rybkin et al. 2021 (arXiv:2006.13202).

    Args:
        num_features: Features of a star; must match the data.
        hidden_dims: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent_dim: Width of the latent space.
        batch_norm: Normalise hidden layers over the batch.
        dropout: Dropout in the hidden layers.
        beta: Weight β of the KL term; 1 gives the evidence lower bound.
        warmup_epochs: Epochs over which β rises; 0 starts at the full weight.
        variant: `plain`, `residual` or `attention`.
        asinh: Whether to compress the tails of the scaled features by asinh, so that a few fast
            or near field stars do not dominate the loss.
        gradient_checkpointing: Recompute hidden layers in the backward pass to save memory.
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay of AdamW; norms, biases and embeddings have none.
        schedule: `constant`, or `cosine`: half a cosine from `lr` to 0 at the last optimizer step.
        warmup_steps: Optimizer steps over which the rate first rises linearly to `lr`.
    """

    terms: ClassVar[tuple[str, ...]] = ("loss", "nll", "kl", "reconstruction")
    net: VariationalNet

    def __init__(
        self,
        num_features: int = 5,
        hidden_dims: Sequence[int] = (128, 64, 32),
        latent_dim: int = 16,
        batch_norm: bool = True,
        dropout: float = 0.0,
        beta: float = 1.0,
        warmup_epochs: int = 10,
        variant: Variant = "plain",
        asinh: bool = True,
        gradient_checkpointing: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(lr, weight_decay, schedule, warmup_steps)
        self.save_hyperparameters()
        options = batch_norm, dropout, variant, gradient_checkpointing
        net = VariationalNet(num_features, hidden_dims, latent_dim, *options)
        self.build(num_features, net, asinh)
        self.beta, self.warmup_epochs, self.latent_dim = beta, warmup_epochs, latent_dim

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the negative evidence lower bound and its parts."""
        x, good = self.scaled(batch)
        reconstruction, mean, log_variance = self.net(x)
        noise = self.log_noise(batch, good)
        nll = -gaussian_log_likelihood(x, reconstruction, good, noise).mean()
        kl = self.latent_kl(mean, log_variance).mean()
        return {
            "loss": nll + self.beta * self.ramp(stage, self.warmup_epochs) * kl,
            "nll": nll,
            "kl": kl,
            "reconstruction": reconstruction_error(x, reconstruction, good).mean(),
        }

    def log_noise(self, batch: Batch, good: Tensor) -> Tensor:
        """Return log of the noise's standard deviation, (features,) or (batch, features).

        Args:
            batch: As the datamodule documents it.
            good: Which features count, bool, shape (batch, features).
        """
        return self.net.log_noise

    def latent_kl(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return KL(q(z|x) ‖ p(z)) in nats, shape (batch,).

        Args:
            mean: Of q, shape (batch, latent).
            log_variance: Likewise.
        """
        return gaussian_kl(mean, log_variance).sum(dim=1)

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return the base's predictions and `latent_error`, standard deviations (batch, latent)."""
        prediction = super().predict_step(batch, batch_idx)
        _, log_variance = self.net.posterior(self.scaled(batch)[0])
        return prediction | {"latent_error": torch.exp(0.5 * log_variance)}

    @torch.no_grad()
    def sample(self, number: int) -> Tensor:
        """Return stars drawn from p(z) p(x|z), noise included, (number, features), physical units.

        Dropout and batch normalisation act as in evaluation; `torch.manual_seed` fixes the draw.
        """
        with evaluation(self.net):
            mean = self.net.decode(self.draw_latent(number))
        return self.scaler.inverse(mean + self.net.log_noise.exp() * torch.randn_like(mean))

    def draw_latent(self, number: int) -> Tensor:
        """Return draws from the prior p(z), shape (number, latent)."""
        return torch.randn(number, self.latent_dim, device=self.device)

    @torch.no_grad()
    def interpolate(self, first: Tensor, last: Tensor, steps: int) -> Tensor:
        """Return the decoded straight line between two stars' mean latents, (steps, features).

        Args:
            first: Features in physical units, shape (features,); NaN where absent.
            last: Likewise.
            steps: Points on the line, both ends among them.
        """
        x, _ = self.scaled({"features": torch.stack([first, last]).to(self.device)})
        with evaluation(self.net):
            start, end = self.embed(x)
            share = torch.linspace(0.0, 1.0, steps, device=self.device)[:, None]
            return self.scaler.inverse(self.net.decode(torch.lerp(start, end, share)))


def corrupted(x: Tensor, share: float, stage: str) -> Tensor:
    """Return a network's input: in training, a share of the features is set to the median, 0."""
    if stage != "train" or not share:
        return x
    return torch.where(torch.rand_like(x) < share, 0.0, x)
