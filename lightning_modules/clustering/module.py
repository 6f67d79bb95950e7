"""Autoencoders of stars: what every clustering model shares, plain and variational."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lightning_modules.base import BaseModule, Batch
from lightning_modules.clustering.losses import gaussian_log_likelihood, reconstruction_error
from lightning_modules.clustering.network import AutoencoderNet, VariationalNet
from lightning_modules.losses.divergence import gaussian_kl
from lightning_modules.nn.mlp import Variant
from lightning_modules.nn.scaling import RobustScaler
from lightning_modules.optimizers import Schedule


class LatentModule(BaseModule):
    """Base of models that embed stars: scaling, masks and predictions.

    Missing features (NaN, or `good` False) enter the network as the median and carry no weight in
    any loss. The scaler is fitted on the training split before training and is part of the
    checkpoint, so that batches hold physical units.
    """

    net: AutoencoderNet

    def build(self, num_features: int, net: AutoencoderNet, asinh: bool, compile: bool) -> None:
        """Take a network, and the scaler of its input; called by constructors.

        Args:
            num_features: Features of a star.
            net: Its `encoder` and `decoder` are compiled on request.
            asinh: Compress the tails of the scaled features.
            compile: Compile with `torch.compile`.
        """
        self.num_features = num_features
        self.scaler, self.net = RobustScaler(num_features, asinh), net
        if compile:  # in place: the names of the weights stay
            net.encoder.compile()
            net.decoder.compile()

    def embed(self, x: Tensor) -> Tensor:
        """Return the latent (batch, latent), or its mean, of scaled features (batch, features)."""
        return self.net.encode(x)

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shape of `features`."""
        return {"features": ((self.num_features,), "num_features")}

    def fit_statistics(self, statistics: dict[str, Tensor]) -> None:
        """Take `location` and `scale` of the features, each of shape (features,)."""
        self.scaler.assign(statistics["location"], statistics["scale"])

    def scaled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return scaled features with gaps at the median, and which are good.

        Both have shape (batch, features).

        Raises:
            ValueError: If the batch is empty.
        """
        if not len(batch["features"]):
            raise ValueError(f"{type(self).__name__} got a batch without stars")
        x = self.scaler(batch["features"])
        good = torch.isfinite(x)
        if "good" in batch:
            good = good & batch["good"]
        return torch.where(good, x, 0.0), good

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return `index`, `latent` (batch, latent) and `reconstruction_error` (batch,)."""
        x, good = self.scaled(batch)
        latent = self.embed(x)
        error = reconstruction_error(x, self.net.decode(latent), good)
        return {"index": batch["index"], "latent": latent, "reconstruction_error": error}


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
        compile: Compile the network with `torch.compile`.
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
        compile: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(lr, weight_decay, schedule, warmup_steps)
        self.save_hyperparameters()
        options = batch_norm, dropout, variant, gradient_checkpointing
        net = AutoencoderNet(num_features, hidden_dims, latent_dim, *options)
        self.build(num_features, net, asinh, compile)
        self.corruption = corruption

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the reconstruction error in scaled units as `loss`."""
        x, good = self.scaled(batch)
        reconstruction = self.net.decode(self.embed(corrupted(x, self.corruption, stage)))
        return {"loss": reconstruction_error(x, reconstruction, good).mean()}


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
        compile: Compile the network with `torch.compile`.
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
        compile: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(lr, weight_decay, schedule, warmup_steps)
        self.save_hyperparameters()
        options = batch_norm, dropout, variant, gradient_checkpointing
        net = VariationalNet(num_features, hidden_dims, latent_dim, *options)
        self.build(num_features, net, asinh, compile)
        self.beta, self.warmup_epochs = beta, warmup_epochs

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the negative evidence lower bound and its parts."""
        x, good = self.scaled(batch)
        reconstruction, mean, log_variance = self.net(x)
        nll = -gaussian_log_likelihood(x, reconstruction, good, self.net.log_noise).mean()
        kl = gaussian_kl(mean, log_variance).sum(dim=1).mean()
        return {
            "loss": nll + self.beta * self.ramp(stage, self.warmup_epochs) * kl,
            "nll": nll,
            "kl": kl,
            "reconstruction": reconstruction_error(x, reconstruction, good).mean(),
        }


def corrupted(x: Tensor, share: float, stage: str) -> Tensor:
    """Return a network's input: in training, a share of the features is set to the median, 0."""
    if stage != "train" or not share:
        return x
    return torch.where(torch.rand_like(x) < share, 0.0, x)
