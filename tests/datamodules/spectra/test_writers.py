"""What the writers write, astropy and our own readers read back."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits

from datamodules.spectra.grid import GRIDS
from datamodules.spectra.pixel_mask import PixelMaskPolicy
from datamodules.spectra.selection import STARFLAG_BITS
from datamodules.spectra.simulate import Simulation, simulate_block
from datamodules.spectra.survey_writer import text_of_flags
from datamodules.spectra.writers import (
    raw_continuum,
    write_ap_star,
    write_aspcap_star,
    write_shard,
    write_survey,
)

Columns = dict[str, np.ndarray]
NUM = 12
GRID = GRIDS[7514]


@pytest.fixture(scope="module")
def columns() -> Columns:
    fractions = {"missing_labels": 0.2, "zero_flux": 0.2, "flagged": 0.2}
    simulation = Simulation(NUM, repeat_fraction=0.5, broken_fractions=fractions)
    block = simulate_block(simulation, np.arange(NUM), 1)
    assert 0 < np.isnan(block["teff"]).sum() < NUM
    assert 0 < (block["flux"] == 0).all(1).sum() < NUM
    return block


@pytest.mark.parametrize("release", ["dr16", "dr17"])
@pytest.mark.parametrize("lite", [False, True])
def test_a_survey_in_miniature(tmp_path: Path, columns: Columns, release: str, lite: bool) -> None:
    paths = write_survey(tmp_path, columns, release, lite)
    assert len(paths) == len(list(tmp_path.iterdir())) == 5
    for role, name in (("flux", "flux"), ("error", "flux_error"), ("mask", "pixel_mask")):
        with fits.open(paths[role]) as file:
            assert file[0].data.shape == (NUM, 7514)
            np.testing.assert_array_equal(file[0].data, columns[name])
            assert len(file) == (2 if role == "flux" else 1)
            if role == "flux":
                np.testing.assert_array_equal(file[1].data == 0, (columns["flux"] == 0).all(1))
    with fits.open(paths["catalogue"]) as file:
        file.verify("exception")
        table, symbols = file[1].data, file[2 if lite else 3].data
        assert symbols["PARAM_SYMBOL"][0][0] == "TEFF"
        assert list(table["APOGEE_ID"]) == list(columns["name"])
        missing = np.isnan(columns["teff"])
        np.testing.assert_array_equal(table["TEFF_SPEC"] == -9999, missing)
        np.testing.assert_array_equal(table["FE_H"][~missing], columns["fe_h"][~missing])
        np.testing.assert_array_equal(table["MG_FE_ERR"] == -9999, missing)
        assert ("FPARAM" in table.names) is not lite
        if not lite:
            assert table["FPARAM"].shape == (NUM, 9 if release == "dr16" else 20)
            np.testing.assert_array_equal(table["FPARAM"][:, 0], table["TEFF_SPEC"])
        assert table["ASPCAPFLAG"].dtype.itemsize == (4 if release == "dr16" else 8)
        bad = columns["aspcapflag"] == 1 << 23
        assert [("STAR_BAD" in text) for text in table["ASPCAPFLAGS"]] == bad.tolist()
    with fits.open(paths["astronn"]) as file:
        assert list(file[1].data["APOGEE_ID"]) == list(columns["name"])


def test_our_reader_reads_the_survey(tmp_path: Path, columns: Columns) -> None:
    survey_table = pytest.importorskip("datamodules.spectra.survey_table")
    images = pytest.importorskip("datamodules.spectra.fits_images")
    for release in ("dr16", "dr17"):
        paths = write_survey(tmp_path / release, columns, release)
        read, defaults = survey_table.survey_columns(paths["catalogue"])
        assert not defaults
        names = ("teff", "logg", "fe_h", "teff_error", "snr", "mg_fe", "ce_fe_error", "alpha_m")
        for name in (*names, "name", "starflag", "aspcapflag"):
            np.testing.assert_array_equal(read[name], columns[name], err_msg=name)
        rows = np.array([0, 3, 4, NUM - 1])
        flux = images.ImageRows(paths["flux"]).read(rows)
        np.testing.assert_array_equal(flux, columns["flux"][rows])


def test_a_survey_of_the_real_shape_takes_no_room(tmp_path: Path, columns: Columns) -> None:
    places = [3, 100000, *range(473295, 473305)]
    paths = write_survey(tmp_path, columns, rows=places, num_rows=473307)
    size = sum(path.stat().st_size for path in paths.values())
    on_disk = sum(path.stat().st_blocks * 512 for path in paths.values())
    assert size > 3 * 14.2e9
    assert on_disk < 10e6
    with fits.open(paths["error"], memmap=True) as file:
        assert file[0].shape == (473307, 7514)
        np.testing.assert_array_equal(file[0].data[100000], columns["flux_error"][1])
        assert (file[0].data[100001] == 0).all()
    with fits.open(paths["catalogue"], memmap=True) as file:
        table = file[1].data
        assert len(table) == 473307
        assert table["APOGEE_ID"][473304] == columns["name"][-1]
        assert (table["SNR"] > 0).sum() == NUM


def test_flags_as_text() -> None:
    texts = text_of_flags(np.array([0, 1, 1 | 1 << 4]), STARFLAG_BITS)
    assert texts.tolist() == ["", "BAD_PIXELS", "BAD_PIXELS,LOW_SNR"]


def test_an_aspcap_star(tmp_path: Path, columns: Columns) -> None:
    row = int(np.flatnonzero(columns["broken"] == 0)[0])
    star = {name: values[row] for name, values in columns.items()}
    path = tmp_path / "aspcapStar-r12-x.fits"
    write_aspcap_star(path, star)
    good = PixelMaskPolicy().good(star["pixel_mask"], star["flux"], star["flux_error"])
    with fits.open(path) as file:
        file.verify("exception")
        flux, error, model = (file[number].data for number in (1, 2, 3))
        assert flux.shape == (8575,)
        np.testing.assert_array_equal(GRID.take(flux), np.where(good, star["flux"], 0))
        np.testing.assert_array_equal(GRID.take(error)[good], star["flux_error"][good])
        np.testing.assert_array_equal(GRID.take(model), star["true_flux"])
        assert (np.delete(flux, GRID.indices) == 0).all()
        assert file[1].header["CRVAL1"] == 4.179
        table = file[4].data
        assert table["APOGEE_ID"][0] == star["name"]
        assert table["FPARAM"][0, 0] == star["teff"]
    readers = pytest.importorskip("datamodules.spectra.star_readers")
    read, _ = readers.read_aspcap_star(path, GRID)
    assert (read["name"], read["teff"], read["fe_h"]) == (star["name"], star["teff"], star["fe_h"])
    np.testing.assert_array_equal(read["pixel_mask"] == 0, good)


def visits_of(columns: Columns, rows: list[int]) -> Columns:
    return {name: values[rows] for name, values in columns.items()}


def test_an_ap_star_of_one_visit_is_one_spectrum(tmp_path: Path, columns: Columns) -> None:
    row = int(np.flatnonzero(columns["broken"] == 0)[0])
    visits = visits_of(columns, [row])
    write_ap_star(tmp_path / "apStar-x.fits", visits)
    with fits.open(tmp_path / "apStar-x.fits") as file:
        file.verify("exception")
        assert [file[number].data.shape for number in range(1, 8)] == [(8575,)] * 7
        assert file[3].data.dtype.kind == "i"
        flux, error, mask = (file[number].data for number in (1, 2, 3))
        gaps = np.delete(np.arange(8575), GRID.indices)
        assert (flux[gaps] == 0).all()
        assert (error[gaps] == np.float32(1e10)).all()
        assert (mask[gaps] == 1).all()
        scale = raw_continuum(GRID)
        np.testing.assert_allclose(GRID.take(flux) / scale, visits["flux"][0], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(GRID.take(mask), visits["pixel_mask"][0])
        assert file[0].header["NVISITS"] == 1
        assert file[8].data.shape == (26,)


def test_an_ap_star_of_two_visits_has_their_combinations_first(
    tmp_path: Path, columns: Columns
) -> None:
    first = next(
        row for row in range(4) if columns["broken"][row] == columns["broken"][row + 8] == 0
    )
    visits = visits_of(columns, [first, first + 8])
    assert visits["name"][0] == visits["name"][1]
    write_ap_star(tmp_path / "apStar-x.fits", visits)
    policy = PixelMaskPolicy()
    with fits.open(tmp_path / "apStar-x.fits") as file:
        flux, error, mask = (GRID.take(file[number].data) for number in (1, 2, 3))
        assert flux.shape == (4, 7514)
        assert file[0].header["NVISITS"] == 2
        assert file[9].data["VHELIO"].shape == (1, 2)
    flux, error = flux / raw_continuum(GRID), error / raw_continuum(GRID)
    both = policy.good(visits["pixel_mask"], visits["flux"], visits["flux_error"]).all(0)
    variances = visits["flux_error"][:, both].astype(float) ** 2
    expected = (visits["flux"][:, both] / variances).sum(0) / (1 / variances).sum(0)
    np.testing.assert_allclose(flux[0, both], expected, rtol=1e-5)
    np.testing.assert_allclose(error[0, both], (1 / variances).sum(0) ** -0.5, rtol=1e-5)
    weight = visits["snr"].astype(float)[:, None] ** 2
    whole = (visits["flux"][:, both] * weight).sum(0) / weight.sum()
    np.testing.assert_allclose(flux[1, both], whole, rtol=1e-5)
    np.testing.assert_array_equal(mask[2:], visits["pixel_mask"])
    good = policy.good(mask[0], flux[0], error[0])
    single = policy.good(visits["pixel_mask"], visits["flux"], visits["flux_error"])
    np.testing.assert_array_equal(good, single.any(0))
    np.testing.assert_allclose(error[2:][single], visits["flux_error"][single], rtol=1e-5)


def test_our_reader_finds_the_continuum_of_an_ap_star(tmp_path: Path) -> None:
    readers = pytest.importorskip("datamodules.spectra.star_readers")
    continuum = pytest.importorskip("datamodules.spectra.continuum").Continuum(GRID)
    visits = simulate_block(Simulation(1), np.arange(1), 0)
    visits["flux"], clean = np.ones((1, 7514), np.float32), visits["pixel_mask"]
    write_ap_star(tmp_path / "apStar-x.fits", visits)
    star = readers.read_ap_star(tmp_path / "apStar-x.fits", continuum)
    np.testing.assert_allclose(star["flux"], 1.0, atol=5e-3)
    np.testing.assert_array_equal(star["pixel_mask"], clean[0])
    np.testing.assert_allclose(star["flux_error"], visits["flux_error"][0], rtol=5e-3)


def test_a_shard(tmp_path: Path, columns: Columns) -> None:
    write_shard(tmp_path / "shard.h5", columns)
    with h5py.File(tmp_path / "shard.h5") as file:
        np.testing.assert_array_equal(file["flux"], columns["flux"])
        np.testing.assert_array_equal(file["name"].asstr()[:], columns["name"])
        np.testing.assert_array_equal(file["wavelength"], GRID.wavelength)
