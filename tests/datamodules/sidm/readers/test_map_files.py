"""One's own maps: every layout gives the same store; what is wrong is one sentence."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from datamodules import MapFiles, SIDMDataModule
from datamodules.store import RowStore

MAPS = np.random.default_rng(0).uniform(1, 2, (6, 2, 5, 5))
KNOWN = {
    "name": np.array([f"A{k}" for k in range(6)]),
    "simulation": np.array(["a", "a", "a", "b", "b", ""]),
    "cross_section": np.array([0.1, 0.1, 0.1, np.nan, np.nan, np.nan]),
    "halo": np.array([1, 2, 3, 1, 2, 9]),
    "redshift": np.linspace(0, 0.5, 6),
    "log_mass": np.full(6, 14.5),
}


def write_hdf5(path: str, arrays: dict[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            text = np.asarray(values).dtype.kind == "U"
            file[name] = np.asarray(values, h5py.string_dtype()) if text else values


def store(path: str | list[str] = "maps.*", **settings: Any) -> RowStore:
    settings = {"channels": ["total", "xray"], "pixel_scale": 20.0, **settings}
    MapFiles(path, **settings).prepare(Path("store.h5"), 0)
    return RowStore("store.h5", "astrolit.sidm", 1)


def refused(message: str, path: str | list[str] = "maps.*", **settings: Any) -> None:
    Path("store.h5").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=message) as error:
        store(path, **settings)
    assert "\n" not in str(error.value)
    assert not Path("store.h5").exists()


@pytest.mark.parametrize("kind", ["npz", "h5", "table"])
def test_maps_with_all_that_is_known(kind: str) -> None:
    settings: dict[str, Any] = {}
    if kind == "npz":
        np.savez("maps.npz", map=MAPS, **KNOWN)
    elif kind == "h5":
        write_hdf5("maps.h5", {"map": MAPS, **KNOWN})
    else:
        fits.PrimaryHDU(MAPS).writeto("maps.fits")
        table = Table(KNOWN, masked=True)
        table["cross_section"].mask = np.isnan(KNOWN["cross_section"])
        table.write("known.ecsv")
        settings = {"table": "known.ecsv"}
    found = store(**settings)
    columns = found.read()
    for name, values in KNOWN.items():
        expected = values.astype(np.float32) if values.dtype.kind == "f" else values
        np.testing.assert_array_equal(columns[name], expected, err_msg=name)
        assert columns[name].dtype.kind == expected.dtype.kind
    np.testing.assert_array_equal(columns["map"], MAPS.astype(np.float32))
    assert columns["good"].all()
    assert columns["projection"].tolist() == [0] * 6
    assert found.attributes["channels"] == ["total", "xray"]
    assert found.attributes["pixel_scale"] == 20.0
    ordered = "rows of the table are taken in the order of the files: first maps_0, last maps_5"
    assert found.attributes["defaults"] == ([ordered] if kind == "table" else [])
    assert found.attributes["problems"] == []


def test_axes_are_told_apart_by_the_channels() -> None:
    def shapes(array: np.ndarray, **settings: Any) -> tuple[int, ...]:
        fits.PrimaryHDU(array).writeto("maps.fits", overwrite=True)
        first = store("maps.fits", **settings).read(["map"])["map"]
        np.savez("maps.npz", map=array)
        np.testing.assert_array_equal(first, store("maps.npz", **settings).read(["map"])["map"])
        assert set(first.ravel()) == set(array.astype(np.float32).ravel())
        return first.shape

    one = {"channels": ["total"]}
    assert shapes(MAPS) == (6, 2, 5, 5)
    assert shapes(MAPS[0]) == (1, 2, 5, 5)
    assert shapes(MAPS[:, 0], **one) == (6, 1, 5, 5)
    assert shapes(MAPS[0, 0], **one) == (1, 1, 5, 5)
    many = np.random.default_rng(1).uniform(1, 2, (200, 3, 4))  # more than one block
    assert shapes(many, **one) == (200, 1, 3, 4)
    np.testing.assert_array_equal(
        store("maps.fits", **one).read(["map"])["map"][:, 0], many.astype("f4")
    )


def test_images_and_files_follow_each_other() -> None:
    units = [fits.PrimaryHDU(), *(fits.ImageHDU(MAPS[k]) for k in range(3))]
    fits.HDUList(units).writeto("a.fits")
    np.savez("b.npz", map=MAPS[3:], redshift=0.25)
    found = store(["a.fits", "b.npz"]).read()
    np.testing.assert_array_equal(found["map"], MAPS.astype(np.float32))
    assert found["name"].tolist() == ["a_0", "a_1", "a_2", "b_0", "b_1", "b_2"]
    assert found["redshift"][3:].tolist() == [0.25] * 3
    assert np.isnan(found["redshift"][:3]).all()
    assert store("a.fits", hdus=[2]).read()["name"].tolist() == ["a"]
    np.testing.assert_array_equal(store("a.fits", hdus=[2]).read()["map"][0], MAPS[1].astype("f4"))
    refused(r"a\.fits: its images are \[1, 2, 3\], .*hdus is \[0\]", "a.fits", hdus=[0])


def test_columns_go_by_other_names() -> None:
    np.savez("maps.npz", kappa=MAPS, Redshift=np.full(6, 0.2), richness=np.arange(6))
    Table({"id": KNOWN["name"], "sigma": np.full(6, 1.0)}).write("t.csv")
    names = {"map": "kappa", "name": "id", "cross_section": "sigma"}
    found = store(table="t.csv", columns=names).read()
    assert found["name"].tolist() == KNOWN["name"].tolist()
    assert found["cross_section"].tolist() == [1.0] * 6
    assert found["redshift"].tolist() == [np.float32(0.2)] * 6
    assert found["richness"].tolist() == list(range(6))
    refused(
        r"names \['z'\], but file and table have \['Redshift', 'kappa'", columns={"redshift": "z"}
    )
    refused(r"maps\.npz: no array 'map', but \['Redshift', 'kappa', 'richness'\]; name it in")


def test_a_cross_section_is_converted_from_its_unit() -> None:
    np.savez("maps.npz", map=MAPS[:1])
    for unit, expected in (("m2 / kg", 10.0), ("cm2 / g", 1.0), (None, 1.0)):
        table = Table({"cross_section": [1.0]}, units={"cross_section": unit})
        table.write("t.ecsv", overwrite=True)
        assert store(table="t.ecsv").read()["cross_section"][0] == pytest.approx(expected)
    Table({"cross_section": [1.0]}, units=["kpc"]).write("t.ecsv", overwrite=True)
    refused(r"t\.ecsv: column 'cross_section' is in kpc, not in cm2 / g", table="t.ecsv")


def test_a_map_without_a_halo_is_its_own_and_that_is_said() -> None:
    np.savez("a.npz", map=MAPS[:3], halo=[0, -1, -1])
    np.savez("b.npz", map=MAPS[3:], halo=[0.0, np.nan, np.nan])
    found = store(["a.npz", "b.npz"])
    halo = found.read()["halo"].tolist()
    assert halo[0] == halo[3] == 0
    assert len(set(halo)) == 5
    assert min(halo) == 0  # a negative halo is taken for none where reference maps are kept
    (sentence,) = found.attributes["defaults"]
    assert "with a negative one" in sentence
    assert "both sides of the split" in sentence


def test_halos_have_names_or_long_ids() -> None:
    """A name is the same halo in every file; 64-bit ids beside masked ones stay exact."""
    large = 2**60 + 1
    np.savez("a.npz", map=MAPS[:3], halo=["A2744", "7", ""])
    np.savez("b.npz", map=MAPS[3:], halo=["7.0", "A2744", "A370"])
    halo = store(["a.npz", "b.npz"]).read()["halo"]
    assert (halo[0], halo[1]) == (halo[4], halo[3])
    assert halo[1] == 7
    assert len({*halo.tolist()}) == 4
    assert min(halo) >= 0
    np.savez("a.npz", map=MAPS[:3])
    table = Table({"halo": [large, large + 1, 0]}, masked=True)
    table["halo"].mask = [False, False, True]
    table.write("t.ecsv")
    assert store("a.npz", table="t.ecsv").read()["halo"].tolist()[:2] == [large, large + 1]


def test_a_simulation_that_is_nan_is_none() -> None:
    np.savez("maps.npz", map=MAPS, simulation=np.full(6, np.nan))
    assert set(store().read()["simulation"]) == {""}
    Table({"simulation": np.array([None, "a", np.nan, "a", "b", ""], object)}).write("t.csv")
    assert store(table="t.csv").read()["simulation"].tolist() == ["", "a", "", "a", "b", ""]


def test_bad_pixels_are_nan_and_empty_maps_are_left_out() -> None:
    maps = MAPS.copy()
    maps[0, 0, 1, 2], maps[1, 1, 3, 4] = np.nan, np.inf
    maps[2], maps[4] = -1.0, np.nan
    np.savez("maps.npz", map=maps, **KNOWN)
    found = store()
    columns = found.read()
    assert columns["name"].tolist() == ["A0", "A1", "A3", "A5"]
    bad = np.argwhere(~columns["good"])
    assert bad.tolist() == [[0, 1, 2], [1, 3, 4]]
    assert np.isnan(columns["map"][0, :, 1, 2]).all()
    assert np.isfinite(columns["map"]).sum() == 4 * 2 * 25 - 4
    (sentence,) = found.attributes["problems"]
    assert "2 of 6 maps without a good positive pixel are left out (A2, A4)" in sentence
    np.savez("maps.npz", map=-MAPS)
    refused(r"maps\.npz: no map has a good positive pixel")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"map": MAPS[:, :1]}, r"maps\.npz: map has the shape \(6, 1, 5, 5\); for the channels"),
        ({"map": MAPS[None]}, r"shape \(1, 6, 2, 5, 5\)"),
        ({"map": MAPS[:0]}, r"shape \(0, 2, 5, 5\)"),
        ({"map": np.zeros(3)}, r"shape \(3,\)"),
        ({"map": MAPS * 1j}, r"maps\.npz: maps hold complex128, not real numbers"),
        ({"map": MAPS * 1e40}, r"values up to 2e\+40 are more than float32 holds"),
        ({"map": MAPS, "redshift": np.zeros(5)}, r"redshift has the shape \(5,\), not \(6,\)"),
        ({"map": MAPS, "projection": ["x"] * 6}, r"projection holds 'x', not a whole number"),
        ({"map": MAPS, "halo": np.full(6, 0.5)}, r"halo holds '0\.5', not a whole number"),
        (
            {"map": MAPS, "good": MAPS > 0},
            r"good pixels are bool of the shape \(6, 2, 5, 5\); give",
        ),
        ({"map": MAPS, "good": MAPS[:, 0]}, r"good pixels are float64"),
        ({"map": MAPS, "name": ["a"] * 6}, r"maps\.npz: two maps are named 'a'"),
        ({"map": np.array([{}], object)}, r"maps\.npz: not an npz of numbers and text"),
    ],
)
def test_wrong_arrays_are_refused(arrays: dict[str, Any], message: str) -> None:
    np.savez("maps.npz", **arrays)
    refused(message)


def test_broken_files_are_refused() -> None:
    fits.PrimaryHDU(np.repeat(MAPS, 20, axis=0)).writeto("maps.fits")
    np.savez("maps.npz", map=MAPS)
    write_hdf5("maps.h5", {"map": MAPS})
    for name in ("maps.fits", "maps.npz", "maps.h5"):
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: len(content) // 2])
        refused(f"{name}: .*(damaged|lacks its last|not a whole|not an npz)", name)
        Path(name).write_bytes(b"")
        refused(name, name)
    Path("maps.dat").touch()
    refused(r"maps\.dat: data\.source\.path must end in one of", "maps.dat")
    with pytest.raises(FileNotFoundError, match=r"none\*\.fits: no file .* set data\.source\.path"):
        store("none*.fits")
    np.savez("other.npz", map=MAPS[:, :, :4, :4])
    np.savez("maps.npz", map=MAPS)
    refused(r"other\.npz: maps have the shape \(2, 4, 4\)", ["maps.npz", "other.npz"])
    np.savez("other.npz", map=MAPS, richness=np.arange(6))
    refused(r"other\.npz: columns \['richness'\] are not in all", ["maps.npz", "other.npz"])


def test_a_table_must_fit_the_maps() -> None:
    for name in "abc":
        fits.PrimaryHDU(MAPS[0]).writeto(f"{name}.fits")
    for rows, found in ((2, r"c\.fits: at least 3 maps"), (4, "3 maps")):
        Table({"redshift": np.zeros(rows)}).write("t.csv", overwrite=True)
        refused(f"{found}.*, but {rows} rows in the table; give one row", "*.fits", table="t.csv")
    for names, message in (
        (["a", "x", "b"], r"c\.fits: the table has no row named \['c'\], but \['a', 'x', 'b'\]"),
        (["a", "b", "c", "d"], r"rows of the table name no map: \['d'\]"),
        (["a", "b", "b.fits"], r"two rows of the table are named 'b\.fits'"),
    ):
        Table({"name": names}).write("t.csv", overwrite=True)
        refused(message, "*.fits", table="t.csv")
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        MapFiles("*.fits", 20.0, table="none.csv").parameters()


def test_rows_of_a_table_find_their_maps_by_name() -> None:
    """In the order of the files' names, map_10 comes before map_2."""
    Path("many").mkdir()
    for k in range(1, 13):
        fits.PrimaryHDU(k * MAPS[0]).writeto(f"many/map_{k}.fits")
    numbers = np.arange(1, 13)
    for ending in ("", ".fits"):
        table = Table({"name": [f"map_{k}{ending}" for k in numbers], "redshift": numbers / 100})
        table.write("t.csv", overwrite=True)
        found = store("many", table="t.csv").read()
        np.testing.assert_allclose(
            found["map"][:, 0, 0, 0] / MAPS[0, 0, 0, 0], found["redshift"] * 100
        )
        assert found["name"].tolist()[:3] == ["map_1", "map_10", "map_11"]
    Table({"redshift": numbers / 100}).write("t.csv", overwrite=True)
    (_, sentence) = store("many", table="t.csv").attributes["defaults"]
    assert sentence.endswith("in the order of the files: first map_1, last map_9")
    np.savez("maps.npz", map=MAPS[:4], name=list("abcd"))
    Table({"name": list("dcba"), "halo": [4, 3, 2, 1]}).write("t.csv", overwrite=True)
    assert store("maps.npz", table="t.csv").read()["halo"].tolist() == [1, 2, 3, 4]
    np.savez("cube.npz", map=MAPS[4:])
    refused(r"cube\.npz: the table .* array 'name'", ["maps.npz", "cube.npz"], table="t.csv")


