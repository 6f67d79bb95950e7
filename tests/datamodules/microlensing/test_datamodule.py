"""The batch is as documented, in memory or from the file, simulated or real."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import MicrolensingDataModule, OGLELightCurves, RegularCadence, SimulatedEvents
from datamodules.store import RowStore


def make(folder: Path, **settings: Any) -> MicrolensingDataModule:
    source = SimulatedEvents(
        "distinct", 60, 60, cadence=RegularCadence(80), simulation_workers=1, delta_chi2=True
    )
    data = MicrolensingDataModule(source, batch_size=16, cache_dir=str(folder), **settings)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_batches_are_as_documented(folder: Path) -> None:
    data = make(folder)
    batch = next(iter(data.train_dataloader()))
    expected = {
        "index": ((16,), torch.int64),
        "flux": ((16, 80), torch.float32),
        "flux_error": ((16, 80), torch.float32),
        "time": ((16, 80), torch.float64),
        "good": ((16, 80), torch.bool),
        "label": ((16,), torch.int64),
        "delta_chi2": ((16,), torch.float32),
    }
    assert {k: (tuple(v.shape), v.dtype) for k, v in batch.items()} == expected
    assert data.sample_shapes["flux"] == (80,)
    good = batch["good"]
    assert torch.equal(torch.isfinite(batch["flux"]), good)
    assert torch.equal(torch.isfinite(batch["flux_error"]), good)
    assert (batch["time"].diff(dim=1) > 0).all()
    assert set(batch["label"].tolist()) == {0, 1}
    assert (batch["delta_chi2"][batch["label"] == 0] == 0).all()
    assert batch["flux"][good].median() == pytest.approx(1.0, abs=0.1)
    test = torch.cat([b["split"] for b in data.test_dataloader()])
    assert len(test) == 120
    assert 0.1 < (test == 2).float().mean() < 0.4


def test_batches_from_the_file_are_those_from_memory(folder: Path) -> None:
    memory, file = make(folder), make(folder, memory_limit_gib=0.0)
    assert memory.in_memory
    assert not file.in_memory
    assert not isinstance(file.columns["flux"], torch.Tensor)
    for loader in ("train_dataloader", "test_dataloader", "predict_dataloader"):
        pairs = zip(getattr(memory, loader)(), getattr(file, loader)(), strict=True)
        for first, second in pairs:
            assert first.keys() == second.keys()
            for name, values in first.items():
                torch.testing.assert_close(values, second[name], equal_nan=True, rtol=0, atol=0)
    assert memory.sample_shapes == file.sample_shapes


def test_workers_read_the_file_too(folder: Path) -> None:
    data, alone = make(folder, memory_limit_gib=0.0, num_workers=1), make(folder)
    first, second = next(iter(data.train_dataloader())), next(iter(alone.train_dataloader()))
    torch.testing.assert_close(first["flux"], second["flux"], equal_nan=True)


def test_training_statistics_are_of_the_training_split(folder: Path) -> None:
    data = make(folder)
    labels = data.columns["label"][data.rows["train"]]
    counts = [int((labels == k).sum()) for k in (0, 1)]
    assert data.training_statistics()["class_count"].tolist() == counts


def test_catalogue_is_joined_to_rows(folder: Path) -> None:
    data = make(folder)
    index = torch.tensor([7, 3])
    table = data.catalogue(index)
    whole = data.store.read(["peak_time"])["peak_time"]
    np.testing.assert_array_equal(table["peak_time"], whole[[7, 3]])
    assert str(table["peak_time"].unit) == "d"
    assert "flux" not in table.colnames
    assert data.provenance()["redrawn"]["failed"] == 0


def test_real_curves_of_different_length_are_padded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "curves"
    folder.mkdir()
    for name, count in (("a.dat", 20), ("b.dat", 35), ("c.dat", 50), ("d.dat", 12)):
        rows = (f"{5000.5 + k} {18 + 0.01 * rng.standard_normal():.4f} 0.01" for k in range(count))
        (folder / name).write_text("\n".join(rows) + "\n")
    source = OGLELightCurves(str(folder), labels={"a.dat": 0, "b.dat": 1})
    data = MicrolensingDataModule(source, test_fraction=0.0, val_fraction=0.0)
    data.prepare_data()
    data.setup()
    (batch,) = list(data.predict_dataloader())
    assert batch["flux"].shape == (4, 50)
    assert batch["good"].sum(dim=1).tolist() == [20, 35, 50, 12]
    assert batch["label"].tolist() == [0, 1, -1, -1]
    assert torch.isnan(batch["time"][0, 20:]).all()
    assert batch["delta_chi2"].isnan().all()
    assert data.names(batch["index"]).tolist() == ["a.dat", "b.dat", "c.dat", "d.dat"]
    assert batch["time"][1, 0].item() == 5000.5


def test_a_writer_appends_and_leaves_nothing_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with RowStore.writer(path, "test", shared={"grid": np.arange(5.0)}, chunk_bytes=64) as writer:
        for first in (0, 10, 20):
            rows = np.arange(first, first + 10)
            writer.append({"a": rows, "wide": np.ones((10, 7), np.float32) * rows[:, None]})
        writer.attributes["note"] = 1
    store = RowStore(path, "test")
    assert store.num_rows == 30
    assert store.names == ["a", "wide"]
    assert store.attributes == {"note": 1}
    np.testing.assert_array_equal(store.read_shared("grid"), np.arange(5.0))
    rows = np.array([29, 3, 3, 17])
    np.testing.assert_array_equal(store.read(["wide"], rows)["wide"][:, 0], rows)
    with pytest.raises(ValueError, match="no shared array"):
        store.read_shared("other")

    def interrupted() -> None:
        with RowStore.writer(tmp_path / "y.h5", "test") as writer:
            writer.append({"a": np.arange(3)})
            writer.append({"b": np.arange(3)})

    with pytest.raises(ValueError, match="columns"):
        interrupted()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.h5"]
