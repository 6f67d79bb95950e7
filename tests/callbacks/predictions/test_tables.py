import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.table import Column, Table

from callbacks.predictions import base
from callbacks.predictions.tables import WRITERS, PredictionWriter, select, to_table
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
    assert store.attributes["model"] == "KnowingModule"
    assert store.attributes["software"].startswith("astrolit")
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
    assert table.meta["model"] == "KnowingModule"


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


def test_files_appear_all_or_none(
    stars: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setitem(WRITERS, "ecsv", ("ecsv", fail))
    writer = PredictionWriter(["hdf5", "csv", "ecsv"])
    with pytest.raises(OSError, match="no space left"):
        stars.trainer(tmp_path, writer).predict(stars.module(), stars.data())
    assert not [path for path in tmp_path.iterdir() if "predictions" in path.name]


def test_a_number_of_blocks_is_one_table(
    stars: Any, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "BLOCK_BYTES", 5000)
    data = stars.data(cache_dir=str(run / "cache"))
    writer = PredictionWriter(["hdf5", "csv", "ecsv", "fits"])
    stars.trainer(tmp_path, writer).predict(stars.module(), data, return_predictions=False)
    for name in ("predictions.csv", "predictions.ecsv"):
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes()
    columns = RowStore(run / "predictions.h5").read()
    for name, values in RowStore(tmp_path / "predictions.h5").read().items():
        np.testing.assert_array_equal(values, columns[name])
    table = Table.read(tmp_path / "predictions.fits")
    np.testing.assert_array_equal(table["probability_2"], columns["probability"][:, 2])


def test_vectors_are_numbered_and_matrices_left_out() -> None:
    columns = [Column(np.zeros((2, *shape)), f"x{len(shape)}") for shape in ((), (2,), (2, 3))]
    assert to_table(columns, split=True).colnames == ["x0", "x1_0", "x1_1"]
    assert to_table(columns, split=False).colnames == ["x0", "x1", "x2"]


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