def test_good_pixels_of_a_file_are_used() -> None:
    good = np.random.default_rng(2).random((6, 5, 5)) > 0.3
    values = np.where(good[:, None], MAPS, 1e30)
    arrays = {"map": values, "good": good, "psf": np.ones((3, 3))}
    np.savez("maps.npz", **arrays)
    write_hdf5("maps.h5", arrays)
    for name in ("maps.npz", "maps.h5"):
        found = store(name)
        columns = found.read()
        np.testing.assert_array_equal(columns["good"], good)
        np.testing.assert_array_equal(np.isfinite(columns["map"][:, 0]), good)
        assert f"{name}: arrays ['psf'] are no number" in found.attributes["defaults"][1]
    np.savez("maps.npz", map=values, good=good[0].astype(int))
    np.testing.assert_array_equal(store("maps.npz").read()["good"], np.repeat(good[:1], 6, axis=0))


def test_no_map_is_read_twice_or_left_out_silently() -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        fits.PrimaryHDU(MAPS[0]).writeto(f"{folder}/map.fits")
    assert store(["a", "b"]).read()["name"].tolist() == ["a/map", "b/map"]
    refused(r"map\.fits: data\.source\.path gives this file twice", ["a", "a/map.fits"])
    Path("a/other.fits.gz").touch()
    refused(r"other\.fits\.gz: compressed; decompress it", "a")


