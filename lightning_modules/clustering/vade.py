"""Variational deep embedding: a variational autoencoder that clusters (VaDE)."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.clustering.losses import zero_from
from lightning_modules.clustering.mixture_prior import MixturePrior
from lightning_modules.clustering.module import StellarVAE
from lightning_modules.clustering.progress import Phase, Progress
from lightning_modules.nn.mlp import Variant
from lightning_modules.nn.modes import evaluation
from lightning_modules.optimizers import Schedule


class VaDE(StellarVAE):
    """Clusters stars by a variational autoencoder whose prior is a mixture with a background.

    p(c) = π_c, p(z|c) = N(z; μ_c, diag σ_c²), p(x|z) = N(x; x̂(z), s² + C), C the star's variances
    in scaled units. **Pretraining** for `pretrain_epochs`: reconstruction alone, for a prior
    N(0, 1) would push the clusters together before there is a mixture.
    **Clustering**: a mixture of K + 1 diagonal Gaussians is fitted to the mean latents of the whole
    training split; the one of the largest volume is the background, column 0, and the clusters
    follow by falling share. Then the evidence lower bound moves everything, the mixture too.

    Logged terms: those of `StellarVAE`, `kl` is 0 in pretraining. The last epoch counts:
    losses of the two phases do not compare.

    Reference: Jiang et al. 2017 (arXiv:1611.05148), whose responsibilities are those of a sampled
    latent; here they make the bound tightest, in closed form. Background and errors are not theirs.

    Args:
        num_features: Features of a star; must match the data.
        num_clusters: K, beside the background.
        hidden_dims: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent_dim: Width of the latent space.
        batch_norm: Normalise hidden layers over the batch.
        dropout: Dropout in the hidden layers.
        beta: Weight β of the KL term; 1 gives the evidence lower bound.
        warmup_epochs: Epochs over which β rises, from the first of the run; 0 starts at the full
            weight.
        pretrain_epochs: Epochs of reconstruction alone.
        use_errors: Whether the noise of p(x|z) holds the star's `covariance`.
        mixture_seed: Seed of the mixture's 10 starts.
        variant: `plain`, `residual` or `attention`.
        asinh: Whether to compress the tails of the scaled features by asinh, so that a few fast
            or near field stars do not dominate the loss.
        gradient_checkpointing: Recompute hidden layers in the backward pass to save memory.
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay of AdamW; norms, biases and embeddings have none.
        schedule: `constant`, or `cosine`: half a cosine from `lr` to 0 at the last optimizer step.
        warmup_steps: Optimizer steps over which the rate first rises linearly to `lr`.
    """

    final_state_is_best: ClassVar[bool] = True

    def __init__(
        self,
        num_features: int = 5,
        num_clusters: int = 2,
        hidden_dims: Sequence[int] = (128, 64, 32),
        latent_dim: int = 4,
        batch_norm: bool = True,
        dropout: float = 0.0,
        beta: float = 1.0,
        warmup_epochs: int = 10,
        pretrain_epochs: int = 40,
        use_errors: bool = True,
        mixture_seed: int = 0,
        variant: Variant = "plain",
        asinh: bool = True,
        gradient_checkpointing: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(
            num_features, hidden_dims, latent_dim, batch_norm, dropout, beta, warmup_epochs,
            variant, asinh, gradient_checkpointing, lr, weight_decay, schedule, warmup_steps,
        )  # fmt: skip
        self.save_hyperparameters()
        if num_clusters < 1:
            raise ValueError(f"model.num_clusters={num_clusters} must be 1 or more")
        self.pretrain_epochs, self.use_errors = pretrain_epochs, use_errors
        self.mixture_seed = mixture_seed
        self.prior = MixturePrior(num_clusters + 1, latent_dim)
        self.progress = Progress()

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shapes of `features`, and of `covariance` with `use_errors`."""
        shapes = super().expected_shapes()
        return shapes | ({"covariance": ((5, 5), "use_errors")} if self.use_errors else {})

    def log_noise(self, batch: Batch, good: Tensor) -> Tensor:
        """Return log of the noise's standard deviation, ½ log(s² + C), (batch, features)."""
        if not self.use_errors:
            return super().log_noise(batch, good)
        variance = torch.zeros_like(batch["features"])
        known = batch["covariance"].diagonal(dim1=1, dim2=2)
        variance[:, : known.shape[1]] = known * self.scaler.slope(batch["features"])[:, :5].square()
        variance = torch.where(good, variance, 0.0)
        return 0.5 * torch.log(torch.exp(2.0 * self.net.log_noise) + variance)

    def latent_kl(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return the divergence from the mixture, shape (batch,); 0 in pretraining."""
        if self.progress.phase is Phase.PRETRAINING:
            return torch.zeros_like(mean[:, 0]) + zero_from(self.prior.parameters())
        return self.prior.kl(mean, log_variance)

    def draw_latent(self, number: int) -> Tensor:
        """Return draws from the mixture, shape (number, latent).

        Raises:
            ValueError: If pretraining is not over: there is no mixture yet.
        """
        if self.progress.phase is Phase.PRETRAINING:
            raise ValueError(
                f"VaDE has no mixture to draw from before epoch {self.pretrain_epochs} "
                "(model.pretrain_epochs)"
            )
        return self.prior.draw(number)

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return the autoencoder's predictions, `probability` (batch, 1 + K) and `assignment`.

        Column 0 is the background. Before the clustering phase there are no clusters to tell of.
        """
        prediction = super().predict_step(batch, batch_idx)
        if self.progress.phase is not Phase.PRETRAINING:
            log_variance = 2.0 * prediction["latent_error"].log()
            share = self.prior.responsibilities(prediction["latent"], log_variance)
            prediction |= {"probability": share, "assignment": share.argmax(dim=1)}
        return prediction

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Fit the mixture to the mean latents of the training split when pretraining is over."""
        epoch = self.trainer.current_epoch
        if self.progress.phase is not Phase.PRETRAINING or epoch < self.pretrain_epochs:
            return
        self._take_first(self.net)
        with torch.no_grad(), evaluation(self.net):
            latent = torch.cat([self.embed(self.scaled(x)[0]) for x in self._training_split()])
        self.prior.start(latent, self.mixture_seed)
        for values in self.prior.parameters():
            values.data.copy_(self.trainer.strategy.broadcast(values.data))
        self.progress.enter(Phase.CLUSTERING, epoch)
