import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_modules import CompactClustering
from lightning_modules.sidm.classes import class_tables
from lightning_modules.sidm.dihedral import transformed
from lightning_modules.sidm.sample import fill_reference, mixed_groups
from tests.lightning_modules.sidm.maps import PIXELS, SIZE, SMALL, build, cluster_maps, statistics

MakeData = Callable[..., Any]
MakeTrainer = Callable[..., Trainer]


def test_known_simulations_of_one_cross_section_share_a_class() -> None:
    labels = torch.tensor([0.3, 0.0, 1.0, 0.3 * (1 + 1e-7), 0.0])
    known, classes, takes_part = class_tables(labels, 2, own=True)
    torch.testing.assert_close(
        known, torch.tensor([0.0, 0.3, 1.0, math.nan, math.nan]), equal_nan=True
    )
    assert classes[:8].tolist() == [1, 0, 2, 1, 0, 3, 4, -1]
    assert takes_part[:8].tolist() == 7 * [True] + [False]
    known, classes, takes_part = class_tables(labels, 2, own=False)
    assert len(known) == 3
    assert classes[:8].tolist() == [1, 0, 2, 1, 0, -1, -1, -1]
    assert takes_part[:8].tolist() == 7 * [True] + [False]


def test_another_number_of_classes_is_refused() -> None:
    message = (
        "num_classes=3 but the data have 3 known cross-sections and 1 hidden simulations in "
        "training; set model.num_classes to 4"
    )
    with pytest.raises(ValueError, match=message):
        build(num_classes=3)
    build(num_classes=3, hidden="unlabelled")
    found = statistics(cluster_maps(40)) | {"num_hidden": torch.tensor(300)}
    with pytest.raises(ValueError, match="303 simulations in training are more than 256"):
        build().fit_statistics(found)


def test_terms_are_those_of_the_rows_that_they_need() -> None:
    """Class: all; distance: the known; unlabelled rows are nodes of the propagation alone."""
    batch = cluster_maps(16)
    both = {hidden: build(hidden=hidden, num_classes=n).eval() for hidden, n in
            (("class", 4), ("unlabelled", 3))}  # fmt: skip
    without = {name: values[batch["simulation"] < 3] for name, values in batch.items()}
    for hidden, model in both.items():
        terms, known = model.step(batch, "val"), model.step(without, "val")
        assert terms["distance"].item() == pytest.approx(known["distance"].item(), rel=1e-5)
        assert (terms["class"] == known["class"]) == (hidden == "unlabelled")
        assert abs(terms["cclp"] - known["cclp"]) > 1e-3
        total = terms["class"] + 0.018 * terms["cclp"] + terms["distance"]
        torch.testing.assert_close(terms["loss"], total)


@pytest.mark.parametrize("hidden", ["class", "unlabelled"])
def test_a_hidden_cross_section_changes_nothing(hidden: str) -> None:
    model, batch = build(hidden=hidden, num_classes=4 - (hidden == "unlabelled")), cluster_maps(12)
    expected = model.eval().step(batch, "val")
    for name in ("true_label", "halo"):
        batch.pop(name)
    batch["label"] = torch.full((12,), 123.0)
    for name, value in model.step(batch, "val").items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize("outside", [-1, 4, 1000])
def test_simulations_outside_the_training_take_no_part(outside: int) -> None:
    model, batch = build().eval(), cluster_maps(16)
    expected = model.step({name: values[:12] for name, values in batch.items()}, "val")
    batch["simulation"][12:] = outside
    for name, value in model.step(batch, "val").items():
        torch.testing.assert_close(value, expected[name])


def test_predictions_follow_from_the_latent() -> None:
    model, batch = build().eval(), cluster_maps(6)
    with torch.no_grad():
        found = model.predict_step(batch)
        logits = model.classifier(found["latent"])
    assert {name: tuple(values.shape[1:]) for name, values in found.items()} == {
        "index": (), "latent": (3,), "profile": (12,), "probability": (4,),
        "cross_section": (), "energy": (),
    }  # fmt: skip
    torch.testing.assert_close(found["probability"].log(), logits + found["energy"][:, None])
    torch.testing.assert_close(
        model.coordinate(found["cross_section"]), found["latent"][:, 0], rtol=1e-4, atol=1e-4
    )


