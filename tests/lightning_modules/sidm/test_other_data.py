"""Models that meet other simulations: started from a checkpoint, resumed, evaluated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_modules import CompactClustering, CrossSectionRegressor, Ensemble
from lightning_modules.cli.checkpoints import load_weights
from lightning_modules.sidm.base import MapModule
from tests.lightning_modules.sidm.conftest import Clusters, MapData
from tests.lightning_modules.sidm.maps import LABELS, SMALL, build, cluster_maps

MakeTrainer = Callable[..., Trainer]
OTHER = {"known_label": torch.tensor([0.5, 0.0, 2.0]), "num_hidden": torch.tensor(1)}
SWAPPED = {**LABELS, "known_label": torch.tensor([0.0, 0.3, 1.0])}


class Labelled(MapData):
    """The maps, of simulations that are said to have other cross-sections."""

    labels: dict[str, Tensor] = LABELS

    def training_labels(self) -> dict[str, Tensor]:
        return self.labels

    def training_statistics(self) -> dict[str, Tensor]:
        found = {**super().training_statistics(), **self.labels}
        found["ring_mean"] = found["ring_mean"] + 1.0  # whose scaling a start does not take
        return found


@pytest.fixture
def data(tmp_path: Path) -> Labelled:
    found = Labelled(Clusters(120), 16, val_fraction=0.3, cache_dir=str(tmp_path / "cache"))
    found.prepare_data()
    found.setup()
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    data = MapData(Clusters(120), 16, val_fraction=0.3, cache_dir=str(folder / "cache"))
    torch.manual_seed(0)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(CompactClustering(**SMALL), data)
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


def test_a_start_from_a_checkpoint_learns_the_simulations_of_its_data(
    trained: Path, data: Labelled, make_trainer: MakeTrainer
) -> None:
    saved = torch.load(trained, weights_only=True)
    model, data.labels = CompactClustering(**SMALL, dropout=0.0), OTHER
    said = "\n".join(load_weights(model, saved, trained))
    assert "of the other data, start afresh: class_of_simulation, coordinate.lowest" in said
    make_trainer(0).fit(model, data)
    assert model.known_label.nan_to_num(9.0).tolist() == [0.0, 0.5, 2.0, 9.0]
    assert model.class_of_simulation[:5].tolist() == [1, 0, 2, 3, -1]
    assert model.coordinate(torch.tensor(2.0)) == 1.0
    assert model.reference_latent.isnan().all()
    old, new = saved["state_dict"], model.state_dict()
    for name in ("scaler.ring_mean", "encoder.latent.weight", "classifier.output.weight"):
        assert torch.equal(new[name], old[name]), name


def test_a_start_with_other_numbers_of_classes_takes_what_fits(
    trained: Path, data: Labelled, make_trainer: MakeTrainer
) -> None:
    saved = torch.load(trained, weights_only=True)
    model = CompactClustering(**SMALL, num_classes=3, hidden="unlabelled")
    load_weights(model, saved, trained)
    make_trainer(0).fit(model, data)
    assert model.known_label.tolist() == pytest.approx([0.0, 0.3, 1.0])
    hidden = saved["state_dict"]["classifier.hidden.weight"]
    assert torch.equal(model.classifier.hidden.weight, hidden)


def test_a_regressor_that_starts_from_a_checkpoint_has_the_coordinate_of_its_data(
    data: Labelled, make_trainer: MakeTrainer
) -> None:
    sizes = {name: SMALL[name] for name in ("image_size", "widths", "depths", "hidden_dim")}
    first, second = (CrossSectionRegressor(**sizes, profile_rings=3) for _ in range(2))
    make_trainer(0).fit(first, data)
    load_weights(second, {"state_dict": first.state_dict()}, __file__)
    data.labels = OTHER
    make_trainer(0).fit(second, data)
    assert second.coordinate(torch.tensor(2.0)) == 1.0
    assert torch.equal(second.scaler.ring_mean, first.scaler.ring_mean)


@pytest.mark.parametrize(
    "labels", [SWAPPED, {**LABELS, "num_hidden": torch.tensor(2)}, {**LABELS, **OTHER}]
)
def test_a_training_does_not_go_on_with_other_simulations(
    labels: dict[str, Tensor], trained: Path, data: Labelled, make_trainer: MakeTrainer
) -> None:
    data.labels = labels
    sentence = "trained on simulations of .*, in this order, not of|set model.num_classes to 5"
    with pytest.raises(ValueError, match=sentence):
        make_trainer(2).fit(CompactClustering(**SMALL), data, ckpt_path=trained)
    loaded = CompactClustering.load_from_checkpoint(trained, weights_only=True)
    with pytest.raises(
        ValueError, match=r"of \[0\.0, 1\.0, .*, nan\] cm\^2/g .*, not of .*init_fr"
    ):
        make_trainer(2).fit(loaded, data)


def test_the_class_of_an_evaluated_map_is_that_of_its_own_cross_section(
    trained: Path, data: Labelled, make_trainer: MakeTrainer
) -> None:
    """Whatever the order of the data's list, and though a checkpoint is rounded to bfloat16."""
    model = CompactClustering.load_from_checkpoint(trained, weights_only=True).eval()
    maps = data.columns
    with torch.no_grad():
        guess = model.predict_step(maps)["probability"].argmax(dim=1)
    expected = torch.tensor([0, 2, 1, 3])[maps["simulation"]]  # of codes in the training's order
    model.known_label.copy_(model.known_label.bfloat16())
    for labels, order, counted in (
        (LABELS, torch.arange(4), maps["simulation"] < 4),
        (SWAPPED, torch.tensor([0, 2, 1, 3]), maps["simulation"] < 3),
    ):
        held_out, own = maps["split"] == 2, dict(maps)
        data.labels, data.columns = labels, {**own, "simulation": order[own["simulation"]]}
        trainer = make_trainer()
        trainer.test(model, data, verbose=False)
        right = (guess == expected)[held_out & counted].float().mean()
        assert trainer.callback_metrics["test/accuracy"] == pytest.approx(right.item())
        data.columns = own


