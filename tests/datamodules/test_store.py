"""The row store: what goes in comes out, or one clear error."""

import os
import pickle
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from torch.multiprocessing import get_context

from datamodules.files import atomic_path
from datamodules.store import RowStore

GENERATOR = np.random.default_rng(0)
COLUMNS: dict[str, Any] = {
    "source_id": np.arange(1000) * 31 + 5_853_498_713_190_525_696,
    "position": GENERATOR.normal(size=(1000, 2)),
    "flux": GENERATOR.normal(size=(1000, 700)).astype(np.float32),
    "good": GENERATOR.random((1000, 3)) < 0.5,
    "name": np.array([f"é {row}" for row in range(1000)]),
}


@pytest.fixture
def store(tmp_path: Path) -> RowStore:
    attributes = {"source": {"path": "x.fits", "cuts": [1, 2.5]}}
    return RowStore.write(tmp_path / "rows.h5", COLUMNS, "test.rows", 3, attributes)


def test_what_goes_in_comes_out(store: RowStore) -> None:
    again = RowStore(store.path, "test.rows")
    assert (again.schema, again.version, again.num_rows) == ("test.rows", 3, 1000)
    assert again.names == sorted(COLUMNS)
    assert again.attributes == {"source": {"path": "x.fits", "cuts": [1, 2.5]}}
    for name, values in again.read().items():
        np.testing.assert_array_equal(values, COLUMNS[name])
        if name != "name":
            assert values.dtype == COLUMNS[name].dtype


@pytest.mark.parametrize(
    "rows",
    [
        np.array([5]),
        np.array([999, 0, 500, 0, 999]),
        np.random.default_rng(1).permutation(1000),
        np.array([], dtype=np.int64),
        slice(10, 700, 7),
    ],
    ids=["one", "repeats", "all shuffled", "none", "slice"],
)
def test_reads_rows_in_any_order(store: RowStore, rows: Any) -> None:
    for name, values in store.read(rows=rows).items():
        np.testing.assert_array_equal(values, COLUMNS[name][rows])


def test_bad_requests_say_what_there_is(store: RowStore) -> None:
    with pytest.raises(ValueError, match=r"rows\.h5: no column \['mass'\]; it has \['flux'"):
        store.read(["flux", "mass"])
    for row in (-1, 1000):
        with pytest.raises(ValueError, match=r"outside 0\.\.999"):
            store.read(["flux"], np.array([3, row]))
    with pytest.raises(ValueError, match=r"schema 'test\.rows', but 'other' is needed"):
        RowStore(store.path, "other")


def test_bad_columns_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.h5"
    bad: list[tuple[dict[str, Any], str]] = [
        ({}, "nothing to store"),
        ({"a": np.empty(0)}, "nothing to store"),
        ({"a": np.ones(3), "b": np.ones(4)}, "differ in length"),
        ({"a": np.array([object()])}, "Python objects"),
    ]
    for columns, message in bad:
        with pytest.raises(ValueError, match=message):
            RowStore.write(path, columns, "test.rows")
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError, match=r"no such row store; run `astrolit prepare`"):
        RowStore(path)


def test_a_failed_write_keeps_the_earlier_file(store: RowStore) -> None:
    def write_half() -> None:
        with atomic_path(store.path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert os.listdir(store.path.parent) == ["rows.h5"]
    assert RowStore(store.path).num_rows == 1000


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 0.999])
def test_truncated_files_are_refused(store: RowStore, share: float) -> None:
    size = store.path.stat().st_size
    os.truncate(store.path, int(share * size))
    with pytest.raises(ValueError, match=r"rows\.h5: .*run `astrolit prepare` again"):
        RowStore(store.path).read()


def test_a_flipped_measurement_is_refused(store: RowStore) -> None:
    data = bytearray(store.path.read_bytes())
    data[data.index(COLUMNS["flux"][300].tobytes())] ^= 1
    store.path.write_bytes(data)
    damaged = RowStore(store.path)
    np.testing.assert_array_equal(damaged.read(["good"])["good"], COLUMNS["good"])
    with pytest.raises(ValueError, match=r"rows\.h5: damaged .*run `astrolit prepare` again"):
        damaged.read(["flux"])


def test_flipped_bytes_anywhere_are_refused_or_harmless(tmp_path: Path) -> None:
    columns = {"a": np.arange(40.0), "b": np.arange(40)}
    path = RowStore.write(tmp_path / "rows.h5", columns, "test.rows").path
    data = path.read_bytes()
    refused = 0
    for place in range(0, len(data), 11):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            found = RowStore(path, "test.rows").read(["a", "b"])
        except ValueError:
            refused += 1
            continue
        for name, values in found.items():
            np.testing.assert_array_equal(values, columns[name], err_msg=f"byte {place}")
    assert refused


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.h5"
    text.write_text("not HDF5")
    with pytest.raises(ValueError, match="not a readable HDF5 file"):
        RowStore(text)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.ones(3)
    with pytest.raises(ValueError, match="not an astrolit row store"):
        RowStore(other)


def read_in_worker(store: RowStore, results: Any) -> None:
    results.put(store.read(["source_id"], np.array([999, 1]))["source_id"].tolist())


@pytest.mark.parametrize("method", ["fork"])
def test_reads_in_another_process(store: RowStore, method: str) -> None:
    store.read(["flux"])  # the handle is open here
    context = get_context(method)
    results = context.SimpleQueue()
    process = context.Process(target=read_in_worker, args=(store, results))
    process.start()
    assert results.get() == COLUMNS["source_id"][[999, 1]].tolist()
    process.join()
    copy = pickle.loads(pickle.dumps(store))  # as a spawned worker gets it
    np.testing.assert_array_equal(copy.read(["good"])["good"], COLUMNS["good"])


def test_nothing_in_a_file_is_pickled(store: RowStore) -> None:
    assert b"numpy" not in store.path.read_bytes()
    with h5py.File(store.path) as file:
        kinds = [h5py.check_vlen_dtype(file[name].dtype) for name in file]
        assert set(kinds) <= {None, str}
        assert not any(isinstance(value, h5py.Empty) for value in file.attrs.values())


def test_another_version_is_refused(tmp_path: Path) -> None:
    store = RowStore.write(tmp_path / "store.h5", {"x": np.ones(2)}, "test", version=3)
    assert RowStore(store.path, "test", 3).version == 3
    with pytest.raises(ValueError, match="version 3 of test, but 4 is needed; delete it and run"):
        RowStore(store.path, "test", 4)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    names = ("0123456789ab.store.h5", "ba9876543210.store.h5", "0123456789ab.other.h5")
    old, new, other = (tmp_path / f".{name}" for name in names)
    for path in (old, new, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (time.time() - 4000,) * 2)
    RowStore.write(tmp_path / "store.h5", {"x": np.ones(2)}, "test")
    assert [path.exists() for path in (old, new, other)] == [False, True, True]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match=r"file/folder: no files can be written .*cache_dir"):
        RowStore.write(tmp_path / "file/folder/store.h5", {"x": np.ones(2)}, "test")
