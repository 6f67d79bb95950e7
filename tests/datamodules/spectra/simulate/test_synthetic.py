"""The source of simulated spectra: same data from any workers and blocks; what its store holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import SpectraDataModule, SpectraFile, SyntheticSpectra
from datamodules.spectra.schema import ELEMENTS, SCHEMA
from datamodules.store import RowStore

NUM = 150


def prepare(path: Path, seed: int = 5, **settings: Any) -> RowStore:
    source = SyntheticSpectra(NUM, **{"block_size": 64, **settings})
    source.prepare(path, seed)
    return RowStore(path, SCHEMA)


def test_workers_and_blocks_change_not_a_bit(tmp_path: Path) -> None:
    one = prepare(tmp_path / "one.h5").read()
    two = prepare(tmp_path / "two.h5", simulation_workers=2).read()
    large = prepare(tmp_path / "large.h5", block_size=128).read()
    for name, values in one.items():
        np.testing.assert_array_equal(two[name], values, err_msg=name)
        np.testing.assert_array_equal(large[name], values, err_msg=name)
    assert not list(tmp_path.glob(".*"))


def test_the_store_has_what_the_contract_says(tmp_path: Path) -> None:
    fractions = {"zero_flux": 0.1, "missing_labels": 0.0}
    store = prepare(tmp_path / "s.h5", grid_pixels=7214, broken_fractions=fractions)
    labels = ["teff", "logg", "fe_h", "alpha_m", *(f"{x}_fe" for x in ELEMENTS)]
    truth = [f"true_{name}" for name in (*labels, "rv", "vmacro", "lsf", "telluric", "dib_depth")]
    truth += [f"true_continuum_{k}" for k in range(9)] + ["true_dib_velocity", "true_flux"]
    assert set(truth + labels) < set(store.names)
    columns = store.read()
    for name, kind in {
        "flux": np.float32,
        "flux_error": np.float32,
        "pixel_mask": np.int32,
    }.items():
        assert (columns[name].dtype, columns[name].shape) == (kind, (NUM, 7214))
    for name in [*truth, *labels, "snr", "mg_fe_error"]:
        assert columns[name].dtype == np.float32, name
    assert columns["starflag"].dtype == columns["aspcapflag"].dtype == np.int64
    assert len(store.read_shared("wavelength")) == store.attributes["grid"] == 7214
    counts = store.attributes["counts"]
    assert counts["rows"] == NUM
    assert counts["zero_flux"] == (columns["flux"] == 0).all(1).sum() > 5
    assert counts["missing_labels"] == 0


def test_a_datamodule_takes_it(tmp_path: Path) -> None:
    source = SyntheticSpectra(NUM, repeat_fraction=0.5, broken_fractions={"zero_flux": 0.1})
    datamodule = SpectraDataModule(source, batch_size=32, cache_dir=str(tmp_path))
    datamodule.prepare_data()
    datamodule.setup("fit")
    assert datamodule.counts["too_few_good_pixels"] > 5
    index = datamodule.columns["index"][datamodule.rows["test"]]
    batch = next(iter(datamodule.train_dataloader()))
    pull = (batch["flux"] - datamodule.true_flux(batch["index"]))[batch["good"]]
    chi2 = pull**2 * batch["flux_ivar"][batch["good"]]
    assert float(chi2.mean()) == pytest.approx(1.0, abs=0.02)
    trained = datamodule.names(datamodule.columns["index"][datamodule.rows["train"]])
    assert not set(datamodule.names(index)) & set(trained)
    assert np.isfinite(datamodule.catalogue(index)["true_teff"]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid_pixels": 8575}, "no APOGEE grid has 8575 pixels"),
        ({"num_spectra": 0}, "num_spectra must be positive"),
        ({"snr_range": (300.0, 200.0)}, "snr_range"),
        ({"broken_fractions": {"zero": 0.1}}, "must name only zero_flux, nan_pixels"),
        ({"broken_fractions": {"zero_flux": 1.1}}, r"must be in \[0, 1\]"),
        ({"block_size": 100}, "multiple of 64"),
        ({"simulation_workers": 0}, "simulation_workers must be -1 or positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticSpectra(**settings)


def test_renormalised_spectra_are_those_of_a_file_renormalised(tmp_path: Path) -> None:
    own = prepare(tmp_path / "own.h5", grid_pixels=7214, renormalise=True)
    plain = prepare(tmp_path / "plain.h5", grid_pixels=7214)
    SpectraFile(str(tmp_path / "plain.h5"), renormalise=True).prepare(tmp_path / "file.h5", 0)
    other = RowStore(tmp_path / "file.h5", SCHEMA)
    for name in ("flux", "flux_error", "true_flux"):
        np.testing.assert_allclose(other.read([name])[name], own.read([name])[name], rtol=1e-6)
    assert own.attributes["continuum_degree"] == other.attributes["continuum_degree"]
    assert not np.array_equal(plain.read(["flux"])["flux"], own.read(["flux"])["flux"])
    assert SyntheticSpectra(renormalise=True).parameters() != SyntheticSpectra().parameters()
