"""Latent embeddings in TensorBoard's projector."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.report.base import NamedData
from callbacks.report.bootstrap import subsample
from callbacks.report.figures import tensorboard_writers
from callbacks.report.gather import RowGatherer


class EmbeddingProjector(Callback):
    """Shows the latent space of the test objects in TensorBoard's projector.

    Metadata of each point are the object's name and those of `assignment`, `label` and `split`
    that the module or the batch give. The projector slows down beyond some thousand points, so a
    random subsample is shown; the number is printed.

    Args:
        key: Key of the embedding in what `test_step` returns, shape (batch, dim).
        max_objects: Points shown at most.
        seed: Fixes the subsample.
    """

    def __init__(self, key: str = "latent", max_objects: int = 5000, seed: int = 0) -> None:
        self.key = key
        self.max_objects = max_objects
        self.seed = seed
        self._rows = RowGatherer()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what an interrupted run left."""
        self._rows.clear()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Keep one batch's embedding and metadata."""
        if self.key not in outputs:
            raise ValueError(f"test_step returned no {self.key!r}, only {sorted(outputs)}")
        both = {**batch, **outputs}
        keys = ("index", self.key, "assignment", "label", "split")
        self._rows.add({name: both[name] for name in keys if name in both})

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the embedding on rank 0."""
        rows = self._rows.gather(trainer)
        writers = tensorboard_writers(trainer)
        if not trainer.is_global_zero:
            return
        if not writers:
            print("projector: no TensorBoard logger, so no embedding was written")
            return
        shown = subsample(len(rows["index"]), self.max_objects, self.seed)
        rows = {name: values[shown] for name, values in rows.items()}
        embedding = torch.from_numpy(rows.pop(self.key)).float()
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, NamedData):
            rows = {"name": np.asarray(data.names(rows["index"])), **rows}
        lines = [list(map(str, line)) for line in zip(*rows.values(), strict=True)]
        settings: Any = {"metadata_header": list(rows), "global_step": trainer.global_step}
        for writer in writers:
            writer.add_embedding(embedding, lines, tag=self.key, **settings)
        print(f"projector: {len(shown)} objects of the {self.key} space in TensorBoard")
