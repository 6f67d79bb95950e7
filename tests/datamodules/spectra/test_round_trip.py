"""What our writers write in the survey's layouts comes back through our readers and the batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.spectra import (
    ApStarFiles,
    ASPCAPStarFiles,
    Selection,
    SpectraDataModule,
    SpectraFile,
    SurveySpectra,
)
from datamodules.spectra.simulate import Simulation, simulate_block
from datamodules.spectra.writers import (
    write_ap_star,
    write_aspcap_star,
    write_shard,
    write_survey,
)

NUM = 24
LABELS = ("teff", "logg", "fe_h")
LOOSE = Selection(snr=(220.0, None), fe_h=None)


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    fractions = {"missing_labels": 0.1, "zero_flux": 0.1, "flagged": 0.1}
    simulation = Simulation(NUM, repeat_fraction=0.5, broken_fractions=fractions)
    return simulate_block(simulation, np.arange(NUM), 3)


def prepared(source: Any, folder: Path, **settings: Any) -> SpectraDataModule:
    data = SpectraDataModule(source, cache_dir=str(folder / "cache"), **settings)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize(("release", "lite"), [("dr16", False), ("dr16", True), ("dr17", False)])
def test_a_survey(tmp_path: Path, columns: dict[str, np.ndarray], release: Any, lite: bool) -> None:
    write_survey(tmp_path / "survey", columns, release, lite)
    source = SurveySpectra(str(tmp_path / "survey"), added="apogee_astroNN*.fits")
    data = prepared(source, tmp_path, selection=LOOSE, min_good_fraction=0.0)
    kept, counts = LOOSE.select(columns)
    assert 0 < kept.sum() < NUM
    assert data.counts["selected"] == counts["selected"]
    assert counts.items() <= data.counts.items()
    (batch,) = data.batches("all")
    np.testing.assert_array_equal(batch["flux"], columns["flux"][kept])
    expected = np.stack([columns[name][kept] for name in LABELS], axis=1)
    np.testing.assert_allclose(batch["label"], expected, rtol=1e-6)
    errors = np.stack([columns[f"{name}_error"][kept] for name in LABELS], axis=1)
    np.testing.assert_allclose(batch["label_error"], np.nan_to_num(errors), rtol=1e-6)
    np.testing.assert_array_equal(data.names(batch["index"]), columns["name"][kept])
    found = data.catalogue(batch["index"])
    np.testing.assert_allclose(found["mg_fe"], columns["mg_fe"][kept], rtol=1e-6)
    np.testing.assert_array_equal(found["aspcapflag"], columns["aspcapflag"][kept])
    np.testing.assert_allclose(found["astronn_teff"], columns["teff"][kept], rtol=1e-6)
    assert data.provenance()["defaults"] == []


def test_a_shard(tmp_path: Path, columns: dict[str, np.ndarray]) -> None:
    write_shard(tmp_path / "shard.h5", columns)
    data = prepared(SpectraFile(str(tmp_path / "shard.h5")), tmp_path, selection=LOOSE)
    stored = data.store.read()
    for name, values in columns.items():
        np.testing.assert_array_equal(stored[name], values)
    index = data.columns["index"]
    truth = data.true_flux(index)
    assert truth is not None
    np.testing.assert_array_equal(truth, columns["true_flux"][index])
    assert "true_teff" in data.catalogue(index)


def test_stars_in_files_of_their_own(tmp_path: Path, columns: dict[str, np.ndarray]) -> None:
    names = [name for name in dict.fromkeys(columns["name"].tolist())][:6]
    rows = [np.flatnonzero(columns["name"] == name) for name in names]
    for name, visits in zip(names, rows, strict=True):
        star = {key: values[visits] for key, values in columns.items()}
        write_ap_star(tmp_path / f"apStar-r12-{name}.fits", star)
        first = {key: values[visits[0]] for key, values in columns.items()}
        write_aspcap_star(tmp_path / f"aspcapStar-r12-{name}.fits", first)
    settings = {"selection": None, "min_good_fraction": 0.0}
    raw = prepared(ApStarFiles(str(tmp_path)), tmp_path, **settings)
    normal = prepared(ASPCAPStarFiles(str(tmp_path)), tmp_path, **settings)
    assert sorted(raw.names(np.arange(6))) == sorted(normal.names(np.arange(6))) == sorted(names)
    row_of = {name: visits[0] for name, visits in zip(names, rows, strict=True)}
    (batch,) = normal.batches("all")
    where = [row_of[name] for name in normal.names(batch["index"])]
    good = batch["good"].numpy()
    np.testing.assert_array_equal(batch["flux"].numpy()[good], columns["flux"][where][good])
    np.testing.assert_allclose(batch["label"][:, 0], columns["teff"][where], rtol=1e-6)
    (batch,) = raw.batches("all")
    where = [row_of[name] for name in raw.names(batch["index"])]
    good = batch["good"].numpy() & (columns["true_flux"][where] > 0.5)
    ratio = batch["flux"].numpy()[good] / columns["true_flux"][where][good]
    assert np.median(ratio) == pytest.approx(1, abs=0.02)
    assert good.any(axis=1).sum() >= 4


def test_a_spectrum_at_fault_does_not_reach_training(
    tmp_path: Path, columns: dict[str, np.ndarray]
) -> None:
    write_survey(tmp_path / "survey", columns)
    data = prepared(SurveySpectra(str(tmp_path / "survey")), tmp_path, selection=LOOSE)
    empty = (columns["flux"] == 0).all(axis=1)
    kept, _ = LOOSE.select(columns)
    assert data.counts["too_few_good_pixels"] == (empty & kept).sum()
    assert (data.columns["good"].double().mean(dim=1) > 0.5).all()
