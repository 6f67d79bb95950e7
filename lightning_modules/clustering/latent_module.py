"""The base of models that embed stars: scaling, masks, the whole training split, predictions."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lightning_modules.base import BaseModule, Batch
from lightning_modules.clustering.losses import reconstruction_error
from lightning_modules.clustering.network import AutoencoderNet
from lightning_modules.nn.scaling import RobustScaler

INPUTS = ("index", "features", "good", "covariance")
"""Keys of a batch that network and mixture take, where the data have them."""


class LatentModule(BaseModule):
    """Base of models that embed stars: scaling, masks and predictions.

    Missing features (NaN, or `good` False) enter the network as the median and carry no weight in
    any loss. The scaler is fitted on the training split before training and is part of the
    checkpoint, so that batches hold physical units.
    """

    net: AutoencoderNet

    def build(self, num_features: int, net: AutoencoderNet, asinh: bool) -> None:
        """Take a network, and the scaler of its input; called by constructors.

        Args:
            num_features: Features of a star.
            net: Between scaled features and latent.
            asinh: Compress the tails of the scaled features.
        """
        self.num_features = num_features
        self.scaler, self.net = RobustScaler(num_features, asinh), net

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

    def _training_split(self) -> Iterator[Batch]:
        """Yield the training split in order, on the device."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ValueError(
                f"{type(self).__name__} computes its targets from the whole training split: "
                "call Trainer.fit(module, datamodule=...), not with bare loaders"
            )
        keys = [name for name in INPUTS if name in datamodule.sample_shapes]
        for batch in datamodule.batches("train", keys):
            yield {name: values.to(self.device) for name, values in batch.items()}

    def _take_first(self, part: nn.Module) -> None:
        """Give a part of the model the buffers that it has in the first process."""
        buffers = dict(part.named_buffers())
        for name, values in self.trainer.strategy.broadcast(buffers).items():
            buffers[name].copy_(values)
