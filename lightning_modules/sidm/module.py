"""Compact clustering of cluster maps, whose latent is ordered by the cross-section."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.nn.rings import usable_pixels
from lightning_modules.optimizers import Schedule
from lightning_modules.sidm.class_module import ClassModule, Hidden
from lightning_modules.sidm.losses import (
    Location,
    class_distance,
    class_entropy,
    compact_clustering,
)
from lightning_modules.sidm.network import (
    Classifier,
    Decoder,
    Encoder,
    NetworkName,
    bottleneck,
)
from lightning_modules.sidm.sample import (
    TAKES_PART,
    TARGET,
    Rows,
    fill_reference,
)
from lightning_modules.sidm.scaling import Scaling

LAST_LAYER = "classifier.output."


class CompactClustering(ClassModule):
    """Clusters maps so that simulations of one cross-section σ/m are compact and in its order.

    A map goes to a latent of few numbers and from there to logits of classes. Known simulations
    of equal σ/m share a class; classes are in the order of σ/m, then come the hidden simulations
    where they have classes of their own. Three terms make the loss, each of the whole global
    batch: cross-entropy; compact clustering by label propagation (see `compact_clustering`); and
    the distance of latent 0 of each known class from the coordinate y of its σ/m (see
    `PaperCoordinate`). A hidden σ/m enters none of them.

    Of the validation's known maps, latents are kept in the buffers `reference_latent` (C, R, Z),
    profiles in `reference_profile` (C, R, F), NaN where there are fewer, and the numbers of the
    halos in `reference_halo` (C, R), so that a checkpoint can measure new maps. `reference_age` ()
    is the number of training batches since then: above 0 they are of earlier weights.
    `known_label` (C,) is σ/m in cm²/g, NaN for hidden classes.

    Logged terms: `loss`, `class`, `cclp`, `distance` and, with a decoder, `reconstruction`, each
    before its weight. Those of validation and test are means over groups of 120 maps dealt from
    the whole evaluation, whatever its batches; those of the test of held-out maps alone. There also
    `accuracy` of maps that have a class, NaN without any. Where data are evaluated whose known and
    hidden simulations are not those of the training, in its order, the class of a map is that of
    its own σ/m, and a map without one has none.

    Reference: Tregidga et al. 2025 (arXiv:2511.09660).

    Args:
        num_classes: Known values of σ/m, plus the hidden simulations where `hidden` is `class`.
        hidden: A hidden simulation is a `class` of its own, or its maps are `unlabelled` nodes of
            the label propagation.
        channels: Channels of a map.
        image_size: Height and width of a map in pixels.
        network: `reduced` or `full`, those of the paper, or `convnext`.
        widths: Channels of each stage; the network's own if null.
        depths: Layers of each stage; the network's own if null.
        hidden_dim: Width of the encoder's hidden layer.
        head_dim: Width of the classifier's hidden layer.
        dropout: Dropout in all layers; the network's own if null.
        latent_dim: Length Z of the latent.
        scaling: Of the maps, see `MapScaling`.
        profile_rings: Rings of the radial profile (mean, scatter, gradient, Laplacian) that joins
            the features; 0 leaves it out.
        norms: Whether the logarithm of the maps' maximum joins the features.
        ordered_bottleneck: Train with only the first numbers of the latent, how many at random.
        class_weight: Weight of the cross-entropy.
        cclp_weight: Weight of the compact clustering.
        cclp_steps: Its steps.
        distance_weight: Weight of the distance.
        distance: Where a class lies: `quantile` (smooth median), `mean` or `median` (the paper's).
        effective_cdm: Cross-section in cm²/g that stands for σ = 0 in the coordinate y alone.
        decoder_weight: Weight of the mean squared error of the decoded map, in scaled units over
            good pixels; 0 makes no decoder.
        num_reference: Most validation maps R of a class that a checkpoint keeps.
        augment: Flip and transpose training maps at random.
        compile: Compile the encoder with `torch.compile`.
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay of AdamW; norms, biases and embeddings have none.
        schedule: `constant`, or `cosine`: half a cosine from `lr` to 0 at the last optimizer step.
        warmup_steps: Optimizer steps over which the rate first rises linearly to `lr`.
    """

    terms: ClassVar[tuple[str, ...]] = ("loss", "class", "cclp", "distance")
    of_the_data: ClassVar[tuple[str, ...]] = (*ClassModule.of_the_data, "reference_")
    reference_latent: Tensor
    reference_profile: Tensor
    reference_halo: Tensor
    reference_age: Tensor

    def __init__(
        self,
        num_classes: int = 4,
        hidden: Hidden = "class",
        channels: int = 1,
        image_size: int = 100,
        network: NetworkName = "reduced",
        widths: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        hidden_dim: int = 256,
        head_dim: int = 64,
        dropout: float | None = None,
        latent_dim: int = 7,
        scaling: Scaling = "radial",
        profile_rings: int = 10,
        norms: bool = False,
        ordered_bottleneck: bool = False,
        class_weight: float = 1.0,
        cclp_weight: float = 0.018,
        cclp_steps: int = 3,
        distance_weight: float = 1.0,
        distance: Location = "quantile",
        effective_cdm: float = 0.01,
        decoder_weight: float = 0.0,
        num_reference: int = 256,
        augment: bool = True,
        compile: bool = False,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        schedule: Schedule = "cosine",
        warmup_steps: int = 50,
    ) -> None:
        if num_classes < 2 or cclp_steps < 1 or latent_dim < 1 + ordered_bottleneck:
            raise ValueError(
                f"model.num_classes={num_classes} must be at least 2, model.cclp_steps="
                f"{cclp_steps} at least 1, model.latent_dim={latent_dim} at least 1, or 2 with an "
                "ordered bottleneck"
            )
        if decoder_weight:  # before the base makes a mean of each
            self.terms = (*self.terms, "reconstruction")  # type: ignore[misc]
        super().__init__(lr, weight_decay, schedule, warmup_steps)
        self.save_hyperparameters()
        sizes = channels, image_size, latent_dim, widths, depths, hidden_dim
        encoder = Encoder(network, *sizes, dropout, profile_rings, norms)
        self.build(encoder, scaling, channels, image_size, effective_cdm, augment)
        self.classifier = Classifier(latent_dim, head_dim, num_classes, encoder.dropout.p)
        self.decoder = Decoder(latent_dim, channels, image_size) if decoder_weight else None
        self.distance, self.cclp_steps = distance, cclp_steps
        self.ordered_bottleneck = ordered_bottleneck
        self.weights = {"class": class_weight, "cclp": cclp_weight, "distance": distance_weight}
        self.weights |= {"reconstruction": decoder_weight} if decoder_weight else {}
        self.add_tables(num_classes, hidden)
        self._add_buffers(num_classes, num_reference, latent_dim, encoder.num_profile)
        self.latent_dim = latent_dim
        if compile:  # in place: the names of the weights stay
            self.encoder.compile()

    def inherited(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights and the scaling; not the last layer where classes are as many no more."""
        found, own = super().inherited(saved), self.classifier.output.state_dict(prefix=LAST_LAYER)
        other = {name for name in own if name in found and found[name].shape != own[name].shape}
        return {name: values for name, values in found.items() if name not in other}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss; the reference latents are then of earlier weights."""
        self.reference_age.add_(1)
        return super().training_step(batch, batch_idx)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return latent (B, Z) and logits (B, C)."""
        latent = self.encode(batch)
        return latent, self.classifier(latent)

    def rows_of(self, batch: Batch, stage: str) -> Rows:
        """Return error, latent, logits and, to evaluate, profile, side by side; codes (B, 4)."""
        x, fraction, norms = self.scaler(batch["map"], batch["good"])
        latent = self.encode_scaled((x, fraction, norms), batch)
        if self.ordered_bottleneck and stage == "train":
            latent = bottleneck(latent, self.global_step)
        error = self._reconstruction_error(latent, x, batch)
        codes = self.codes_of(batch, *self.classes_of(batch))
        parts = [error, latent, self.classifier(latent)]
        parts += [] if stage == "train" else [self.encoder.profile_of(fraction, batch["good"])]
        return torch.cat(parts, dim=1), codes

    def terms_of(self, numbers: Tensor, codes: Tensor) -> dict[str, Tensor]:
        """Return the loss and its terms of a global batch.

        Args:
            numbers: Of `rows_of`.
            codes: Shape (N, 4).
        """
        target, part = codes[:, TARGET], codes[:, TAKES_PART] > 0
        error, latent, logits, _ = self._split(numbers.float())  # also where weights are bfloat16
        with torch.autocast(numbers.device.type, enabled=False):
            wanted = self.coordinate(self.known_label)
            inside = latent[part], target[part], self.num_classes, self.cclp_steps
            terms = {
                "class": class_entropy(logits, target),
                "cclp": compact_clustering(*inside),
                "distance": class_distance(latent[:, 0], target, wanted, self.distance),
                "reconstruction": error.sum() / max(len(error), 1),
            }
        weighted = [weight * terms[name] for name, weight in self.weights.items()]
        terms["loss"] = torch.stack(weighted).sum()
        return {name: terms[name] for name in self.terms}

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return latents and what follows from them.

        Returns:
            `index` (B,); `latent` (B, Z); `profile` (B, F), what the encoder sees of the rings of a
            map, normalised; `probability` (B, C) of the classes; `cross_section` (B,) in cm²/g
            from latent 0 alone, as the paper; `energy` (B,), -ln Σ exp logits, high for maps that
            are of no class.
        """
        scaled = self.scaler(batch["map"], batch["good"])
        latent = self.encode_scaled(scaled, batch)
        logits = self.classifier(latent)
        return {
            "index": batch["index"],
            "latent": latent,
            "profile": self.encoder.profile_of(scaled[1], batch["good"]),
            "probability": logits.softmax(dim=1),
            "cross_section": self.coordinate.inverse(latent[:, 0]),
            "energy": -logits.logsumexp(dim=1),
        }

    def evaluated(self, stage: str, numbers: Tensor, codes: Tensor) -> None:
        """Log the accuracy; in the validation of a training run, keep reference latents.

        Args:
            stage: `val` or `test`.
            numbers: Of `rows_of`.
            codes: Shape (N, 4).
        """
        _, latent, logits, profile = self._split(numbers)
        right = logits.argmax(dim=1) == codes[:, TARGET]
        accuracy = right[codes[:, TARGET] >= 0].float().mean()
        self.log(f"{stage}/accuracy", accuracy, rank_zero_only=False)
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            known = self.known_label.isfinite()
            fill_reference(self.reference_latent, self.reference_halo, known, (latent, codes))
            fill_reference(self.reference_profile, self.reference_halo, known, (profile, codes))
            self.reference_age.zero_()

    def _split(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return reconstruction error (N,), latent (N, Z), logits (N, C) and profile (N, F)."""
        rest = numbers.shape[1] - 1 - self.latent_dim - self.num_classes
        sizes = [1, self.latent_dim, self.num_classes, rest]
        error, latent, logits, profile = numbers.split(sizes, dim=1)
        return error[:, 0], latent, logits, profile

    def _add_buffers(
        self, num_classes: int, num_reference: int, latent_dim: int, num_profile: int
    ) -> None:
        """Add the tables of the reference maps."""
        tables = torch.full((num_classes, num_reference, latent_dim + num_profile), torch.nan)
        latent, profile = tables.split([latent_dim, num_profile], dim=2)
        self.register_buffer("reference_latent", latent.clone())
        self.register_buffer("reference_profile", profile.clone())
        self.register_buffer("reference_halo", torch.full((num_classes, num_reference), -1))
        self.register_buffer("reference_age", torch.tensor(0))
        self.register_load_state_dict_pre_hook(_add_age)

    def _reconstruction_error(self, latent: Tensor, x: Tensor, batch: Batch) -> Tensor:
        """Return the mean squared error of each decoded map over its good pixels, shape (B, 1)."""
        if self.decoder is None:
            return latent.new_zeros(len(latent), 1)
        good = usable_pixels(batch["map"], batch["good"]).float()
        squares = (good * (self.decoder(latent).float() - x).square()).flatten(1)
        return squares.sum(1, keepdim=True) / good.flatten(1).sum(1, keepdim=True).clamp_min(1)


def _add_age(module: CompactClustering, state: dict[str, Any], prefix: str, *unused: Any) -> None:
    """Let checkpoints load that were saved before there was a `reference_age`."""
    state.setdefault(f"{prefix}reference_age", torch.tensor(0))