def test_pixels_that_are_not_good_carry_no_information() -> None:
    batch, model = cluster_maps(6), build(decoder_weight=1.0, norms=True).eval()
    expected = model.step(batch, "val")
    batch["map"] = torch.where(batch["good"][:, None], batch["map"], 1e30)
    for name, value in model.step(batch, "val").items():
        assert torch.equal(value, expected[name])


def test_the_slope_of_a_latent_by_the_map_is_finite() -> None:
    model, batch = build().eval(), cluster_maps(3)
    batch["map"][:, :, :4] = 0.0
    batch["map"].requires_grad_()
    model.encode(batch)[:, 0].sum().backward()
    slope = batch["map"].grad
    assert slope is not None
    assert slope.isfinite().all()
    assert slope.abs().amax(dim=(1, 2, 3)).min() > 0


def test_simulations_are_told_apart_and_ordered(
    make_data: MakeData, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """Also: references are the validation's known maps, and travel in the checkpoint."""
    model, data, trainer = build(lr=1e-2), make_data(480, val_fraction=0.2), make_trainer(8)
    trainer.fit(model, data)
    assert trainer.callback_metrics["val/accuracy"] > 0.8
    assert trainer.callback_metrics["val/distance"] < 0.02
    rows = data.rows["val"]
    batch = {name: values[rows] for name, values in data.columns.items()}
    with torch.no_grad():
        found = model.eval().predict_step(batch)
    medians = [found["cross_section"][batch["simulation"] == k].median().item() for k in range(4)]
    assert medians[0] < medians[3] < medians[2] < medians[1]
    for number, simulation in enumerate((0, 2, 1)):
        own = torch.where(batch["simulation"] == simulation)[0]
        kept = own[torch.arange(8) * len(own) // 8]
        torch.testing.assert_close(model.reference_latent[number], found["latent"][kept])
        assert torch.equal(model.reference_halo[number], batch["halo"][kept])
    assert model.reference_latent[3].isnan().all()
    assert (model.reference_halo[3] == -1).all()
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    path = tmp_path / "model.ckpt"
    loaded = CompactClustering.load_from_checkpoint(path, weights_only=True).eval()
    for name, values in model.state_dict().items():
        torch.testing.assert_close(
            loaded.state_dict()[name], values, rtol=0, atol=0, equal_nan=True
        )
    with torch.no_grad():
        for name, values in loaded.predict_step(batch).items():
            assert torch.equal(values, found[name])
    kept_before = model.reference_latent.clone()
    make_trainer().validate(model, make_data(64), verbose=False)
    assert torch.equal(model.reference_latent.nan_to_num(), kept_before.nan_to_num())


def test_a_class_with_too_many_maps_is_thinned_evenly() -> None:
    number = torch.arange(20)
    codes = torch.stack([number % 2, torch.ones_like(number), number, 100 + number], dim=1)
    latent, halo = torch.zeros(3, 4, 1), torch.zeros(3, 4, dtype=torch.int64)
    rows = number[:, None].float(), codes
    fill_reference(latent, halo, torch.tensor([True, False, True]), rows)
    assert latent[0, :, 0].tolist() == [0.0, 4.0, 10.0, 14.0]
    assert halo[0].tolist() == [100, 104, 110, 114]
    assert latent[1:].isnan().all()
    assert (halo[1:] == -1).all()


def test_groups_of_an_evaluation_are_dealt_from_the_whole() -> None:
    simulation = torch.arange(500) // 125
    groups = list(mixed_groups((torch.zeros(500, 1), simulation[:, None])))
    assert [len(codes) for _, codes in groups] == [100] * 5
    for _, codes in groups:
        assert torch.bincount(codes[:, 0]).tolist() == [25] * 4


def test_validation_means_do_not_depend_on_its_batches(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    found = []
    for batch_size in (7, 240):
        data, trainer = make_data(240, batch_size, val_fraction=0.5), make_trainer()
        trainer.validate(build(decoder_weight=0.5), data, verbose=False)
        found.append(trainer.callback_metrics)
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value)


class Watched(CompactClustering):
    """Keeps what its steps saw."""

    seen: list[tuple[str, dict[str, Tensor]]]

    def step(self, batch: dict[str, Tensor], stage: str) -> dict[str, Tensor]:
        self.seen.append((stage, batch))
        return super().step(batch, stage)


@pytest.mark.parametrize("augment", [True, False])
def test_only_training_maps_are_turned(
    augment: bool, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    torch.manual_seed(0)
    model, data = Watched(**SMALL, augment=augment), make_data(160, val_fraction=0.4)
    model.seen = []
    make_trainer(1).fit(model, data)
    turned: dict[str, set[int]] = {"train": set(), "val": set()}
    for stage, batch in model.seen:
        for row, values, good in zip(batch["index"], batch["map"], batch["good"], strict=True):
            before, own = data.columns["map"][row], data.columns["good"][row]
            element = next(e for e in range(8) if torch.equal(transformed(own, e), good))
            turned[stage].add(element)
            assert torch.equal(transformed(before, element).nan_to_num(), values.nan_to_num())
    assert turned["val"] == {0}
    assert len(turned["train"]) == (8 if augment else 1)


def test_a_decoder_learns_the_maps(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(4)
    trainer.fit(build(decoder_weight=1.0, lr=1e-2, ordered_bottleneck=True), make_data(240))
    assert trainer.callback_metrics["val/reconstruction"] < 0.9  # 1 is the mean of each ring


def test_maps_of_another_shape_are_refused() -> None:
    batch = cluster_maps(4)
    batch["map"] = batch["map"].repeat(1, 2, 1, 1)
    message = rf"channels and model.image_size=\(1, {SIZE}, {SIZE}\) but the data have \(2, {SIZE}"
    with pytest.raises(ValueError, match=message):
        build().training_step(batch, 0)


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [
        ({"pixel_scale": torch.tensor(10.0)}, "trained on pixels of 20 kpc, not 10; give it maps"),
        ({"channel": torch.tensor([1])}, r"trained on channels \[0\] of total.*, not \[1\]; give"),
    ],
)
def test_maps_of_other_pixels_are_refused(
    pixels: dict[str, Tensor],
    sentence: str,
    make_data: MakeData,
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Whether the model is at hand or comes from a checkpoint, which is read after `setup`."""
    model, data = build(), make_data(64)
    model.statistics_fitted.fill_(True)
    make_trainer().validate(model, data, verbose=False)
    path = tmp_path / "model.ckpt"
    model.trainer.save_checkpoint(path)
    monkeypatch.setattr(data, "pixels", lambda: PIXELS | pixels)
    with pytest.raises(ValueError, match=sentence):
        make_trainer().validate(model, data, verbose=False)
    with pytest.raises(ValueError, match=sentence):
        make_trainer().validate(CompactClustering(**SMALL), data, ckpt_path=path, verbose=False)


def test_an_empty_batch_is_refused() -> None:
    batch = {name: values[:0] for name, values in cluster_maps(4).items()}
    with pytest.raises(ValueError, match="CompactClustering got a batch without maps"):
        build().step(batch, "train")


@pytest.mark.parametrize(
    "arguments",
    [{"num_classes": 1}, {"cclp_steps": 0}, {"latent_dim": 1, "ordered_bottleneck": True}],
)
def test_settings_out_of_range_name_the_argument(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"model\.{next(iter(arguments))}="):
        CompactClustering(**arguments)


def test_compile_keeps_the_names_of_the_weights() -> None:
    assert list(build(compile=True).state_dict()) == list(build().state_dict())
