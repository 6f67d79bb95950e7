"""A run interrupted anywhere goes on as if it had not been, to the last bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lightning_modules import DeepEmbeddedClustering, StellarVAE
from lightning_modules.base import BaseModule

EPOCHS, STEPS = 5, 4  # 210 or so training stars in batches of 64


def build(kind: str) -> BaseModule:
    seed_everything(2)
    small: dict[str, Any] = {"hidden_dims": [16, 8], "latent_dim": 3}
    if kind == "vae":
        return StellarVAE(**small, warmup_epochs=3)
    return DeepEmbeddedClustering(
        **small, num_clusters=3, method="dec" if kind == "dec" else "idec", dropout=0.0,
        pretrain_epochs=2, update_interval=3, tolerance=0.0, finetune_epochs=1, cluster_lr=3e-4,
    )  # fmt: skip


class SaveAt(Callback):
    """Saves a checkpoint after a step, as a signal would make it."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


class Losses(Callback):
    """Notes every training loss from a step on."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, _: Trainer, module: LightningModule, *__: Any) -> None:
        assert isinstance(module, BaseModule)
        self.values.append(module.last_terms["loss"].item())


# Mid-pretraining, last batch of it, first of clustering, between refreshes, fine-tuning.
@pytest.mark.parametrize("kind", ["dec", "idec"])
@pytest.mark.parametrize("step", [3, 2 * STEPS, 2 * STEPS + 1, 3 * STEPS + 1, 4 * STEPS + 2])
def test_resumed_clustering_is_the_uninterrupted_one(
    kind: str,
    step: int,
    make_data: Callable[..., Any],
    make_trainer: Callable[..., Trainer],
    tmp_path: Path,
) -> None:
    path, whole, rest = tmp_path / "signal.ckpt", Losses(), Losses()
    model = build(kind)
    trainer = make_trainer(EPOCHS, callbacks=[SaveAt(step, path), whole])
    trainer.fit(model, make_data())
    assert trainer.global_step == EPOCHS * STEPS
    resumed = build(kind)
    make_trainer(EPOCHS, callbacks=[rest]).fit(
        resumed, make_data(), ckpt_path=path, weights_only=True
    )
    assert rest.values == whole.values[step:]
    compare(model.state_dict(), resumed.state_dict())
    assert isinstance(model, DeepEmbeddedClustering)
    assert isinstance(resumed, DeepEmbeddedClustering)
    assert model.targets is not None
    assert resumed.targets is not None
    compare(model.targets.state(), resumed.targets.state())
    assert model.run_record == resumed.run_record


def test_resumed_warm_up_is_the_uninterrupted_one(
    make_data: Callable[..., Any], make_trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    path, whole, rest = tmp_path / "signal.ckpt", Losses(), Losses()
    step = STEPS + 2

    class SameNoise(Callback):
        """Makes the sampled latents a function of the step."""

        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            torch.manual_seed(trainer.global_step)

    model, resumed = build("vae"), build("vae")
    make_trainer(EPOCHS, callbacks=[SameNoise(), SaveAt(step, path), whole]).fit(model, make_data())
    make_trainer(EPOCHS, callbacks=[SameNoise(), rest]).fit(
        resumed, make_data(), ckpt_path=path, weights_only=True
    )
    assert rest.values == whole.values[step:]
    compare(model.state_dict(), resumed.state_dict())


def compare(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    assert not differing
