"""The survey's images and tables are read row by row, and what is broken is named."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Table

from datamodules import Selection, SpectraDataModule
from datamodules.readers.fits_images import ImageRows, TableRows
from datamodules.spectra.flag_bits import flags_of_text
from datamodules.spectra.grid import GRIDS
from datamodules.spectra.readers.survey_files import SurveySpectra
from datamodules.spectra.readers.survey_table import survey_columns, translate

NUM = 40
GRID = GRIDS[7514]


def catalogue(release: str) -> Table:
    """Give an allStar table; rows 0 to 4 fail a cut each, row 5 has no log g."""
    rows = np.arange(NUM)
    table = Table()
    table["APOGEE_ID"] = np.array([f"2M{row % 35:08d}+1234567" for row in rows])
    table["APSTAR_ID"] = np.array([f"apogee.apo25m.s.stars.4424.{n}" for n in table["APOGEE_ID"]])
    table["SNR"] = np.where(rows == 0, 200, 250).astype(np.float32)
    teff = np.where(rows == 1, 5600, 4500 + rows).astype(np.float32)
    logg = np.where(rows == 5, -9999, 2.0).astype(np.float32)
    fe_h = np.where(rows == 2, -9999.99, 0.1).astype(np.float32)
    table["FE_H"] = fe_h
    table["TEFF_SPEC"], table["LOGG_SPEC"] = teff, logg
    table["TEFF_ERR"], table["LOGG_ERR"] = np.float32(90), np.float32(0.05)
    table["FE_H_ERR"] = np.where(rows == 6, -9999, 0.01).astype(np.float32)
    table["MG_FE"], table["MG_FE_ERR"] = np.float32(0.2), np.float32(0.02)
    table["STARFLAG"] = np.where(rows == 3, 1, 1 << 9).astype(np.int64)
    bad = np.where(rows == 4, 1 << 23 | 1 << 7, 1 << 7)
    if release == "dr16":
        table["ASPCAPFLAGS"] = np.where(rows == 4, "STAR_WARN,STAR_BAD", "STAR_WARN")
    else:
        table["ASPCAPFLAG"] = bad.astype(np.int64)
        table["SNREV"] = np.float32(1)
    table["FPARAM"] = np.tile(np.arange(9, dtype=np.float32), (NUM, 1))
    return table


def images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give fluxes that name their row and pixel, errors and masks."""
    rng = np.random.default_rng(0)
    flux = 1 + np.arange(NUM)[:, None] / 100 + np.arange(7514) / 1e6
    mask = np.where(rng.random((NUM, 7514)) < 0.1, rng.integers(0, 1 << 15, (NUM, 7514)), 0)
    flux[10] = 0
    return flux.astype(np.float32), np.full((NUM, 7514), 0.01, np.float32), mask


def write(folder: Path, release: str = "dr16", mask_type: Any = np.int16) -> Path:
    folder.mkdir(exist_ok=True)
    flux, error, mask = images()
    for name, image in (("final", flux), ("err", error), ("mask", mask.astype(mask_type))):
        hdus = fits.HDUList([fits.PrimaryHDU(image), fits.ImageHDU(np.ones(NUM, np.int32))])
        hdus.writeto(folder / f"contspec_{release}_{name}.fits", overwrite=True)
    table = fits.BinTableHDU(catalogue(release))
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(
        folder / f"allStar-{release}.fits", overwrite=True
    )
    return folder


def prepared(source: SurveySpectra, cache: Path, **settings: Any) -> SpectraDataModule:
    data = SpectraDataModule(source, cache_dir=str(cache), **settings)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("release", ["dr16", "dr17"])
def test_only_the_rows_that_pass_are_copied(tmp_path: Path, release: str) -> None:
    data = prepared(SurveySpectra(str(write(tmp_path / "survey", release))), tmp_path)
    rows = [row for row in range(6, NUM)]
    assert data.store.num_rows == len(rows)
    np.testing.assert_array_equal(data.names(np.arange(34)), catalogue(release)["APOGEE_ID"][rows])
    expected = {"snr": 1, "teff": 1, "fe_h_missing": 1, "logg_missing": 1, "starflag": 1}
    counts = {**expected, "aspcapflag": 1, "rows": NUM, "selected": 34, "kept": 33}
    counts["too_few_good_pixels"] = 34 - counts["kept"]
    assert {name: n for name, n in data.counts.items() if n} == counts
    flux, error, mask = images()
    stored = data.store.read(["flux", "flux_error", "pixel_mask", "mg_fe", "starflag"])
    np.testing.assert_array_equal(stored["flux"], flux[rows])
    np.testing.assert_array_equal(stored["flux_error"], error[rows])
    np.testing.assert_array_equal(stored["pixel_mask"], mask[rows])
    assert stored["mg_fe"].tolist() == pytest.approx([0.2] * 34)
    batch = next(data.batches("all"))
    assert batch["label"][0].tolist() == pytest.approx([4506, 2.0, 0.1])
    assert batch["label_error"][0].tolist() == pytest.approx([90, 0.05, 0.0])
    assert torch.equal(batch["index"], torch.tensor([row - 6 for row in rows if row != 10]))
    assert data.wavelength[-1] == pytest.approx(16943.534, abs=1e-3)


