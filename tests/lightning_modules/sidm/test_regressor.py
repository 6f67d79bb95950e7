from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from lightning_modules import CrossSectionRegressor
from tests.lightning_modules.sidm.maps import SMALL, cluster_maps, statistics

ARGUMENTS = {name: SMALL[name] for name in ("image_size", "widths", "depths", "hidden_dim")}


def build(**arguments: Any) -> CrossSectionRegressor:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {**ARGUMENTS, "profile_rings": 3, "warmup_steps": 0}
    model = CrossSectionRegressor(**(sizes | arguments))
    model.fit_statistics(statistics(cluster_maps(40)))
    return model


def test_the_loss_is_the_mean_square_of_known_maps() -> None:
    model, batch = build().eval(), cluster_maps(12)
    latent = model.predict_step(batch)["latent"][:, 0]
    known = batch["simulation"] < 3
    y = torch.tensor([0.0, 1.0, 0.7386])[batch["simulation"].clamp_max(2)]
    expected = (latent - y)[known].square().mean()
    torch.testing.assert_close(model.step(batch, "val")["loss"], expected, rtol=1e-4, atol=1e-5)
    batch["true_label"] = torch.full((12,), 5.0)
    torch.testing.assert_close(model.step(batch, "val")["loss"], expected, rtol=1e-4, atol=1e-5)


def test_without_known_maps_there_is_no_loss() -> None:
    batch = cluster_maps(4)
    batch["label"] = torch.full((4,), torch.nan)
    loss = (model := build()).step(batch, "train")["loss"]
    loss.backward()
    assert loss == 0
    assert model.encoder.latent.weight.grad is not None
    assert (model.encoder.latent.weight.grad == 0).all()


def test_cross_sections_are_regressed(
    make_data: Callable[..., Any], make_trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    model, data, trainer = build(lr=1e-2), make_data(480, val_fraction=0.2), make_trainer(8)
    trainer.fit(model, data)
    assert trainer.callback_metrics["val/loss"] < 0.02
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    path = tmp_path / "model.ckpt"
    loaded = CrossSectionRegressor.load_from_checkpoint(path, weights_only=True).eval()
    batch = {name: values[data.rows["val"]] for name, values in data.columns.items()}
    with torch.no_grad():
        found = loaded.predict_step(batch)
    assert found["latent"].shape == (len(batch["index"]), 1)
    medians = [found["cross_section"][batch["simulation"] == k].median().item() for k in range(4)]
    assert medians[:3] == pytest.approx([0.01, 1.0, 0.3], rel=0.8)
    assert medians[0] < medians[3] < medians[2]
