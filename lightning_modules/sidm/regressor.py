"""Direct regression of the cross-section, to compare compact clustering with."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.optimizers import Schedule
from lightning_modules.sidm.base import MapModule
from lightning_modules.sidm.network import Encoder, NetworkName
from lightning_modules.sidm.sample import TAKES_PART, Rows
from lightning_modules.sidm.scaling import Scaling


class CrossSectionRegressor(MapModule):
    """Regresses the coordinate y of σ/m from maps, with the encoder of `CompactClustering`.

    The loss is the mean over the global batch's known maps of (z - y)²; hidden maps do not enter.

    Reference: the baseline of Tregidga et al. 2025 (arXiv:2511.09660).

    Args:
        channels: Channels of a map.
        image_size: Height and width of a map in pixels.
        network: `reduced` or `full`, those of the paper, or `convnext`.
        widths: Channels of each stage; the network's own if null.
        depths: Layers of each stage; the network's own if null.
        hidden_dim: Width of the encoder's hidden layer.
        dropout: Dropout in all layers; the network's own if null.
        scaling: Of the maps, see `MapScaling`.
        profile_rings: Rings of the radial profile (mean, scatter, gradient, Laplacian) that joins
            the features; 0 leaves it out.
        norms: Whether the logarithm of the maps' maximum joins the features.
        effective_cdm: Cross-section in cm²/g that stands for σ = 0 in the coordinate y alone.
        augment: Flip and transpose training maps at random.
        compile: Compile the encoder with `torch.compile`.
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay of AdamW; norms, biases and embeddings have none.
        schedule: `constant`, or `cosine`: half a cosine from `lr` to 0 at the last optimizer step.
        warmup_steps: Optimizer steps over which the rate first rises linearly to `lr`.
    """

    terms: ClassVar[tuple[str, ...]] = ("loss",)

    def __init__(
        self,
        channels: int = 1,
        image_size: int = 100,
        network: NetworkName = "reduced",
        widths: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        hidden_dim: int = 256,
        dropout: float | None = None,
        scaling: Scaling = "radial",
        profile_rings: int = 10,
        norms: bool = False,
        effective_cdm: float = 0.01,
        augment: bool = True,
        compile: bool = False,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        schedule: Schedule = "cosine",
        warmup_steps: int = 50,
    ) -> None:
        super().__init__(lr, weight_decay, schedule, warmup_steps)
        self.save_hyperparameters()
        sizes = channels, image_size, 1, widths, depths, hidden_dim
        encoder = Encoder(network, *sizes, dropout, profile_rings, norms)
        self.build(encoder, scaling, channels, image_size, effective_cdm, augment)
        if compile:  # in place: the names of the weights stay
            self.encoder.compile()

    def rows_of(self, batch: Batch, stage: str) -> Rows:
        """Return latent and y (B, 2), and codes (B, 4); known maps take part."""
        y = self.coordinate(batch["label"])
        codes = self.codes_of(batch, torch.full_like(batch["index"], -1), y.isfinite())
        return torch.stack([self.encode(batch)[:, 0], y], dim=1), codes

    def terms_of(self, numbers: Tensor, codes: Tensor) -> dict[str, Tensor]:
        """Return the loss of a global batch.

        Args:
            numbers: Latent and y, shape (N, 2).
            codes: Shape (N, 4).
        """
        latent, y = numbers[codes[:, TAKES_PART] > 0].float().unbind(dim=1)
        return {"loss": (latent - y).square().sum() / max(len(y), 1)}

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return `index` (B,), `latent` (B, 1) and `cross_section` (B,) in cm²/g."""
        latent = self.encode(batch)
        return {
            "index": batch["index"],
            "latent": latent,
            "cross_section": self.coordinate.inverse(latent[:, 0]),
        }