def test_cuts_and_predictions_have_their_own_stores(tmp_path: Path) -> None:
    source = SurveySpectra(str(write(tmp_path / "survey")))
    data = prepared(source, tmp_path)
    first = data.store_path
    loose = prepared(source, tmp_path, selection=Selection(snr=None))
    assert loose.store_path != first
    assert loose.store.num_rows == 35
    assert data.store_path == first


def test_stars_by_name(tmp_path: Path) -> None:
    names = catalogue("dr16")["APOGEE_ID"]
    (tmp_path / "stars.txt").write_text(f"{names[3]}\n{names[20]}\n")
    source = SurveySpectra(str(write(tmp_path / "survey")), stars=str(tmp_path / "stars.txt"))
    data = prepared(source, tmp_path)
    assert data.names(data.columns["index"]).tolist() == [names[38], names[20]][::-1]
    assert data.counts["other_stars"] == NUM - 3
    every = prepared(source, tmp_path, selection=None)
    assert every.store.num_rows == 3
    (tmp_path / "bad.txt").write_text(names[20])
    without = prepared(source, tmp_path, selection=Selection(exclude=str(tmp_path / "bad.txt")))
    assert without.names(without.columns["index"]).tolist() == [names[38]]
    assert without.counts["excluded"] == 1


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.int64, np.uint16, np.float32, np.float64])
def test_masks_of_any_number_type(tmp_path: Path, kind: Any) -> None:
    source = SurveySpectra(str(write(tmp_path / "survey", mask_type=kind)))
    data = prepared(source, tmp_path, selection=None)
    stored = data.store.read(["pixel_mask"])["pixel_mask"]
    np.testing.assert_array_equal(stored, images()[2])


def test_a_mask_without_a_value_is_a_bad_pixel(tmp_path: Path) -> None:
    folder = write(tmp_path / "survey", mask_type=np.float32)
    mask = images()[2].astype(np.float32)
    mask[7, 3] = np.nan
    fits.PrimaryHDU(mask).writeto(folder / "contspec_dr16_mask.fits", overwrite=True)
    data = prepared(SurveySpectra(str(folder)), tmp_path, selection=None)
    assert data.store.read(["pixel_mask"])["pixel_mask"][7, 3] == 1


def test_a_further_table_adds_columns(tmp_path: Path) -> None:
    folder = write(tmp_path / "survey")
    added = Table({"TEFF": np.arange(NUM, dtype=np.float32), "age": np.full(NUM, 5.0)})
    added["APOGEE_ID"] = catalogue("dr16")["APOGEE_ID"]
    added.write(folder / "astronn.fits")
    source = SurveySpectra(str(folder), added="astronn.fits", added_columns=("TEFF", "age"))
    data = prepared(source, tmp_path)
    found = data.catalogue(torch.tensor([0, 1]))
    assert found["astronn_teff"].tolist() == [6, 7]
    assert found["astronn_age"].tolist() == [5, 5]
    assert found["teff"].tolist() == [4506, 4507]
    wrong = SurveySpectra(str(folder), added="astronn.fits")
    with pytest.raises(ValueError, match=r"astronn.fits: no columns \['LOGG', 'FE_H'\]"):
        prepared(wrong, tmp_path)
    text = SurveySpectra(str(folder), added="astronn.fits", added_columns=("APOGEE_ID",))
    with pytest.raises(ValueError, match=r"astronn.fits: APOGEE_ID: not one number a row"):
        prepared(text, tmp_path)
    added["APOGEE_ID"][3] = "somebody else"
    added.write(folder / "astronn.fits", overwrite=True)
    with pytest.raises(ValueError, match="APOGEE_ID are not those of"):
        prepared(source, tmp_path)


