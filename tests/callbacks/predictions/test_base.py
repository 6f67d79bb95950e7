"""Shards become rows sorted by index, each object once, in memory that does not grow with them."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from callbacks.predictions import base
from callbacks.predictions.base import MergedRows
from callbacks.predictions.tables import write_hdf5
from datamodules.store import RowStore


def write_shard(path: Path, *batches: tuple[int, ...]) -> Path:
    if not batches:
        path.touch()
        return path
    with RowStore.writer(path, "astrolit.shard") as writer:
        for rows in batches:
            index = np.array(rows, dtype=np.int64)
            writer.append({"index": index, "x": index[:, None] * np.array([1.0, 10.0])})
    return path


@pytest.mark.parametrize("block_bytes", [1, 50, 8 << 20])
def test_shards_are_merged_in_order_without_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(base, "BLOCK_BYTES", block_bytes)
    shards = [
        write_shard(tmp_path / "0", (0, 2), (4, 6)),
        write_shard(tmp_path / "1", (5, 3), (1, 0)),  # in no order, with a repeated row
        write_shard(tmp_path / "2"),
    ]
    rows = MergedRows(shards)
    blocks = list(rows.blocks(["x", "index"]))
    assert rows.keys == ["index", "x"]
    assert rows.index.tolist() == list(range(7))
    assert len(blocks) == {1: 7, 50: 4}.get(block_bytes, 1)
    assert np.concatenate([block["index"] for block in blocks]).tolist() == list(range(7))
    x = np.concatenate([block["x"] for block in blocks])
    assert x.tolist() == [[i, 10 * i] for i in range(7)]
    assert rows.read(["x"], slice(5, None))["x"].tolist() == [[5, 50], [6, 60]]


def test_missing_shard_and_empty_prediction_are_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="one folder"):
        MergedRows([tmp_path / "absent"])
    with pytest.raises(ValueError, match="nothing was predicted"):
        MergedRows([write_shard(tmp_path / "0")])


def merging_peak(folder: Path, num_rows: int) -> int:
    """Return the largest memory, in bytes, that two shards of rows of 4 kB take to merge."""
    shards = [folder / f"{num_rows}.{rank}" for rank in range(2)]
    for rank, shard in enumerate(shards):
        with RowStore.writer(shard, "astrolit.shard") as writer:
            for index in np.arange(rank, num_rows, 2).reshape(-1, 100):
                writer.append({"index": index, "x": np.repeat(index[:, None], 500, 1)})
    tracemalloc.start()
    tables = (Table(block, copy=False) for block in MergedRows(shards).blocks())
    write_hdf5(folder / f"{num_rows}.h5", tables, {}, "test")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = 1 << 19
    monkeypatch.setattr(base, "BLOCK_BYTES", block)
    few, many = (merging_peak(tmp_path, num_rows) for num_rows in (600, 6_000))
    assert many - few < block
    assert many < 24e6 / 3  # a third of the rows
    columns = RowStore(tmp_path / "6000.h5").read(["x"], np.array([0, 1_234, 5_999]))
    assert columns["x"][:, 7].tolist() == [0, 1_234, 5_999]
