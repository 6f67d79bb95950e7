"""The batch is as documented; halos stay on one side; hidden values reach no training batch."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import SIDMDataModule
from datamodules.sidm.source import SIDMSource
from datamodules.sidm.statistics import map_moments
from lightning_modules.nn.rings import num_rings, ring_index
from tests.datamodules.sidm.maps import OTHERS, TinyMaps

LISTS = {
    "known": ["cdm", "sidm_1"],
    "hidden": ["sidm_0.1", "hidden_*"],
    "calibration": ["calibration_*"],
    "foreign": ["noise"],
}
SIMULATIONS = ["cdm", "sidm_1", "sidm_0.1", "hidden_000", "hidden_001", "calibration_000", "noise"]


def make(folder: Path, source: SIDMSource | None = None, **settings: Any) -> SIDMDataModule:
    settings = {**LISTS, "batch_size": 16, "val_fraction": 0.2, **settings}
    data = SIDMDataModule(source or TinyMaps(), cache_dir=str(folder), **settings)
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(folder: Path) -> SIDMDataModule:
    return make(folder)


def codes(data: SIDMDataModule, *names: str) -> torch.Tensor:
    return torch.tensor([data.simulations.index(name) for name in names])


def test_batches_are_as_documented(data: SIDMDataModule) -> None:
    expected = {
        "index": ((16,), torch.int64),
        "map": ((16, 2, 12, 12), torch.float32),
        "good": ((16, 12, 12), torch.bool),
        "simulation": ((16,), torch.int64),
        "label": ((16,), torch.float32),
    }
    batch = next(iter(data.train_dataloader()))
    assert {k: (tuple(v.shape), v.dtype) for k, v in batch.items()} == expected
    assert torch.equal(batch["map"].isfinite(), batch["good"][:, None].expand(batch["map"].shape))
    assert next(iter(data.predict_dataloader())).keys() == expected.keys()
    for loader in (data.val_dataloader(), data.test_dataloader()):
        batch = next(iter(loader))
        assert batch.keys() == expected.keys() | {"true_label", "halo", "split"}
        assert (batch["true_label"].dtype, batch["halo"].dtype) == (torch.float32, torch.int64)
    assert data.sample_shapes["map"] == (2, 12, 12)
    assert data.sample_shapes["good"] == (12, 12)
    assert (data.channels, data.pixel_scale) == (["total", "xray"], 20.0)


def test_simulations_are_numbered_in_the_order_of_the_lists(data: SIDMDataModule) -> None:
    assert data.simulations == SIMULATIONS
    assert list(data.roles.values()) == ["known"] * 2 + ["hidden"] * 3 + ["calibration", "foreign"]
    stored = data.store.read(["simulation", "cross_section"])
    named = np.array([*SIMULATIONS, ""])[data.columns["simulation"]]  # -1 is the last: none
    np.testing.assert_array_equal(named, stored["simulation"])
    np.testing.assert_array_equal(data.columns["true_label"], stored["cross_section"])


def test_hidden_values_reach_no_training_batch(data: SIDMDataModule) -> None:
    """Neither batch nor statistics change when all but the known cross-sections do."""
    batches = list(data.train_dataloader())
    simulation = torch.cat([batch["simulation"] for batch in batches])
    label = torch.cat([batch["label"] for batch in batches])
    assert set(simulation.tolist()) == {0, 1, 2, 3, 4}
    assert torch.equal(label.isnan(), simulation > 1)
    assert set(label[simulation == 1].tolist()) == {1.0}
    others = {"hidden_000": 9.0, "hidden_001": 8.0, "calibration_000": 7.0, "noise": 6.0}
    twins = {"cdm": 0.0, "sidm_0.1": 5.0, "sidm_1": 1.0}
    other = make(data.cache_dir, TinyMaps(twins, others))
    assert not torch.equal(other.columns["true_label"], data.columns["true_label"])
    for first, second in zip(batches, other.train_dataloader(), strict=True):
        torch.testing.assert_close(first, second, equal_nan=True, rtol=0, atol=0)
    statistics = other.training_statistics()
    torch.testing.assert_close(data.training_statistics(), statistics, rtol=0, atol=0)
    assert statistics["known_label"].tolist() == [0.0, 1.0]


def test_no_halo_is_on_two_sides_and_twins_share_one(data: SIDMDataModule) -> None:
    halo, split = data.columns["halo"], data.columns["split"]
    sides = {int(h): set(split[halo == h].tolist()) for h in halo.unique()}
    assert all(len(side) == 1 for side in sides.values())
    assert {side for sides in sides.values() for side in sides} == {0, 1, 2}
    assert (halo == 7).sum() == 6  # three twins, two projections
    np.testing.assert_array_equal(data.groups(torch.tensor([70, 3])), halo[[70, 3]])


def test_what_takes_no_part_in_training_is_held_out(data: SIDMDataModule) -> None:
    simulation, split = data.columns["simulation"], data.columns["split"]
    apart = torch.isin(simulation, codes(data, "calibration_000", "noise")) | (simulation < 0)
    assert (split[apart] == 2).all()
    assert (simulation < 0).sum() == 3
    for name, code in (("train", 0), ("val", 1)):
        assert torch.equal(data.rows[name], torch.where(split == code)[0])
    validated = torch.cat([batch["index"] for batch in data.val_dataloader()])
    assert torch.equal(validated, data.columns["index"][data.rows["val"]])
    tested = torch.cat([batch["simulation"] for batch in data.test_dataloader()])
    assert torch.equal(tested, simulation)


def test_twins_out_of_training_keep_their_side(folder: Path, data: SIDMDataModule) -> None:
    """A twin of a training halo has been seen in another simulation, so it is not held out."""
    lists = {"known": ["cdm"], "hidden": ["sidm_1"], "foreign": ["*"], "calibration": []}
    other = make(folder, train_on_hidden=False, **lists)
    assert set(other.columns["simulation"][other.rows["train"]].tolist()) == {0}
    assert set(other.columns["simulation"][other.rows["val"]].tolist()) == {0}
    assert other.training_statistics()["num_hidden"] == 0
    assert data.training_statistics()["num_hidden"] == 3
    twins = torch.isin(other.columns["simulation"], codes(other, "sidm_1", "sidm_0.1"))
    rows = other.columns["halo"] < 100
    assert torch.equal(other.columns["split"][rows], data.columns["split"][rows])
    assert set(other.columns["split"][twins].tolist()) == {0, 1, 2}
    hidden = torch.isin(other.columns["simulation"], codes(other, "hidden_000"))
    assert (other.columns["split"][hidden] == 2).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_the_file_are_those_from_memory(
    folder: Path, data: SIDMDataModule, workers: int
) -> None:
    file = make(folder, memory_limit_gib=0.0, num_workers=workers)
    assert data.in_memory
    assert not file.in_memory
    assert not isinstance(file.columns["map"], torch.Tensor)
    assert file.sample_shapes == data.sample_shapes
    for loader in ("train_dataloader", "test_dataloader"):
        pairs = zip(getattr(data, loader)(), getattr(file, loader)(), strict=True)
        for first, second in pairs:
            torch.testing.assert_close(first, second, equal_nan=True, rtol=0, atol=0)
    statistics = file.training_statistics()
    torch.testing.assert_close(statistics, data.training_statistics(), rtol=0, atol=0)


def test_statistics_are_those_of_good_training_pixels(
    folder: Path, data: SIDMDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = data.rows["train"].numpy()
    stored = data.store.read(["map"], rows)["map"].astype(np.float64)
    largest = np.nanmax(stored, axis=(2, 3))
    root = np.sqrt(stored / largest[:, :, None, None])
    ring = ring_index(12, 12).numpy()
    shape = (2, num_rings(12, 12))
    mean, std = np.zeros(shape), np.zeros(shape)
    for channel, number in np.ndindex(shape):
        values = root[:, channel, ring == number]
        mean[channel, number], std[channel, number] = np.nanmean(values), np.nanstd(values)
    monkeypatch.setattr(SIDMDataModule, "rows_per_block", 7)
    found = {name: values.numpy() for name, values in data.training_statistics().items()}
    np.testing.assert_allclose(found["ring_mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(found["ring_std"], std, rtol=1e-4)
    np.testing.assert_allclose(found["log_max_mean"], np.log10(largest).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["log_max_std"], np.log10(largest).std(axis=0), rtol=1e-5)
    assert (found["pixel_scale"], found["channel"].tolist()) == (20.0, [0, 1])


def test_rings_outside_of_a_footprint_are_left_as_they_are() -> None:
    """And the others are as without it, so that round maps can be trained on."""
    ring, maps = ring_index(12, 12), torch.rand(20, 1, 12, 12) + 0.1
    good = (ring < 5).expand(20, 12, 12)
    maps[:, :, 5, 5] = 2.0  # the maximum is inside
    found = map_moments([{"map": maps, "good": good}], (1, 12, 12))
    whole = map_moments([{"map": maps, "good": torch.ones_like(good)}], (1, 12, 12))
    assert (found["ring_mean"][0, 5:] == 0).all()
    assert (found["ring_std"][0, 5:] == 1).all()
    for name in ("ring_mean", "ring_std"):
        assert torch.equal(found[name][:, :5], whole[name][:, :5])
        assert not torch.equal(found[name][:, 5:], whole[name][:, 5:])


@pytest.mark.parametrize("stage", ["predict", "test"])
def test_without_training_a_known_simulation_needs_no_value(folder: Path, stage: str) -> None:
    source = TinyMaps(others={**OTHERS, "sidm_x": np.nan})
    lists = {**LISTS, "known": ["cdm", "sidm_x", "sidm_1"]}
    data = SIDMDataModule(source, **lists, cache_dir=str(folder))
    data.prepare_data()
    data.setup(stage)
    assert data.simulations[:3] == ["cdm", "sidm_1", "sidm_x"]
    assert data.roles["sidm_x"] == "hidden"
    rows = data.columns["simulation"] == data.simulations.index("sidm_x")
    assert rows.sum() == 10
    assert data.columns["label"][rows].isnan().all()
    with pytest.raises(ValueError, match=r"the cross-section of 'sidm_x' is missing; .*hidden"):
        data.setup("fit")


def test_catalogue_and_provenance(data: SIDMDataModule) -> None:
    table = data.catalogue(torch.tensor([70, 3]))
    assert table["simulation"].tolist() == ["sidm_0.1", "cdm"]
    assert table["cross_section"].unit == "cm2 / g"
    assert table["core_radius"].unit == "kpc"
    assert "map" not in table.colnames
    record = data.provenance()
    assert record["simulations"]["hidden"] == ["sidm_0.1", "hidden_000", "hidden_001"]
    assert (record["train_on_hidden"], record["seed"]) == (True, 0)


def test_wrong_data_are_refused_in_one_sentence(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"cross-section of 'noise' is missing; .*data\.hidden"):
        make(folder, known=["cdm", "noise"], foreign=["sidm_1"])
    with pytest.raises(ValueError, match=r"'hidden_001'\] have no role; name them in data\.known"):
        make(folder, hidden=["sidm_0.1", "hidden_000"])
    for known in ([], ["CDM*", "x*"]):
        message = re.escape(f"no simulation matches data.known={known}, so")
        with pytest.raises(ValueError, match=message + r".*; the data have \['cdm', 'sidm_0\.1'"):
            make(folder, known=known, hidden=["*"])
    with pytest.raises(ValueError, match=r"data\.known=.*; the data have maps of no simulation"):
        make(folder, TinyMaps({}, {}), known=["s*"], hidden=["*"], calibration=[], foreign=[])
    for value in (np.inf, -1.0):
        source = TinyMaps(others={**OTHERS, "hidden_000": value})
        with pytest.raises(ValueError, match=rf"of 'hidden_000' is {value:g} cm\^2/g; give a fin"):
            make(folder, source)
    with pytest.raises(ValueError, match=r"'noise' is missing, by which intervals .*calibration"):
        make(folder, calibration=["calibration_*", "noise"], foreign=[])
    with pytest.raises(ValueError, match="memory_limit_gib=-1"):
        make(folder, memory_limit_gib=-1)

    class Mixed(TinyMaps):
        def columns(self) -> dict[str, np.ndarray]:
            columns = super().columns()
            columns["cross_section"][5] = 0.3
            return columns

    with pytest.raises(ValueError, match=r"'cdm' has several cross-sections .* name of its own"):
        make(folder, Mixed())