def test_broken_files_are_named_and_leave_nothing(tmp_path: Path) -> None:
    cases = {
        "truncated": ("contspec_dr16_err.fits", "lacks its last"),
        "text": ("contspec_dr16_mask.fits", "contspec_dr16_mask.fits: not a whole FITS file"),
        "rows": ("contspec_dr16_final.fits", "has 39 rows, but"),
        "pixels": ("contspec_dr16_err.fits", "has 7000 pixels, but"),
        "gaps": ("contspec_dr16_final.fits", "err.fits has 7514 pixels, but .* has 8575"),
        "table": ("allStar-dr16.fits", "no table in its HDU 1"),
        "ids": ("allStar-dr16.fits", "no column APOGEE_ID or APSTAR_ID"),
        "cut": ("allStar-dr16.fits", "lacks its last"),
    }
    for case, (name, message) in cases.items():
        folder = write(tmp_path / case)
        path = folder / name
        if case in ("truncated", "cut"):
            path.write_bytes(path.read_bytes()[: -9000 if case == "truncated" else -3000])
        elif case == "text":
            path.write_text("no spectra here")
        elif case == "ids":
            table = catalogue("dr16")
            table.remove_columns(["APOGEE_ID", "APSTAR_ID"])
            table.write(path, overwrite=True)
        elif case == "table":
            fits.PrimaryHDU(np.ones((3, 3))).writeto(path, overwrite=True)
        else:
            shape = {"rows": (39, 7514), "pixels": (NUM, 7000), "gaps": (NUM, 8575)}[case]
            fits.PrimaryHDU(np.ones(shape, np.float32)).writeto(path, overwrite=True)
        with pytest.raises(ValueError, match=message):
            prepared(SurveySpectra(str(folder)), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.h5"))


def test_files_must_be_there_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "survey")
    with pytest.raises(FileNotFoundError, match=r"set data.source.folder and data.source.flux"):
        SurveySpectra(str(tmp_path / "nowhere")).paths()
    (folder / "allStarLite.fits").write_text("")
    with pytest.raises(ValueError, match=r"matches 2 files .* name one in data.source.catalogue"):
        SurveySpectra(str(folder)).paths()
    named = SurveySpectra(str(folder), catalogue="allStar-dr16.fits")
    assert named.paths()["catalogue"].name == "allStar-dr16.fits"


def test_no_row_passes(tmp_path: Path) -> None:
    source = SurveySpectra(str(write(tmp_path / "survey")))
    with pytest.raises(ValueError, match="no row passes"):
        prepared(source, tmp_path, selection=Selection(snr=(1e6, None)))


def test_rows_of_images_and_tables(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.float64).reshape(6, 10)
    fits.PrimaryHDU(values).writeto(tmp_path / "image.fits")
    image = ImageRows(tmp_path / "image.fits")
    rows = np.array([0, 1, 4, 5])
    np.testing.assert_array_equal(image.read(rows), values[rows])
    assert image.read(np.zeros(0, np.int64)).shape == (0, 10)
    unsigned = np.array([0, 2**63, 2**64 - 1], np.uint64)
    Table({"n": unsigned, "s": ["a ", "", "c"], "b": np.array([1, 2, 3], np.uint16)}).write(
        tmp_path / "table.fits"
    )
    table = TableRows(tmp_path / "table.fits")
    read = table.read(["n", "s", "b"])
    assert read["n"].tolist() == unsigned.tolist()
    assert read["s"].tolist() == ["a", "", "c"]
    assert read["b"].tolist() == [1, 2, 3]


def test_columns_of_other_releases(tmp_path: Path) -> None:
    old = {"APSTAR_ID": np.array(["apogee.s.4424.2M1", "x.2M2"]), "FPARAM": np.ones((2, 9)) * 7}
    old["FPARAM_COV"] = np.tile(np.eye(9) * 4, (2, 1, 1))
    columns, defaults = translate(old, "old.fits")
    assert columns["name"].tolist() == ["2M1", "2M2"]
    assert columns["teff"].tolist() == [7, 7]
    assert columns["fe_h_error"].tolist() == [2, 2]
    assert np.isnan(columns["snr"]).all()
    assert any("fe_h is FPARAM[3] ([M/H])" in text for text in defaults)
    assert any("aspcapflag is taken as 0" in text for text in defaults)
    lite = Table({"APOGEE_ID": ["2M1"], "TEFF": [4000.0], "LOGG": [-9999.0], "SNR": [100.0]})
    lite.write(tmp_path / "allStarLite.fits")
    columns, defaults = survey_columns(tmp_path / "allStarLite.fits")
    assert columns["teff"].tolist() == [4000]
    assert np.isnan(columns["logg"]).all()
    assert any("teff is TEFF, for there is no TEFF_SPEC" in text for text in defaults)
    assert any("fe_h is unknown" in text for text in defaults)


