"""The base of models of cluster maps: scaling, encoder, coordinate, augmentation, evaluation."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_modules.base import BaseModule, Batch
from lightning_modules.sidm.coordinate import PaperCoordinate
from lightning_modules.sidm.dihedral import random_dihedral
from lightning_modules.sidm.network import Encoder
from lightning_modules.sidm.sample import TAKES_PART, TARGET, EvaluationSample, Rows, mixed_groups
from lightning_modules.sidm.scaling import MapScaling, Scaling

HELD_OUT = 2
"""`split` of a map that no training has seen."""


class MapModule(BaseModule):
    """Base of models that encode maps.

    The statistics of scaling and coordinate are fitted before training and are part of the
    checkpoint, so that batches hold physical units. The loss is one of the whole global batch;
    means of validation and test are over groups of 120 maps dealt from the whole evaluation,
    whatever its batches, of maps that take part in the loss; of the test's, which are all maps of
    the data, the held-out ones (`split` 2) alone. Maps are collected where a trainer evaluates this
    model itself, not where it is a member.
    """

    loss_is_of_batches: ClassVar[bool] = False
    of_the_data: ClassVar[tuple[str, ...]] = ("statistics_fitted", "coordinate.")
    """Beginnings of the names of buffers that `--init_from` leaves to the data of a training."""

    @abstractmethod
    def rows_of(self, batch: Batch, stage: str) -> Rows:
        """Return what the loss needs of each map: numbers (B, K), and codes (B, 4).

        Args:
            batch: As the datamodule documents it.
            stage: `train`, `val` or `test`.
        """

    @abstractmethod
    def terms_of(self, numbers: Tensor, codes: Tensor) -> dict[str, Tensor]:
        """Return the loss and its terms of a global batch.

        Args:
            numbers: Shape (N, K).
            codes: Shape (N, 4), see `sample.py`.
        """

    def evaluated(self, stage: str, numbers: Tensor, codes: Tensor) -> None:
        """Take all maps of an evaluation that take part in the loss, in the order of the index.

        Args:
            stage: `val` or `test`.
            numbers: Shape (N, K).
            codes: Shape (N, 4).
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
        self.samples = nn.ModuleDict({stage: EvaluationSample() for stage in ("val", "test")})

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shapes of `map` and `good`."""
        return {
            "map": (self.map_shape, "channels and model.image_size"),
            "good": (self.map_shape[1:], "image_size"),
        }

    def setup(self, stage: str) -> None:
        """Compare shapes, pixels and simulations with the data; fit buffers before training.

        Raises:
            ValueError: If the data have pixels or channels that the model was not trained on, or
                to go on training with other known simulations.
        """
        super().setup(stage)
        self._check_data()

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights, which a trainer does after `setup`; compare with its data.

        Raises:
            ValueError: If they are not those of this model, or the data are of another kind.
        """
        found = super().load_state_dict(state_dict, strict, assign)
        self._check_data()
        return found

    def inherited(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights and the scaling, without what follows from the simulations."""
        found = super().inherited(saved).items()
        return {name: x for name, x in found if not name.startswith(self.of_the_data)}

    def fit_statistics(self, statistics: dict[str, Tensor]) -> None:
        """Take the statistics of rings and maxima if none are there, and known cross-sections."""
        if not self.scaler.is_fitted:
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

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the loss and its terms, of the global batch."""
        numbers, codes = self.rows_of(batch, stage)
        if stage == "test" and "split" in batch:
            held_out = batch["split"] == HELD_OUT
            codes[:, TARGET] = torch.where(held_out, codes[:, TARGET], -1)
            codes[:, TAKES_PART] *= held_out
        if stage != "train" and self.has_trainer and self.trainer.lightning_module is self:
            self._sample(stage).update(numbers, codes)
        return self.terms_of(self.gather_rows(numbers, batch), self.gather_rows(codes, batch))

    def on_validation_epoch_end(self) -> None:
        """Log the validation's means."""
        self._regroup("val")
        super().on_validation_epoch_end()

    def on_test_epoch_end(self) -> None:
        """Log the test's means."""
        self._regroup("test")
        super().on_test_epoch_end()

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

    def codes_of(self, batch: Batch, target: Tensor, takes_part: Tensor) -> Tensor:
        """Return the codes of a batch's rows, shape (B, 4); rows that only repeat take no part.

        Args:
            batch: As the datamodule documents it.
            target: Class or -1, shape (B,).
            takes_part: Whether a row enters the loss, shape (B,) bool.
        """
        counted, halo = self.counted(batch), batch.get("halo", batch["index"])
        target = torch.where(counted, target, -1)
        return torch.stack([target, (takes_part & counted).long(), batch["index"], halo], dim=1)

    def check_simulations(self, labels: Mapping[str, Tensor], fitting: bool) -> None:
        """Compare the simulations of data with those of the training.

        Args:
            labels: Of `datamodule.training_labels()`.
            fitting: Whether the training goes on with these data.
        """

    def _check_data(self) -> None:
        """Refuse data whose pixels are not those of the training."""
        data = getattr(self.trainer, "datamodule", None) if self.has_trainer else None
        if data is None or not self.statistics_fitted:
            return
        self.check_simulations(data.training_labels(), self.trainer.state.fn == "fit")
        if difference := self.scaler.differs_from(data.pixels()):
            raise ValueError(
                f"this {type(self).__name__} was trained on {difference}; give it maps of the same "
                "kind, or train it anew"
            )

    def _sample(self, stage: str) -> EvaluationSample:
        """Return what an evaluation has collected."""
        sample = self.samples[stage]
        assert isinstance(sample, EvaluationSample)
        return sample

    def _regroup(self, stage: str) -> None:
        """Replace the means over batches by those over mixed groups."""
        rows = self._sample(stage).compute()
        self._sample(stage).reset()
        means = self._means(stage)
        means.reset()
        for group in mixed_groups(rows):
            means.update(self.terms_of(*group), len(group[0]))
        self.evaluated(stage, *rows)
