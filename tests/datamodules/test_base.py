"""What every datamodule does: cache, splits, batches, names; labels stay out of training."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.splits import split_by_object
from datamodules.store import RowStore
from tests.reliability.runs import make_data
from tests.reliability.tiny import SCHEMA, TinyDataModule, TinySource


@pytest.fixture
def data() -> TinyDataModule:
    data = make_data(83)
    data.prepare_data()
    data.setup()
    return data


def test_splits_are_disjoint_and_whole(data: TinyDataModule) -> None:
    parts = [set(data.rows[name].tolist()) for name in ("train", "val", "test")]
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == 83
    assert data.rows["all"].tolist() == list(range(83))
    codes = data.columns["split"]
    assert [(codes == code).sum() for code in range(3)] == [len(part) for part in parts]


def test_labels_stay_out_of_training_and_prediction(data: TinyDataModule) -> None:
    plain = {"index", "features", "target"}
    assert next(iter(data.train_dataloader())).keys() == plain
    assert next(iter(data.predict_dataloader())).keys() == plain
    assert next(data.batches("train")).keys() == plain
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert next(iter(loader)).keys() == plain | {"label", "split"}


def test_loaders_cover_their_rows(data: TinyDataModule) -> None:
    loaders = {
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "all": data.test_dataloader(),
    }
    for name, loader in loaders.items():
        seen = torch.cat([batch["index"] for batch in loader])
        assert sorted(seen.tolist()) == data.columns["index"][data.rows[name]].tolist()
    whole = torch.cat([batch["features"] for batch in data.batches("test", ["features"])])
    assert torch.equal(whole, data.columns["features"][data.rows["test"]])


def test_batches_hold_the_rows_of_their_index(data: TinyDataModule) -> None:
    for batch in data.train_dataloader():
        assert torch.equal(batch["features"], data.columns["features"][batch["index"]])


def test_names_and_shapes(data: TinyDataModule) -> None:
    assert data.names(torch.tensor([7, 0, 7])).tolist() == ["star 7", "star 0", "star 7"]
    assert data.sample_shapes["features"] == (3,)
    assert data.sample_shapes["target"] == ()
    assert data.provenance()["num_objects"]["all"] == 83


GOLDEN_SPLIT = "0000020210001000020000000002122020000002"


def test_a_split_without_groups_is_that_of_the_names(data: TinyDataModule) -> None:
    """Known by heart: runs of long ago resume and are tested on the objects they held out."""
    assert data.groups(data.columns["index"]) is None
    assert "".join(map(str, data.columns["split"][:40].tolist())) == GOLDEN_SPLIT


@pytest.mark.parametrize("dtype", [np.int64, np.str_])
def test_a_group_stays_on_one_side(dtype: type) -> None:
    class Pairs(TinyDataModule):
        def groups(self, index: torch.Tensor | np.ndarray) -> np.ndarray:
            return (np.asarray(index) // 4).astype(dtype)

    data = Pairs(TinySource(400), 8, val_fraction=0.2, test_fraction=0.3)
    data.prepare_data()
    data.setup()
    sides = data.columns["split"].reshape(100, 4)
    assert (sides == sides[:, :1]).all()
    expected = split_by_object(np.arange(100).astype(dtype), 0, 0.2, 0.3)
    np.testing.assert_array_equal(sides[:, 0], expected)  # adding rows to a group moves no group
    assert set(expected) == {0, 1, 2}
    index = data.columns["index"]
    assert len(set(data.names(index).tolist())) == 400
    np.testing.assert_array_equal(data.groups(index[[9, 3]]), np.array([2, 0]).astype(dtype))


def test_too_few_groups_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyDataModule, "groups", lambda self, index: np.arange(3))
    data = make_data(40)
    data.prepare_data()
    with pytest.raises(ValueError, match=r"TinyDataModule.groups gave 3 groups for 40 rows"):
        data.setup()


def test_catalogue_is_every_column_with_one_value_an_object(
    data: TinyDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyDataModule, "units", {"target": "mag", "label": "", "absent": "K"})
    table = data.catalogue(torch.tensor([7, 0, 7]))
    assert table.colnames == ["name", "target", "label"]  # `features` has three values an object
    assert table["name"].tolist() == ["star 7", "star 0", "star 7"]
    np.testing.assert_array_equal(table["target"], data.columns["target"][[7, 0, 7]])
    assert str(table["target"].unit) == "mag"
    assert table["label"].unit is None


def test_prepares_once_for_the_same_parameters_and_seed(tmp_path: Path) -> None:
    first = make_data(40)
    first.prepare_data()
    written = first.store_path.stat().st_mtime_ns
    make_data(40).prepare_data()
    assert first.store_path.stat().st_mtime_ns == written
    other_size = make_data(41)
    other_seed = TinyDataModule(TinySource(40), seed=1)
    assert len({x.store_path for x in (first, other_size, other_seed)}) == 3
    assert len(list(tmp_path.rglob("*.h5"))) == 1


def test_of_two_runs_at_once_one_prepares() -> None:
    calls = []

    class SlowSource(TinySource):
        def prepare(self, path: Path, seed: int) -> None:
            calls.append(path)
            time.sleep(0.5)
            super().prepare(path, seed)

    runs = [TinyDataModule(SlowSource(), 8) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(TinyDataModule.prepare_data, runs))
    assert calls == [runs[0].store_path]


def test_the_seed_fixes_data_split_and_order() -> None:
    def everything(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(torch.seed() % 1000)  # data.seed alone counts
        data = TinyDataModule(TinySource(40), 8, seed=seed)
        data.prepare_data()
        data.setup()
        order = torch.cat([batch["index"] for batch in data.train_dataloader()])
        return [data.columns["features"], data.columns["split"], order]

    first, again, other = everything(3), everything(3), everything(4)
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not any(
        x.shape == y.shape and torch.equal(x, y) for x, y in zip(first, other, strict=True)
    )


def test_an_unprepared_or_foreign_store_is_refused(tmp_path: Path) -> None:
    data = make_data(40)
    with pytest.raises(FileNotFoundError, match="astrolit prepare"):
        data.setup()
    RowStore.write(data.store_path, {"x": np.ones(3)}, "another.schema")
    with pytest.raises(ValueError, match=f"'another.schema', but '{SCHEMA}' is needed"):
        data.setup()


def test_too_few_objects_to_train_on_are_refused() -> None:
    data = TinyDataModule(TinySource(1), test_fraction=0.99, val_fraction=0.0)
    data.prepare_data()
    with pytest.raises(ValueError, match=r"no object of 1 fell into the training split; lower"):
        data.setup("fit")
    data.setup("predict")  # one new object is enough to predict
    assert len(next(iter(data.predict_dataloader()))["index"]) == 1


def test_no_validation_split_is_no_loader() -> None:
    data = TinyDataModule(TinySource(40), val_fraction=0.0)
    data.prepare_data()
    data.setup()
    assert data.val_dataloader() == []


def test_a_new_layout_has_a_new_store(data: TinyDataModule) -> None:
    class NewLayout(TinyDataModule):
        version = 2

    upgraded = NewLayout(data.source)
    assert upgraded.store_path != data.store_path
    shutil.copy(data.store_path, upgraded.store_path)
    with pytest.raises(ValueError, match=r"version 1 of .*, but 2 is needed"):
        upgraded.setup()