def test_large_columns_are_not_read_without_need(tmp_path: Path) -> None:
    table = catalogue("dr16")
    table["FPARAM_COV"] = np.zeros((NUM, 9, 9), np.float32)
    table.write(tmp_path / "allStar.fits")
    columns, defaults = survey_columns(tmp_path / "allStar.fits")
    assert "alpha_m" not in columns
    assert defaults == []
    table.remove_column("TEFF_SPEC")
    table.write(tmp_path / "older.fits")
    columns, defaults = survey_columns(tmp_path / "older.fits")
    assert columns["teff"].tolist() == [0] * NUM
    assert columns["alpha_m"].tolist() == [6] * NUM
    assert len(defaults) == 2


def test_flags_by_name() -> None:
    names = {"STAR_BAD": 23, "M_H_WARN": 3}
    texts = np.array(["", "STAR_BAD", "METALS_WARN,STAR_BAD", "ODD_ONE"])
    bits, unknown = flags_of_text(texts, names)
    assert bits.tolist() == [0, 1 << 23, 1 << 23 | 8, 0]
    assert unknown == {"ODD_ONE"}


def test_swapped_images_are_noticed(tmp_path: Path) -> None:
    for first, second, message in (
        ("final", "err", "contspec_dr16_final.fits: the median flux is 0.01, not about 1"),
        ("err", "mask", r"contspec_dr16_mask.fits \(data.source.mask\): 0.01 is no sum of bits"),
        ("final", "mask", r"contspec_dr16_mask.fits \(data.source.mask\): 1.0.* is no sum of bits"),
    ):
        folder = write(tmp_path / f"{first}-{second}")
        paths = [folder / f"contspec_dr16_{name}.fits" for name in (first, second)]
        paths[0].rename(folder / "x")
        paths[1].rename(paths[0])
        (folder / "x").rename(paths[1])
        with pytest.raises(ValueError, match=message):
            prepared(SurveySpectra(str(folder)), tmp_path / "cache")


def test_images_with_the_gaps_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "survey")
    for image in folder.glob("contspec*"):
        fits.PrimaryHDU(np.ones((NUM, 8575), np.float32)).writeto(image, overwrite=True)
    message = "contspec_dr16_final.fits: no APOGEE grid has 8575 pixels; there are"
    with pytest.raises(ValueError, match=message):
        prepared(SurveySpectra(str(folder)), tmp_path)


def test_compressed_files_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "survey")
    for name in ("contspec_dr16_err.fits", "allStar-dr16.fits"):
        packed = folder / f"{name}.gz"
        packed.write_bytes(gzip.compress((folder / name).read_bytes()))
        role = "error" if "err" in name else "catalogue"
        with pytest.raises(ValueError, match=f"{name}.gz: compressed by gzip; decompress it"):
            prepared(SurveySpectra(str(folder), **{role: packed.name}), tmp_path / "cache")
    packed = fits.CompImageHDU(images()[0], compression_type="GZIP_1")
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(folder / "packed.fits")
    with pytest.raises(ValueError, match=r"packed.fits: no image .* compressed ones \(funpack\)"):
        prepared(SurveySpectra(str(folder), flux="packed.fits"), tmp_path / "cache")


def test_flags_of_32_bits_have_no_more() -> None:
    raw = {"APOGEE_ID": np.array(["2M1 "]), "ASPCAPFLAG": np.array([-(2**31)], np.int32)}
    columns, _ = translate(raw, "old.fits")
    assert columns["aspcapflag"].tolist() == [1 << 31]
    assert columns["name"].tolist() == ["2M1"]


def test_columns_of_other_types_are_named() -> None:
    ids = np.array(["2M1", "2M2"])
    for values in (np.array(["a", "b"]), np.ones((2, 3))):
        with pytest.raises(ValueError, match=r"some.fits: TEFF_SPEC: not one number a row, but"):
            translate({"APOGEE_ID": ids, "TEFF_SPEC": values}, "some.fits")


def test_rows_without_an_id_are_stars_of_their_own() -> None:
    for ids in (
        {"APOGEE_ID": np.array(["", "2M2", " "])},
        {"APSTAR_ID": np.array(["", "a.2M2", ""])},
    ):
        columns, defaults = translate(ids, "some.fits")
        assert columns["name"].tolist() == ["row 0", "2M2", "row 2"]
        assert any(f"2 rows without {next(iter(ids))} are stars" in text for text in defaults)