def test_images_of_errors_are_no_maps() -> None:
    units = [fits.PrimaryHDU(MAPS[0]), fits.ImageHDU(MAPS[1], name="ERR")]
    fits.HDUList([*units, fits.ImageHDU(MAPS[2], name="weight")]).writeto("maps.fits")
    found = store()
    np.testing.assert_array_equal(found.read()["map"], MAPS[:1].astype(np.float32))
    (_, sentence) = found.attributes["defaults"]
    assert "HDUs 0 (PRIMARY) are maps, 1 (ERR), 2 (WEIGHT) are not" in sentence
    assert store(hdus=[1]).num_rows == 1


def test_a_row_store_keeps_its_pixels() -> None:
    np.savez("maps.npz", map=MAPS, **KNOWN)
    settings = {"pixel_scale": 50.0, "channels": ["total", "xray"]}
    MapFiles("maps.npz", **settings).prepare(Path("own.h5"), 0)
    refused(
        r"own\.h5: its pixel_scale is 50\.0, not 20\.0; set data\.source\.pixel_scale", "own.h5"
    )
    refused(r"own\.h5: its channels is", "own.h5", pixel_scale=50.0, channels=["xray", "total"])
    again = store("own.h5", pixel_scale=50.0).read()
    first = RowStore("own.h5").read()
    assert again.keys() == first.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pixel_scale": 0.0}, r"pixel_scale=0\.0 kpc must be positive"),
        ({"channels": []}, r"channels=\[\] must be some of \['total', 'xray', 'stars'\]"),
        ({"channels": ["total", "total"]}, "each once"),
        ({"channels": ["mass"]}, r"channels=\['mass'\]"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MapFiles("x.npz", **{"pixel_scale": 20.0, **settings})


def test_own_maps_reach_the_batch() -> None:
    np.savez("maps.npz", map=MAPS, **KNOWN)
    source = MapFiles("maps.npz", 20.0, ["total", "xray"])
    data = SIDMDataModule(source, known=["a"], hidden=["*"], test_fraction=0.0, val_fraction=0.0)
    data.prepare_data()
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert sorted(data.names(batch["index"])) == ["A0", "A1", "A2", "A3", "A4"]
    (batch,) = data.predict_dataloader()
    assert batch["simulation"].tolist() == [0, 0, 0, 1, 1, -1]
    assert batch["label"].isnan().tolist() == [False] * 3 + [True] * 3
    assert data.provenance()["problems"] == []
