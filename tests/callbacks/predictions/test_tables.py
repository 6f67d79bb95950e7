import csv
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from astropy.table import Table

from callbacks.predictions.base import append
from callbacks.predictions.tables import PredictionWriter, merge_shards, select
from datamodules.store import RowStore

FIRST_ID = 6_000_000_000_000_000_001


@pytest.fixture(scope="module")
def run(stars: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    data = stars.data(cache_dir=str(folder / "cache"))
    writer = PredictionWriter(["hdf5", "csv", "ecsv"])
    stars.trainer(folder, writer).predict(stars.module(), data, return_predictions=False)
    return folder


def test_hdf5_is_a_row_store_with_every_object_once(run: Path) -> None:
    store = RowStore(run / "predictions.h5", "astrolit.predictions")
    assert store.num_rows == 501
    columns = store.read()
    np.testing.assert_array_equal(columns["index"], np.arange(501))
    np.testing.assert_array_equal(columns["name"], FIRST_ID + np.arange(501))
    np.testing.assert_allclose(columns["probability"].sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(columns["probability"].argmax(1), columns["assignment"])
    assert store.attributes["module"] == "KnowingModule"
    assert store.attributes["provenance"]["source"] == "TinyField"


def test_text_files_hold_the_same_numbers(run: Path) -> None:
    columns = RowStore(run / "predictions.h5").read()
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["name"]) for row in rows] == columns["name"].tolist()
    second = [np.float32(row["probability_1"]) for row in rows]
    np.testing.assert_array_equal(np.array(second), columns["probability"][:, 1])
    table = Table.read(run / "predictions.ecsv", format="ascii.ecsv")
    assert table["name"].dtype == np.int64
    np.testing.assert_array_equal(table["name"], columns["name"])
    assert table.meta["module"] == "KnowingModule"


def test_nothing_else_is_left_in_the_folder(run: Path) -> None:
    names = sorted(path.name for path in run.iterdir() if path.is_file())
    assert names == ["predictions.csv", "predictions.ecsv", "predictions.h5"]


def test_only_the_keys_and_formats_asked_for(stars: Any, tmp_path: Path) -> None:
    writer = PredictionWriter(["csv"], keys=["assignment"])
    (tmp_path / "predictions.h5").write_text("mine")
    stars.trainer(tmp_path, writer).predict(stars.module(), stars.data())
    header = (tmp_path / "predictions.csv").read_text().splitlines()[0]
    assert header.replace('"', "") == "name,index,assignment"
    assert (tmp_path / "predictions.h5").read_text() == "mine"


def write_shard(path: Path, *batches: tuple[int, ...]) -> Path:
    with h5py.File(path, "w") as file:
        for rows in batches:
            index = np.array(rows, dtype=np.int64)
            append(file, {"index": index, "x": index[:, None] * np.array([1.0, 10.0])})
    return path


def test_shards_are_merged_in_order_without_duplicates(tmp_path: Path) -> None:
    shards = [
        write_shard(tmp_path / "0", (0, 2), (4, 6)),
        write_shard(tmp_path / "1", (1, 3), (5, 0)),
        write_shard(tmp_path / "2"),
    ]
    merge_shards(shards, tmp_path / "all.h5", {}, lambda index: np.array([f"★{i}" for i in index]))
    columns = RowStore(tmp_path / "all.h5", "astrolit.predictions").read()
    assert columns["index"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert columns["x"].tolist() == [[i, 10 * i] for i in range(7)]
    assert columns["name"][6] == "★6"


def test_missing_shard_and_empty_prediction_are_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="one folder"):
        merge_shards([tmp_path / "absent"], tmp_path / "all.h5", {})
    with pytest.raises(ValueError, match="nothing was predicted"):
        merge_shards([write_shard(tmp_path / "0")], tmp_path / "all.h5", {})


def test_bfloat16_is_written_as_float32() -> None:
    outputs = {"index": torch.arange(2), "p": torch.tensor([0.5, 0.25]).bfloat16()}
    assert select(outputs, None)["p"].dtype == np.float32


@pytest.mark.parametrize(
    ("outputs", "keys", "message"),
    [
        (torch.zeros(3), None, "dict of tensors with 'index'"),
        ({"x": torch.zeros(3)}, None, "dict of tensors with 'index'"),
        ({"index": torch.arange(3), "x": torch.zeros(())}, None, "'x' is not a tensor with first"),
        ({"index": torch.arange(3), "x": torch.zeros(2)}, None, "'x' is not a tensor with first"),
        ({"index": torch.arange(3)}, ["y"], r"no \['y'\]"),
    ],
)
def test_bad_predictions_are_refused(outputs: Any, keys: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(outputs, keys)


def test_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="choose from hdf5, csv, ecsv"):
        PredictionWriter(["json"])  # type: ignore[list-item]


def test_failure_leaves_no_shard(
    stars: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = stars.module()
    monkeypatch.setattr(module, "predict_step", lambda batch, batch_idx=0: {"index": 0 / 0})
    with pytest.raises(ZeroDivisionError):
        stars.trainer(tmp_path, PredictionWriter()).predict(module, stars.data())
    assert not list(tmp_path.glob(".predictions*"))
