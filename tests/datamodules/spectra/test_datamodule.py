"""The batch is as documented; cuts, broken rows, missing labels; in memory or from the file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from datamodules import PixelMaskPolicy, Selection, SpectraDataModule
from datamodules.spectra.pixels import PixelReader
from datamodules.store import RowStore

P = 7214
KEYS = ("index", "flux", "flux_ivar", "good", "label", "label_error")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def make(survey: Any, folder: Path, **settings: Any) -> SpectraDataModule:
    data = SpectraDataModule(survey(), **{"batch_size": 16, **settings}, cache_dir=str(folder))
    data.prepare_data()
    data.setup()
    return data


def test_batches_are_as_documented(survey: Any, folder: Path) -> None:
    data = make(survey, folder)
    batch = next(iter(data.train_dataloader()))
    expected = {
        "index": ((16,), torch.int64),
        "flux": ((16, P), torch.float32),
        "flux_ivar": ((16, P), torch.float32),
        "good": ((16, P), torch.bool),
        "label": ((16, 3), torch.float32),
        "label_error": ((16, 3), torch.float32),
    }
    found = {k: (tuple(batch[k].shape), batch[k].dtype) for k in KEYS}
    assert found == expected
    assert set(batch) - set(KEYS) <= {"loss_scale"}
    rows = batch["index"]
    torch.testing.assert_close(batch["label"][:, 0], 4400.0 + rows)
    assert torch.equal(batch["good"], batch["flux_ivar"] > 0)
    assert not batch["good"][:, [10, 12]].any()
    assert batch["good"][:, [9, 11, 13]].all()
    ivar = torch.where(rows % 2 == 1, 1 / 0.005**2, 1 / 0.02**2)
    torch.testing.assert_close(batch["flux_ivar"][:, 0], ivar)
    assert data.wavelength[0] == pytest.approx(10 ** (4.179 + 6e-6 * 322))
    assert data.grid.num_pixels == P
    assert data.sample_shapes["flux"] == (P,)


def test_rows_that_fail_are_counted(survey: Any, folder: Path) -> None:
    data = make(survey, folder)
    rejected = {"snr": 10, "starflag": 1, "aspcapflag": 1, "too_few_good_pixels": 3}
    missing = {"teff_missing": 1, "logg_missing": 1, "fe_h_missing": 1, "logg": 0}
    expected = {"rows": 120, "selected": 107, "kept": 104, "teff": 0, "snr_missing": 0}
    found = {k: v for k, v in data.counts.items() if k not in ("fe_h",)}
    assert found == {**rejected, **missing, **expected}
    kept = data.columns["index"].tolist()
    assert kept == [row for row in range(10, 116) if row not in (20, 21)]
    assert data.provenance()["counts"] == data.counts
    assert data.provenance()["selection"]["starflag"] == [0, 3, 4]
    all_rows = make(survey, folder, selection=None, min_good_fraction=0.0)
    assert len(all_rows.columns["index"]) == 120
    assert make(survey, folder, selection=None).counts["too_few_good_pixels"] == 3


def test_spectra_of_one_star_share_a_split(survey: Any, folder: Path) -> None:
    data = make(survey, folder, selection=None)
    names = data.names(data.columns["index"])
    split = data.columns["split"].numpy()
    for name in names[:20]:
        assert len(set(split[names == name])) == 1
    assert sum(names == "2M0003") == 2
    assert set(split) == {0, 1, 2}


def test_missing_labels_and_errors(survey: Any, folder: Path) -> None:
    data = make(survey, folder, selection=None, labels=("fe_h", "teff"))
    batch = dict(zip(KEYS, (data.columns[k] for k in KEYS), strict=True))
    assert batch["label"][-1].isnan().all()
    assert batch["label_error"][-1].tolist() == [0, 0]
    assert batch["label_error"][:6, 1].tolist() == [0, 0, 0, 0, 80, 0.5]
    assert batch["label"][0].tolist() == [0, 4400]
    statistics = data.training_statistics()
    assert all(value.isfinite().all() for value in statistics.values())
    with pytest.raises(ValueError, match=r"no column \['age'\]; choose data.labels from"):
        make(survey, folder, labels=("age",))
    assert make(survey, folder, labels=()).columns["label"].shape == (104, 0)


def test_statistics_are_those_of_usable_training_pixels(survey: Any, folder: Path) -> None:
    data = make(survey, folder)
    rows = data.columns["index"][data.rows["train"]].double()
    statistics = data.training_statistics()
    ramp = torch.linspace(-0.1, 0.1, P, dtype=torch.float64)
    used = torch.ones(P, dtype=torch.bool)
    used[[10, 12]] = False
    expected = (1 + rows.mean() / 1000 + ramp).float()
    torch.testing.assert_close(statistics["flux_mean"][used], expected[used])
    assert statistics["flux_mean"][~used].tolist() == [1, 1]
    scale = (rows.std() / 1000).float()
    torch.testing.assert_close(statistics["flux_scale"], scale.expand(P), rtol=1e-4, atol=0)
    errors = torch.where(rows % 2 == 1, 0.005, 0.02)
    assert statistics["flux_noise"][0] == pytest.approx(errors.median().item())
    torch.testing.assert_close(statistics["label_mean"][0], (4400 + rows.mean()).float())
    torch.testing.assert_close(statistics["label_std"][0], rows.std().float())


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_the_file_are_those_from_memory(
    survey: Any, folder: Path, workers: int
) -> None:
    memory = make(survey, folder)
    file = make(survey, folder, memory_limit_gib=0.0, num_workers=workers)
    assert memory.in_memory
    assert not file.in_memory
    assert memory.counts == file.counts
    for loader in ("train_dataloader", "test_dataloader"):
        pairs = zip(getattr(memory, loader)(), getattr(file, loader)(), strict=True)
        for first, second in pairs:
            assert first.keys() == second.keys()
            for name, values in first.items():
                torch.testing.assert_close(values, second[name], equal_nan=True, rtol=0, atol=0)
    for name, values in memory.training_statistics().items():
        torch.testing.assert_close(values, file.training_statistics()[name])
    assert memory.sample_shapes == file.sample_shapes


class Recorder(LightningModule):
    """Returns the batch as its prediction."""

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return batch


def test_predict_keeps_every_row(survey: Any, folder: Path) -> None:
    data = make(survey, folder)
    assert len(data.columns["index"]) == 104
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    batches = trainer.predict(Recorder(), datamodule=data)
    assert batches is not None
    assert torch.cat([b["index"] for b in batches]).tolist() == list(range(120))
    last = batches[-1]
    assert not last["good"][-4:-1].any()
    assert last["label"][-1].isnan().all()
    assert data.provenance()["selection"] is None
    data.trainer = None
    data.setup()
    assert len(data.columns["index"]) == 104


def test_blocks_are_small(survey: Any, folder: Path) -> None:
    data = make(survey, folder)
    data.rows_per_block = 50
    sizes = [len(batch["flux"]) for batch in data.batches("all", ["flux"])]
    assert sizes == [50, 50, 4]


def test_catalogue_and_report_of_masks(survey: Any, folder: Path) -> None:
    data = make(survey, folder)
    index = torch.tensor([50, 12])
    table = data.catalogue(index)
    assert table["teff"].tolist() == [4450, 4412]
    assert str(table["teff_error"].unit) == "K"
    assert str(table["logg"].unit) == "dex(cm / s2)"
    assert "flux" not in table.colnames
    assert data.names(index).tolist() == ["2M0050", "2M0012"]
    assert data.true_flux(index) is None
    report = data.mask_report()
    assert set(report) == {"all", "test"}
    assert report["all"]["BADPIX"]["share"] == pytest.approx(1 / P)
    assert report["all"]["SIG_SKYLINE"] == {"share": pytest.approx(1 / P), "alone": 0}
    strict = make(survey, folder, mask_policy=PixelMaskPolicy((0, 1, "SIG_TELLURIC")))
    assert not strict.columns["good"][:, 11].any()


def test_nonsense_is_refused(survey: Any, folder: Path) -> None:
    with pytest.raises(ValueError, match="no spectrum is left"):
        make(survey, folder, selection=Selection(snr=(1000, None)))
    for settings in ({"error_floor": -1}, {"min_good_fraction": 2}, {"labels": ("teff", "teff")}):
        with pytest.raises(ValueError, match="data"):
            make(survey, folder, **settings)
    assert np.isfinite(make(survey, folder, error_floor=0.0).columns["flux_ivar"]).all()


def test_the_least_error_has_a_finite_weight(tmp_path: Path) -> None:
    columns = {name: np.ones((2, 3), np.float32) for name in ("flux", "flux_error")}
    columns["flux_error"][0] = 1e-30
    mask = np.zeros((2, 3), np.int32)
    store = RowStore.write(tmp_path / "store.h5", {**columns, "pixel_mask": mask}, "test")
    read = PixelReader(store, PixelMaskPolicy(), 0.0).read(slice(None))
    torch.testing.assert_close(read["flux_ivar"][:, 0], torch.tensor([1e12, 1.0]))