def test_the_test_counts_held_out_maps_alone(make_trainer: MakeTrainer, data: Labelled) -> None:
    model, batch = build().eval(), cluster_maps(32)
    split = torch.arange(32) // 8 % 3
    expected = model.step({name: x[split == 2] for name, x in batch.items()}, "test")
    for name, value in model.step({**batch, "split": split}, "test").items():
        torch.testing.assert_close(value, expected[name])
    trainer = make_trainer()
    data.columns["split"] = torch.zeros_like(data.columns["split"])
    trainer.test(model, data, verbose=False)
    assert trainer.callback_metrics["test/accuracy"].isnan()


def test_an_ensemble_collects_no_maps_and_logs_no_loss(
    trained: Path, data: Labelled, make_trainer: MakeTrainer
) -> None:
    one = CompactClustering.load_from_checkpoint(trained, weights_only=True)
    remembered = {"class_path": "lightning_modules.CompactClustering", "init_args": {**SMALL}}
    ensemble, trainer = Ensemble([remembered, remembered]), make_trainer()
    for member in ensemble.models:
        member.load_state_dict(one.state_dict())
    trainer.test(ensemble, data, verbose=False)
    assert "test/loss" not in trainer.callback_metrics
    for member in ensemble.models:
        assert isinstance(member, MapModule)
        member.step(cluster_maps(8), "test")
        assert not member.samples["test"].numbers


def test_references_tell_how_old_they_are(data: Labelled, make_trainer: MakeTrainer) -> None:
    ages = []
    for max_epochs in (2, 3):
        model, trainer = build(), make_trainer(max_epochs, check_val_every_n_epoch=2)
        trainer.fit(model, data)
        ages.append(int(model.reference_age))
    assert ages == [0, trainer.num_training_batches]


def test_a_checkpoint_without_the_age_of_its_references_loads(trained: Path) -> None:
    saved = torch.load(trained, weights_only=True)["state_dict"]
    model = CompactClustering(**SMALL)
    model.load_state_dict({name: x for name, x in saved.items() if name != "reference_age"})
    assert model.reference_age == 0
    assert model.reference_latent.isfinite().any()


@pytest.mark.parametrize("kind", [CompactClustering, CrossSectionRegressor])
def test_all_in_bfloat16_trains(
    kind: type[MapModule], data: Labelled, make_trainer: MakeTrainer
) -> None:
    names = ("image_size", "widths", "depths", "hidden_dim", "profile_rings", "warmup_steps")
    sizes: dict[str, Any] = {name: SMALL[name] for name in names}
    trainer = make_trainer(1, precision="bf16-true")
    trainer.fit(kind(**sizes), data)
    assert trainer.callback_metrics["val/loss"].isfinite()
