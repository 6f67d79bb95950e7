"""Real and made-up files of single stars come out on the right grid, with masks and continuum."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from datamodules import SpectraDataModule
from datamodules.spectra.continuum import Continuum
from datamodules.spectra.grid import GRIDS, NUM_PIXELS
from datamodules.spectra.pixel_mask import PixelMaskPolicy
from datamodules.spectra.readers.star_files import ApStarFiles, ASPCAPStarFiles
from datamodules.spectra.readers.star_readers import read_ap_star, read_aspcap_star

GRID = GRIDS[7514]
PAIRS = ("2M03290406+3117075", "2M06521977-2534505", "2M13564148+4342587")
GIANT = "2M17334253-1654573"


@pytest.fixture
def spectra(shared_data: Path) -> Path:
    return shared_data / "spectra"


def prepared(source: Any, folder: Path, **settings: Any) -> SpectraDataModule:
    settings = {"selection": None, "min_good_fraction": 0.0, **settings}
    data = SpectraDataModule(source, cache_dir=str(folder), **settings)
    data.prepare_data()
    data.setup()
    return data


def write_ap_star(path: Path, flux: Any, error: Any, mask: Any, **header: Any) -> Path:
    images = [fits.ImageHDU(np.asarray(x)) for x in (flux, error, mask)]
    for image in images:
        image.header.update(CRVAL1=4.179, CDELT1=6e-6)
    primary = fits.PrimaryHDU()
    primary.header.update(header)
    fits.HDUList([primary, *images]).writeto(path, overwrite=True)
    return path


def made_up(visits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = (visits + 2, NUM_PIXELS) if visits > 1 else (NUM_PIXELS,)
    ramp = np.linspace(100, 200, NUM_PIXELS) * np.ones(shape)
    if visits > 1:
        ramp[1] *= 2
    return ramp.astype(np.float32), (ramp / 50).astype(np.float32), np.zeros(shape, np.int16)


def test_real_aspcap_stars(spectra: Path, tmp_path: Path) -> None:
    data = prepared(ASPCAPStarFiles(str(spectra / "aspcapStar_dr13")), tmp_path)
    assert data.store.num_rows == 13
    assert data.wavelength[[0, -1]] == pytest.approx([15152.211, 16943.534], abs=1e-3)
    names = data.names(np.arange(13)).tolist()
    assert PAIRS[0] in names
    batch = next(data.batches("all"))
    good = batch["good"].numpy()
    assert ((good.mean(axis=1) > 0.8) & (good.mean(axis=1) <= 1)).all()
    flux = batch["flux"].numpy()
    assert not good[flux == 0].any()
    assert np.median(flux[good]) == pytest.approx(0.95, abs=0.1)
    found = data.catalogue(np.array([names.index(PAIRS[0])]))
    assert found["teff"][0] == pytest.approx(2903.6, abs=0.1)
    assert found["logg"][0] == pytest.approx(1.0417, abs=1e-4)
    assert found["fe_h"][0] == pytest.approx(-2.3601, abs=1e-4)
    assert found["teff_error"][0] == pytest.approx(13.593, abs=1e-3)
    assert found["snr"][0] == pytest.approx(33.127, abs=1e-3)
    assert found["starflag"][0] == 131584
    assert found["aspcapflag"][0] == 109055624
    assumed = "aspcapStar files: teff is FPARAM[0], for there is no TEFF_SPEC"
    assert assumed in data.provenance()["defaults"]


def test_the_gaps_are_deleted_at_the_right_places(spectra: Path) -> None:
    (file,) = (spectra / "aspcapStar_dr13").glob(f"*{PAIRS[0]}.fits")
    with fits.open(file) as hdus:
        whole, header = hdus[1].data, hdus[1].header
    wavelength = 10 ** (header["CRVAL1"] + header["CDELT1"] * np.arange(NUM_PIXELS))
    for grid in GRIDS.values():
        row, _ = read_aspcap_star(file, grid)
        np.testing.assert_allclose(grid.wavelength, grid.take(wavelength), rtol=0, atol=1e-8)
        np.testing.assert_array_equal(row["flux"], grid.take(whole))
        assert row["flux"].dtype == np.float32
    outside = np.ones(NUM_PIXELS, bool)
    outside[GRID.indices] = False
    assert np.mean(whole[outside] == 0) > 0.97


def test_real_ap_stars(spectra: Path, tmp_path: Path) -> None:
    data = prepared(ApStarFiles(str(spectra / "apStar_dr13")), tmp_path)
    assert data.names(np.arange(4)).tolist() == sorted((*PAIRS, GIANT))
    assert "apStar files: labels are unknown" in data.provenance()["defaults"][0]
    batch = next(data.batches("all"))
    assert batch["label"].isnan().all()
    lost = 1 - batch["good"].double().mean(dim=1).numpy()
    assert ((lost > 0.03) & (lost < 0.2)).all()
    report = data.mask_report()["all"]
    assert report["SIG_SKYLINE"]["share"] > 0.01
    assert report["bad"]["share"] == pytest.approx(lost.mean())
    stored = data.store.read(["snr", "starflag"])
    assert stored["snr"].tolist() == pytest.approx([33.127, *stored["snr"][1:3], 186.493])
    assert stored["starflag"][0] == 131584
    assert data.store.attributes["continuum_degree"] == 2
    pixels = data.store.read_shared("continuum_mask")
    np.testing.assert_array_equal(pixels, Continuum(GRID).pixels)


def test_the_continuum_of_real_stars_is_close_to_the_survey_s(spectra: Path) -> None:
    """M dwarfs have no continuum, so only the shape agrees: 2 to 4 % (astroNN's pixels: 2 to 4)."""
    theirs = np.load(spectra / "astronn_masks/dr16_contmask.npy")
    scatter = []
    for name in PAIRS:
        (normalised,) = (spectra / "aspcapStar_dr13").glob(f"*{name}.fits")
        reference, _ = read_aspcap_star(normalised, GRID)
        file = spectra / f"apStar_dr13/apStar-r6-{name}.fits"
        ours = [read_ap_star(file, Continuum(GRID, mask)) for mask in (None, theirs)]
        valued = (reference["pixel_mask"] == 0) & (reference["flux"] > 0.2)
        ratios = []
        for row in ours:
            good = PixelMaskPolicy().good(row["pixel_mask"], row["flux"], row["flux_error"])
            both = good & valued
            ratios.append(row["flux"][both] / reference["flux"][both])
        scatter.append([np.std(ratio / np.median(ratio)) for ratio in ratios])
        assert np.median(ratios[0]) == pytest.approx(1.05, abs=0.04)
    assert np.max(scatter) < 0.05
    assert np.mean(scatter, axis=0)[0] < 1.1 * np.mean(scatter, axis=0)[1]


def test_normalising_twice_changes_nothing_more(spectra: Path, tmp_path: Path) -> None:
    (file,) = (spectra / "aspcapStar_dr13").glob(f"*{PAIRS[2]}.fits")
    data = prepared(ASPCAPStarFiles(str(file), renormalise=True), tmp_path)
    assert data.store.attributes["continuum_degree"] == 2
    (batch,) = data.batches("all")
    flux, good = batch["flux"].numpy(), batch["good"].numpy()
    again = Continuum(GRID).fit(flux, batch["flux_ivar"].clamp(min=1e-9).rsqrt().numpy(), good)
    np.testing.assert_allclose(again, 1, atol=2e-3)  # errors change a little with the floor
    plain, _ = read_aspcap_star(file, GRID)
    ratio = plain["flux"][good[0]] / flux[0][good[0]]
    assert 0.9 < np.median(ratio) < 1.1
    assert ASPCAPStarFiles(str(file)).parameters()["continuum"] is None


def test_the_giant_has_a_level_continuum(spectra: Path) -> None:
    row = read_ap_star(spectra / f"apStar_dr13/apStar-r6-{GIANT}.fits", Continuum(GRID))
    good = PixelMaskPolicy().good(row["pixel_mask"], row["flux"], row["flux_error"])
    for chip in GRID.chips:
        level = np.quantile(row["flux"][chip][good[chip]], 0.9)
        assert level == pytest.approx(1.01, abs=0.02)


def test_which_combination_is_read(tmp_path: Path) -> None:
    flux, error, mask = made_up(visits=3)
    mask[0, GRID.indices[100]], mask[1, GRID.indices[200]] = 1 << 12, 1
    flux[0, GRID.indices[300]] = np.nan
    file = write_ap_star(tmp_path / "apStar-2M00000000+0000000.fits", flux, error, mask, SNR=50.0)
    row = read_ap_star(file, Continuum(GRID))
    assert np.flatnonzero(row["pixel_mask"]).tolist() == [100, 300]
    assert row["pixel_mask"][[100, 300]].tolist() == [1 << 12, 1]
    good = row["pixel_mask"] == 0
    np.testing.assert_allclose(row["flux"][good], 1, atol=1e-3)
    np.testing.assert_allclose(row["flux_error"][good], 0.02, atol=1e-4)
    assert row["name"] == "2M00000000+0000000"
    assert row["snr"] == 50


def test_one_visit_has_one_spectrum(tmp_path: Path) -> None:
    file = write_ap_star(tmp_path / "apStar-x.fits.gz", *made_up(), OBJID="2M1", STARFLAG=8)
    row = read_ap_star(file, Continuum(GRIDS[7214]))
    assert row["flux"].shape == (7214,)
    assert (row["name"], row["starflag"]) == ("2M1", 8)


def test_a_detector_without_a_continuum_is_bad(tmp_path: Path) -> None:
    flux, error, mask = made_up()
    mask[3585:6080] = 1
    row = read_ap_star(write_ap_star(tmp_path / "a.fits", flux, error, mask), Continuum(GRID))
    good = PixelMaskPolicy().good(row["pixel_mask"], row["flux"], row["flux_error"])
    assert [good[chip].all() for chip in GRID.chips] == [True, False, True]
    assert not good[GRID.chips[1]].any()


def test_labels_from_a_catalogue(tmp_path: Path) -> None:
    for name in ("2M1", "2M2", "2M3"):
        write_ap_star(tmp_path / f"apStar-{name}.fits", *made_up(), OBJID=name, SNR=99.0)
    table = Table({"APOGEE_ID": ["2M2", "2M1", "2M2"], "SNR": [10.0, 20.0, 30.0]})
    table["TEFF_SPEC"] = [1.0, -9999.0, 3.0]
    table["STARFLAG"] = [1, 2, 3]
    table["MG_FE"] = [0.1, 0.2, 0.3]
    table.write(tmp_path / "allStar.fits")
    source = ApStarFiles(str(tmp_path), catalogue=str(tmp_path / "allStar.fits"))
    data = prepared(source, tmp_path / "cache", labels=("teff", "mg_fe"))
    stored = data.store.read(["name", "teff", "mg_fe", "starflag", "snr"])
    assert stored["name"].tolist() == ["2M1", "2M2", "2M3"]
    np.testing.assert_array_equal(stored["teff"], [np.nan, 3, np.nan])
    assert stored["starflag"].tolist() == [2, 3, 0]
    assert stored["snr"].tolist() == [99, 99, 99]
    assert any("1 stars are not in it" in text for text in data.provenance()["defaults"])
    statistics = data.training_statistics()
    assert statistics["continuum_mask"].sum() == Continuum(GRID).pixels.sum()
    assert statistics["continuum_degree"] == 2


def test_own_continuum_travels_with_the_statistics(tmp_path: Path) -> None:
    write_ap_star(tmp_path / "apStar-1.fits", *made_up())
    mask = np.zeros(7514, bool)
    mask[::5] = True
    np.save(tmp_path / "mask.npy", mask)
    source = ApStarFiles(
        str(tmp_path), continuum_degree=4, continuum_mask=str(tmp_path / "mask.npy")
    )
    data = prepared(source, tmp_path / "cache", val_fraction=0.0, test_fraction=0.0)
    statistics = data.training_statistics()
    np.testing.assert_array_equal(statistics["continuum_mask"], mask)
    assert statistics["continuum_degree"] == 4
    other = ApStarFiles(str(tmp_path), continuum_degree=4)
    assert other.parameters() != source.parameters()


def test_broken_files_are_named_and_leave_nothing(tmp_path: Path) -> None:
    flux, error, mask = made_up()
    good = tmp_path / "apStar-0.fits"
    write_ap_star(good, flux, error, mask)
    shifted = tmp_path / "shifted/apStar-1.fits"
    short = tmp_path / "short/apStar-1.fits"
    few = tmp_path / "few/apStar-1.fits"
    cut = tmp_path / "cut/apStar-1.fits"
    for path in (shifted, short, few, cut):
        path.parent.mkdir()
        write_ap_star(path, flux, error, mask)
    with fits.open(shifted, mode="update") as file:
        file[2].header["CRVAL1"] = 4.18
    write_ap_star(short, flux[:4096], error[:4096], mask[:4096])
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(flux)]).writeto(few, overwrite=True)
    cut.write_bytes(cut.read_bytes()[:60000])
    messages = {
        shifted: r"HDU 2 starts at log10\(A\) = 4.18",
        short: r"HDU 1 has the shape \(4096,\), not 8575 pixels; is it an apStar file",
        few: "HDU 2 has nothing",
        cut: "cut/apStar-1.fits: HDU 2 lacks its last 17500 bytes",
    }
    for path, message in messages.items():
        with pytest.raises(ValueError, match=message):
            prepared(ApStarFiles([str(good), str(path)]), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.h5"))
    with pytest.raises(FileNotFoundError, match=r"no file aspcapStar\*.fits in this folder"):
        ASPCAPStarFiles(str(tmp_path)).files()
    with pytest.raises(FileNotFoundError, match=r"data.source.path names no file"):
        ApStarFiles([]).files()
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        ApStarFiles(str(tmp_path / "none")).files()


def test_one_kind_is_not_read_as_the_other(spectra: Path, tmp_path: Path) -> None:
    aspcap = sorted((spectra / "aspcapStar_dr13").glob("*.fits"))[0]
    with pytest.raises(ValueError, match="HDU 3 holds reals, not a mask; is it an aspcapStar file"):
        read_ap_star(aspcap, Continuum(GRID))
    for name in PAIRS[:2]:
        with pytest.raises(ValueError, match="HDU 3 is a mask, not a best fit; read it by ApStar"):
            read_aspcap_star(spectra / f"apStar_dr13/apStar-r6-{name}.fits", GRID)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_cut_short_anywhere_is_refused(spectra: Path, tmp_path: Path, suffix: str) -> None:
    file = sorted((spectra / "aspcapStar_dr13").glob("*.fits"))[0]
    whole = gzip.compress(file.read_bytes()) if suffix else file.read_bytes()
    path = tmp_path / f"aspcapStar-cut.fits{suffix}"
    for size in (0, 1, 100, 2880, *np.linspace(3000, len(whole) - 3000, 20, dtype=int).tolist()):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"aspcapStar-cut.fits") as caught:
            read_aspcap_star(path, GRID)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    row, _ = read_aspcap_star(path, GRID)
    np.testing.assert_array_equal(row["flux"], read_aspcap_star(file, GRID)[0]["flux"])


def test_a_file_given_twice_is_read_once(tmp_path: Path) -> None:
    file = write_ap_star(tmp_path / "apStar-1.fits", *made_up())
    assert ApStarFiles([str(tmp_path), str(file)]).files() == [file]
