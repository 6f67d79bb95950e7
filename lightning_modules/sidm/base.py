"""The base of models of cluster maps: scaling, encoder, coordinate, augmentation, shapes."""

from torch import Tensor

from lightning_modules.base import BaseModule, Batch
from lightning_modules.sidm.coordinate import PaperCoordinate
from lightning_modules.sidm.dihedral import random_dihedral
from lightning_modules.sidm.network import Encoder
from lightning_modules.sidm.scaling import MapScaling, Scaling


class MapModule(BaseModule):
    """Base of models that encode maps.

    The statistics of scaling and coordinate are fitted before training and are part of the
    checkpoint, so that batches hold physical units.
    """

    def build(
        self,
        encoder: Encoder,
        scaling: Scaling,
        channels: int,
        image_size: int,
        effective_cdm: float,
        augment: bool,
    ) -> None:
        """Take an encoder and what surrounds it; called by constructors.

        Args:
            encoder: From scaled maps to the latent.
            scaling: Of the maps.
            channels: Of a map.
            image_size: Height and width in pixels.
            effective_cdm: Cross-section in cm²/g that stands for σ = 0 in the coordinate.
            augment: Whether training maps are flipped and transposed.
        """
        self.encoder, self.augment = encoder, augment
        self.map_shape = channels, image_size, image_size
        self.scaler = MapScaling(scaling, channels, image_size)
        self.coordinate = PaperCoordinate(effective_cdm)

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shapes of `map` and `good`."""
        return {
            "map": (self.map_shape, "channels and model.image_size"),
            "good": (self.map_shape[1:], "image_size"),
        }

    def fit_statistics(self, statistics: dict[str, Tensor]) -> None:
        """Take the statistics of rings and maxima, and the known cross-sections."""
        self.scaler.assign(statistics)
        self.coordinate.assign(statistics["known_label"])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of maps each under a random symmetry of the square, if `augment`.

        Here and not after the transfer of the batch: a resumed run has its random state by now.
        """
        if self.augment:
            maps, good = random_dihedral(batch["map"], batch["good"])
            batch = {**batch, "map": maps, "good": good}
        return super().training_step(batch, batch_idx)

    def encode(self, batch: Batch) -> Tensor:
        """Return the latent, shape (B, Z).

        Raises:
            ValueError: If the batch is empty.
        """
        return self.encode_scaled(self.scaler(batch["map"], batch["good"]), batch)

    def encode_scaled(self, scaled: tuple[Tensor, Tensor, Tensor], batch: Batch) -> Tensor:
        """Return the latent of what the scaler returned, shape (B, Z).

        Args:
            scaled: Input, map over maximum, and norms.
            batch: Its `good` pixels.

        Raises:
            ValueError: If the batch is empty.
        """
        if not len(batch["map"]):
            raise ValueError(f"{type(self).__name__} got a batch without maps")
        x, fraction, norms = scaled
        latent: Tensor = self.encoder(x, fraction, norms, batch["good"])
        return latent
