"""Deep embedded clustering (DEC) and its improved variant (IDEC)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.clustering.headed_autoencoder import Head, HeadedAutoencoder
from lightning_modules.clustering.losses import kl_divergence, reconstruction_error, zero_from
from lightning_modules.clustering.module import corrupted
from lightning_modules.clustering.network import target_distribution
from lightning_modules.clustering.progress import Phase, Progress, restart_optimizers
from lightning_modules.clustering.targets import DECTargets
from lightning_modules.nn.mlp import Variant
from lightning_modules.optimizers import Schedule


class DeepEmbeddedClustering(HeadedAutoencoder):
    """Clusters stars in the latent space of an autoencoder by self-training: DEC and IDEC.

    Three phases in one run. **Pretraining** for `pretrain_epochs`: the autoencoder's
    reconstruction loss L_r.
    **Clustering**: centres from k-means (20 starts) on the latent of the whole training split; then
    L = KL(P‖T) for `dec`, whose decoder is left as it is, or L = L_r + γ KL(P‖T) for `idec`; T are
    Student's-t memberships in the latent and P the sharpened form of Q, computed from the whole
    training split with dropout off and running batch statistics, kept by star index and refreshed
    every `update_interval` optimizer steps. It ends when fewer than `tolerance` of the stars change
    cluster in T between two refreshes. **Fine-tuning** for `finetune_epochs`: L_r + γ KL(P‖T)
    with P as it is, for both methods, so that the decoder fits the embedding again; it begins when
    clustering ends or, at the latest, that many epochs before `max_epochs`.

    Q are the memberships that are predicted. `head: student_t`, as published: Q is T.
    `head: error_aware`: when clustering begins a `ClusterMixture` is fitted to the training split,
    without centre or labels, and kept; Q_ik ∝ π_k S_k(x_i) N(u_i; m_k, η² C_i + Σ_k) T_ik with its
    likelihood, which holds each star's errors C_i. Column 0 is the background, the clusters follow
    in the order in which they were found, and the centres start at their mean latents. So Q says
    what the mixture says where that is sure: the deep part shows in T, in the latent, and in what
    features that the mixture does not know add. T is trained towards the sharpened Q, so Q counts
    the likelihood more than once and tends to be too sure: for calibrated probabilities from
    astrometry alone use `ClusterMixture`.

    With `pretrain_epochs: 0` clustering starts at once, for instance from a `StellarAutoencoder`
    (`--init_from`); centres of a `DeepEmbeddedClustering` checkpoint already clustering are kept.

    Logged terms: `loss`, `reconstruction`, `kl`, and `train/label_change` at each refresh. In
    pretraining `val/loss` is the reconstruction error; after it, the loss of the phase with P from
    the star's own Q and the soft cluster frequencies of the training split. Neither tells which
    epoch is best: the last one counts, and early stopping rests. `run_record["stop_reason"]` says
    why training ended, `run_record["settled"]` when the clusters did.

    Reference: Xie, Girshick & Farhadi 2016 (arXiv:1511.06335); Guo et al. 2017 (IJCAI, 1753).

    Args:
        num_features: Features of a star; must match the data.
        num_clusters: Number of columns K. With `student_t` the field is not modelled: it takes
            some too. With `error_aware` at most K - 1 clusters are searched for.
        hidden_dims: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent_dim: Width of the latent space.
        batch_norm: Normalise hidden layers over the batch.
        dropout: Dropout in the hidden layers.
        corruption: Share of input features set to the median in pretraining (denoising).
        cluster_corruption: The same after pretraining: Q is of the corrupted star, P of the whole
            one, so that a star's cluster does not hang on single features. Not in the papers.
        variant: `plain`, `residual` or `attention`.
        method: `dec` or `idec`.
        head: `student_t` or `error_aware`.
        alpha: Degrees of freedom α of the Student's-t memberships.
        gamma: Weight γ of the clustering term in `idec` and in fine-tuning.
        balance: Divide P by the cluster frequencies, as published; evens out cluster sizes and
            breaks rare clusters. False leaves it out.
        pretrain_epochs: Epochs of pretraining.
        cluster_lr: Learning rate after pretraining; the optimizer starts afresh with it, the
            schedule goes on.
        update_interval: Optimizer steps between refreshes of P.
        tolerance: Share of stars changing cluster below which clustering ends; 0 never ends it.
        finetune_epochs: Epochs of fine-tuning.
        kmeans_seed: Seed of the k-means starts, or of the mixture's or the graph's search.
        neighbours: For image-like tables, k of a graph of nearest neighbours in the scaled
            features: the centres start from its partition of the highest modularity, not from
            k-means, and P is of Q averaged over neighbours. 10 for scikit-learn's digits; 0 leaves
            it out, as published. `student_t` only.
        asinh: Whether to compress the tails of the scaled features by asinh, so that a few fast
            or near field stars do not dominate the loss.
        gradient_checkpointing: Recompute hidden layers in the backward pass to save memory.
        physics: Weights of the terms of `physics_losses` that join the loss: `spatial`,
            `kinematic`, `distance`, `locus`, `age`, `metallicity`. They judge T; in pretraining
            the stars' neighbourhoods in the latent.
        adaptive: Learn the weights of all terms from these on (`AdaptiveClusteringLoss`).
        lr: Learning rate of AdamW in pretraining.
        weight_decay: Decoupled weight decay of AdamW; norms, biases and embeddings have none.
        schedule: `constant`, or `cosine`: half a cosine from `lr` to 0 at the last optimizer step.
        warmup_steps: Optimizer steps over which the rate first rises linearly to `lr`.
    """

    terms: ClassVar[tuple[str, ...]] = ("loss", "reconstruction", "kl")
    final_state_is_best: ClassVar[bool] = True

    def __init__(
        self,
        num_features: int = 5,
        num_clusters: int = 2,
        hidden_dims: Sequence[int] = (128, 64, 32),
        latent_dim: int = 16,
        batch_norm: bool = True,
        dropout: float = 0.1,
        corruption: float = 0.0,
        cluster_corruption: float = 0.0,
        variant: Variant = "plain",
        asinh: bool = True,
        method: Literal["dec", "idec"] = "idec",
        head: Head = "student_t",
        alpha: float = 1.0,
        gamma: float = 0.1,
        balance: bool = True,
        pretrain_epochs: int = 50,
        cluster_lr: float = 1e-4,
        update_interval: int = 100,
        tolerance: float = 0.001,
        finetune_epochs: int = 0,
        kmeans_seed: int = 0,
        neighbours: int = 0,
        gradient_checkpointing: bool = False,
        physics: dict[str, float] | None = None,
        adaptive: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(
            num_features, hidden_dims, latent_dim, batch_norm, dropout, corruption, variant, asinh,
            gradient_checkpointing, physics, adaptive, lr, weight_decay, schedule, warmup_steps,
        )  # fmt: skip
        self.save_hyperparameters()
        if num_clusters < 1 or update_interval < 1:
            raise ValueError(
                f"num_clusters={num_clusters} and update_interval={update_interval} must be >= 1"
            )
        self.build_head(num_clusters, head, alpha, balance, kmeans_seed, neighbours)
        self.method, self.gamma = method, gamma
        self.pretrain_epochs, self.cluster_lr = pretrain_epochs, cluster_lr
        self.update_interval, self.tolerance = update_interval, tolerance
        self.finetune_epochs, self.cluster_corruption = finetune_epochs, cluster_corruption
        if adaptive:
            self.adaptive = self.learned_weights({"reconstruction": 1.0, "kl": gamma})
        self.progress = Progress()
        self.targets: DECTargets | None = None

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the loss of the phase and its terms."""
        if self.progress.phase is Phase.PRETRAINING:
            terms = super().step(batch, stage)
            terms["loss"] = terms["loss"] + zero_from([self.centres])
            return {**terms, "kl": torch.zeros_like(terms["loss"])}
        x, good = self.scaled(batch)
        latent = self.embed(corrupted(x, self.cluster_corruption, stage))
        p = self._target(batch, latent, stage)
        own = self.own_memberships(latent, p.shape[1])
        alone = self.method == "dec" and self.progress.phase is Phase.CLUSTERING
        with torch.set_grad_enabled(torch.is_grad_enabled() and not alone):
            error = reconstruction_error(x, self.net.decode(latent), good).mean()
        terms = {"reconstruction": error, "kl": kl_divergence(p, own)}
        weights = {"kl": 1.0} if alone else {"reconstruction": 1.0, "kl": self.gamma}
        terms = self.combined(terms, weights, own, batch)
        if alone:
            terms["loss"] = terms["loss"] + zero_from(self.net.decoder.parameters())
        return terms

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return the autoencoder's predictions, `probability` Q (batch, K) and `assignment`.

        The stars may be new. Before the clustering phase there are no clusters to tell of.
        """
        prediction = super().predict_step(batch, batch_idx)
        if self.progress.phase is not Phase.PRETRAINING:
            q = self.memberships(prediction["latent"], batch)
            prediction |= {"probability": q, "assignment": q.argmax(dim=1)}
        return prediction

    def on_train_start(self) -> None:
        """Bring the targets of a resumed run to the device, or forget those of another run."""
        super().on_train_start()
        if self.trainer.global_step == 0:
            self.targets = None
            self.run_record.pop("settled", None)
            if self.progress.phase is not Phase.PRETRAINING:  # from a clustered checkpoint
                self._enter(Phase.CLUSTERING, 0)
        elif self.targets is not None:
            self.targets = self.targets.to(self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Enter the next phase and refresh the targets where they are due."""
        epoch, last = self.trainer.current_epoch, self.trainer.max_epochs or -1
        if self.progress.phase is Phase.PRETRAINING and epoch >= self.pretrain_epochs:
            self._start_clustering(epoch)
        if self.progress.phase is not Phase.CLUSTERING:
            return
        waited = self.trainer.global_step - self.progress.refreshed_step
        if self.targets is None or waited >= self.update_interval:
            converged = self._refresh_targets()
            assert self.targets is not None
            self.targets.check(batch["index"])
            if converged and not self.finetune_epochs:
                self.trainer.should_stop = True
                self.run_record["stop_reason"] = self.run_record["settled"]
            elif converged:
                self._enter(Phase.FINETUNING, epoch + (batch_idx > 0))
        if self.finetune_epochs and 0 < last <= epoch + self.finetune_epochs:
            self._enter(Phase.FINETUNING, epoch)

    def on_train_epoch_end(self) -> None:
        """Log the means and end the run after fine-tuning."""
        super().on_train_epoch_end()
        done = self.trainer.current_epoch + 1 - self.progress.since_epoch
        if self.progress.phase is Phase.FINETUNING and done >= self.finetune_epochs:
            self.trainer.should_stop = True
            if settled := self.run_record.get("settled"):
                reason = f"{settled}, then {done} epochs of fine-tuning"
                self.run_record["stop_reason"] = reason

    def on_train_end(self) -> None:
        """Report why training ended."""
        super().on_train_end()
        reason = self.run_record["stop_reason"]
        if self.progress.phase is Phase.PRETRAINING:
            reason = (
                f"{reason}; no clusters yet, as model.pretrain_epochs is {self.pretrain_epochs}"
            )
            self.run_record["stop_reason"] = reason
        rank_zero_info(f"{type(self).__name__} stopped: {reason}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the targets beside what the base saves; their size varies with the data."""
        super().on_save_checkpoint(checkpoint)
        if self.targets is not None:
            checkpoint["astrolit"]["targets"] = self.targets.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the targets."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint.get("astrolit", {}).get("targets")
        self.targets = None if state is None else DECTargets(**state)

    def _target(self, batch: Batch, latent: Tensor, stage: str) -> Tensor:
        """Return P of a batch: kept by star in training, from its own Q in evaluation."""
        if stage != "train":
            return self.target(latent, batch)
        if self.targets is None:
            raise ValueError("there are no targets yet; they are computed by Trainer.fit")
        return self.targets.of(batch["index"])

    def _start_clustering(self, epoch: int) -> None:
        """Place the centres and begin to cluster."""
        self.place_centres()
        self._enter(Phase.CLUSTERING, epoch)

    def _enter(self, phase: Phase, epoch: int) -> None:
        """Enter a phase with a fresh optimizer at `cluster_lr`."""
        self.progress.enter(phase, epoch)
        restart_optimizers(self.trainer, self.cluster_lr)

    @torch.no_grad()
    def _refresh_targets(self) -> bool:
        """Compute P of the whole training split; return whether the clusters have settled."""
        index, latent, q = self.embed_training_split()
        columns = q.shape[1]
        self.frequency[:columns] = q.sum(dim=0)
        own = self.own_memberships(latent, columns).argmax(dim=1)
        before, step = self.targets, self.trainer.global_step
        self.targets = DECTargets(index, target_distribution(q, self.balance), own)
        self.progress.refresh(step)
        sizes = own.bincount(minlength=columns)
        if not sizes.all():
            dead = torch.where(sizes == 0)[0].tolist()
            rank_zero_warn(f"clusters {dead} hold no star at step {step}; lower num_clusters?")
        if before is None:
            return False
        change = self.trainer.strategy.broadcast(self.targets.label_change(before))
        self.log("train/label_change", change, rank_zero_only=False)
        if change >= self.tolerance:
            return False
        reason = f"label change {change:.4f} < {self.tolerance:g} at step {step}"
        self.run_record["settled"] = reason
        return True
