"""Catalogue files of every format: exact ids, masks, units, labels, real catalogues."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from astropy.table import MaskedColumn, Table, vstack

from datamodules import CatalogFile
from datamodules.store import RowStore
from lightning_modules.physics.covariance import CORRELATIONS
from lightning_modules.physics.frames import tangent_plane

SUFFIXES = [".fits", ".ecsv", ".csv", ".vot", ".parquet", ".txt"]
Write = Callable[[Table, Path], Path]

VB21 = {
    "parallax": "plx",
    "parallax_error": "plxe",
    "pmra_error": "pmrae",
    "pmdec_error": "pmdece",
    "pmra_pmdec_corr": "pmcorr",
    "phot_g_mean_mag": "g_mag",
    "source_density": "Sigma",
}
VB21_ROWS = {
    "E_3": 738,
    "NGC_288": 12191,
    "NGC_362": 19537,
    "NGC_5024_M_53": 11051,
    "NGC_5053": 3245,
    "NGC_5904_M_5": 28523,
    "NGC_6304": 15428,
    "NGC_6366": 13858,
    "NGC_6712": 12097,
    "Pal_5": 824,
}


@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_stars(
    stars: Table, write: Write, tmp_path: Path, suffix: str, zipped: str
) -> None:
    read = CatalogFile(str(write(stars, tmp_path / f"stars{suffix}{zipped}"))).table()
    np.testing.assert_array_equal(read.columns["source_id"], np.asarray(stars["source_id"]))
    assert read.columns["source_id"].dtype == np.int64
    assert read.columns["ra"].dtype == np.float64
    np.testing.assert_array_equal(read.columns["ra"], stars["ra"])
    for name in ("parallax", "pmra_error", "bp_rp"):
        assert read.columns[name].dtype == np.float32
        np.testing.assert_array_equal(read.columns[name], np.asarray(stars[name], np.float32))
    np.testing.assert_allclose(read.columns["ra_error"], 0.8 * stars["parallax_error"], rtol=1e-6)
    assert not read.columns["pmra_pmdec_corr"].any()
    assert (read.columns["label"] == -1).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_masked_values_leave_the_other_ids_exact(
    stars: Table, write: Write, tmp_path: Path, suffix: str
) -> None:
    gap = np.arange(len(stars)) == 3
    table = Table(stars, masked=True, copy=True)
    for name in ("source_id", "parallax", "bp_rp"):
        table[name] = MaskedColumn(np.asarray(stars[name]), mask=gap)
    path = str(write(table, tmp_path / f"stars{suffix}"))
    with pytest.raises(ValueError, match=r"parallax in 1 of 12 rows.*missing: drop"):
        CatalogFile(path).table()
    read = CatalogFile(path, missing="drop").table()
    np.testing.assert_array_equal(read.columns["source_id"], np.asarray(stars["source_id"])[~gap])
    assert list(read.attributes["dropped"].values()) == [1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_absent_photometry_stays_nan(
    stars: Table, write: Write, tmp_path: Path, suffix: str
) -> None:
    gap = np.arange(len(stars)) % 2 == 0
    table = Table(stars, masked=True, copy=True)
    table["bp_rp"] = MaskedColumn(np.asarray(stars["bp_rp"]), mask=gap)
    read = CatalogFile(str(write(table, tmp_path / f"stars{suffix}"))).table()
    np.testing.assert_array_equal(np.isnan(read.columns["bp_rp"]), gap)


def test_names_match_in_any_case_and_by_map(stars: Table, write: Write, tmp_path: Path) -> None:
    stars.rename_column("source_id", "SOURCE_ID")
    stars.rename_column("parallax", "Plx")
    stars.rename_column("dec", "DE_ICRS")
    path = str(write(stars, tmp_path / "stars.csv"))
    read = CatalogFile(path, {"parallax": "plx", "dec": "DE_ICRS"}).table()
    np.testing.assert_allclose(read.columns["parallax"], stars["Plx"], rtol=1e-6)
    assert read.columns["source_id"][0] == stars["SOURCE_ID"][0]


def test_units_of_the_file_are_converted(stars: Table, write: Write, tmp_path: Path) -> None:
    expected = np.array(stars["parallax"])
    stars["parallax"] = stars["parallax"].quantity.to("arcsec")
    stars["ra"] = stars["ra"].quantity.to("rad")
    for suffix in (".fits", ".ecsv", ".vot"):
        read = CatalogFile(str(write(stars, tmp_path / f"stars{suffix}"))).table()
        np.testing.assert_allclose(read.columns["parallax"], expected, rtol=1e-6)
        assert read.columns["ra"].max() > 9.9
    path = str(write(stars, tmp_path / "stars.csv"))
    read = CatalogFile(path, units={"parallax": "arcsec", "ra": "rad"}).table()
    np.testing.assert_allclose(read.columns["parallax"], expected, rtol=1e-6)


@pytest.mark.parametrize("unit", ["mas.yr**-1", "mas/yr", "mas yr-1", "mas.yr-1"])
def test_spellings_of_a_unit(stars: Table, write: Write, tmp_path: Path, unit: str) -> None:
    path = str(write(stars, tmp_path / "stars.csv"))
    read = CatalogFile(path, units={"pmra": unit}).table()
    np.testing.assert_allclose(read.columns["pmra"], stars["pmra"], rtol=1e-6)


def test_units_in_parquet_metadata(stars: Table, tmp_path: Path) -> None:
    fields = [
        pa.field(
            n, pa.array(np.asarray(c)).type, metadata={"unit": "arcsec"} if n == "parallax" else {}
        )
        for n, c in stars.columns.items()
    ]
    arrays = [pa.array(np.asarray(column)) for column in stars.columns.values()]
    path = tmp_path / "stars.parquet"
    pyarrow.parquet.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), path)
    read = CatalogFile(str(path)).table()
    np.testing.assert_allclose(read.columns["parallax"], 1000 * stars["parallax"], rtol=1e-6)


def test_gaia_bulk_files_are_ecsv_named_csv(stars: Table, write: Write, tmp_path: Path) -> None:
    text = write(stars, tmp_path / "a.ecsv").read_text()
    (tmp_path / "GaiaSource.csv").write_text(text.replace("# %ECSV 0.9", "# %ECSV 1.0"))
    read = CatalogFile(str(tmp_path / "GaiaSource.csv")).table()
    np.testing.assert_array_equal(read.columns["source_id"], np.asarray(stars["source_id"]))


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiters_and_byte_order_marks(
    stars: Table, write: Write, tmp_path: Path, delimiter: str
) -> None:
    text = write(stars, tmp_path / "a.csv").read_text().replace(",", delimiter)
    (tmp_path / "s.tsv").write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    read = CatalogFile(str(tmp_path / "s.tsv")).table()
    np.testing.assert_array_equal(read.columns["source_id"], np.asarray(stars["source_id"]))


def test_unsigned_and_big_endian_columns(stars: Table, write: Write, tmp_path: Path) -> None:
    expected = np.array(stars["source_id"])
    stars["source_id"] = stars["source_id"].astype(np.uint64)
    stars["parallax"] = np.asarray(stars["parallax"]).astype(">f8")
    read = CatalogFile(str(write(stars, tmp_path / "s.fits"))).table()
    np.testing.assert_array_equal(read.columns["source_id"], expected)
    assert read.columns["parallax"].dtype == np.dtype("=f4")


def test_integer_labels(stars: Table, write: Write, tmp_path: Path) -> None:
    stars["cluster"] = np.array([0, 1, 2, -1] * 3)
    read = CatalogFile(str(write(stars, tmp_path / "s.fits")), label_column="cluster").table()
    np.testing.assert_array_equal(read.columns["label"], stars["cluster"])


def test_probabilities_become_labels(stars: Table, write: Write, tmp_path: Path) -> None:
    chance = np.linspace(0.0, 1.0, len(stars))
    stars["p"] = MaskedColumn(chance, mask=np.arange(len(stars)) == 0)
    path = str(write(stars, tmp_path / "s.csv"))
    read = CatalogFile(path, label_column="p", label_threshold=0.8).table()
    expected = (chance > 0.8).astype(int)
    expected[0] = -1
    np.testing.assert_array_equal(read.columns["label"], expected)
    np.testing.assert_allclose(read.columns["membership"][1:], chance[1:], rtol=1e-6)


def test_a_star_in_two_files_is_one_row(stars: Table, write: Write, tmp_path: Path) -> None:
    first, second = stars[:8].copy(), stars[4:].copy()
    first["p"] = np.array([0.9, 0.9, 0.1, 0.1, 0.9, 0.6, 0.1, 0.2])
    second["p"] = np.array([0.7, 0.8, 0.9, 0.3, 0.9, 0.9, 0.1, 0.1])
    paths = [str(write(t, tmp_path / f"{i}.csv")) for i, t in enumerate((first, second))]
    read = CatalogFile(paths, label_column="p").table()
    np.testing.assert_array_equal(read.columns["source_id"], np.asarray(stars["source_id"]))
    np.testing.assert_array_equal(read.columns["label"], [1, 1, 0, 0, 1, 2, 2, 0, 2, 2, 0, 0])
    assert read.attributes["repeated_stars"] == 4
    assert read.attributes["label_conflicts"] == 2


def test_the_order_of_files_only_permutes(stars: Table, write: Write, tmp_path: Path) -> None:
    stars["cluster"] = np.arange(len(stars)) % 3
    parts = [str(write(stars[a:b], tmp_path / f"{a}.fits")) for a, b in ((0, 5), (5, 12))]
    one = CatalogFile(parts, label_column="cluster").table().columns
    two = CatalogFile(parts[::-1], label_column="cluster").table().columns
    order = np.argsort(two["source_id"])
    for name in one:
        np.testing.assert_array_equal(one[name], two[name][order])


def test_extra_columns_and_density_are_kept(stars: Table, write: Write, tmp_path: Path) -> None:
    stars["qflag"] = np.arange(len(stars))
    path = str(write(stars, tmp_path / "s.csv"))
    read = CatalogFile(path, extra_columns=["qflag"]).table()
    np.testing.assert_array_equal(read.columns["qflag"], stars["qflag"])


def test_defaults_are_collected(stars: Table, write: Write, tmp_path: Path) -> None:
    path = str(write(stars, tmp_path / "s.csv"))
    said = CatalogFile(path).table().attributes["defaults"]
    assert "ra_error: 0.8 x parallax_error" in said
    assert any(line.startswith("0 taken for ra_dec_corr, ") for line in said)
    assert any(line.startswith("absent: ruwe, ") for line in said)
    CatalogFile(path).prepare(tmp_path / "store.h5", seed=0)
    store = RowStore(tmp_path / "store.h5", "astrolit.clustering")
    assert store.attributes["defaults"] == said
    assert not {"ruwe", "membership"} & set(store.names)


def test_right_ascension_is_wrapped(stars: Table, write: Write, tmp_path: Path) -> None:
    stars["ra"] = stars["ra"] - 10.5
    read = CatalogFile(str(write(stars, tmp_path / "s.csv"))).table()
    assert ((read.columns["ra"] >= 0) & (read.columns["ra"] < 360)).all()
    np.testing.assert_allclose(read.columns["ra"], np.mod(stars["ra"], 360))


def test_parameters_follow_the_file(stars: Table, write: Write, tmp_path: Path) -> None:
    path = write(stars, tmp_path / "s.csv")
    source = CatalogFile(str(path))
    before = source.parameters()
    assert before == source.parameters()
    write(vstack([stars, stars]), path)
    assert before != source.parameters()


@pytest.mark.parametrize("name", sorted(VB21_ROWS))
def test_vb21_catalogues(shared_data: Path, name: str) -> None:
    path = shared_data / "clustering" / "vb21" / f"{name}.txt.gz"
    source = CatalogFile(
        str(path), VB21, label_column="memberprob", extra_columns=["qflag", "x", "y"]
    )
    columns = source.table().columns
    assert len(columns["source_id"]) == VB21_ROWS[name]
    assert len(np.unique(columns["source_id"])) == VB21_ROWS[name]
    assert set(np.unique(columns["label"])) == {0, 1}
    # x, y of the file: orthographic about a centre known to some arcseconds
    near = np.argmin(np.hypot(columns["x"], columns["y"]))
    shift = np.array([columns["x"][near], columns["y"][near]])
    dec0 = columns["dec"][near] - shift[1]
    centre = np.array([columns["ra"][near] - shift[0] / np.cos(np.radians(dec0)), dec0])
    x, y = tangent_plane(columns["ra"], columns["dec"], centre)
    cosine = 1.0 / np.sqrt(1.0 + np.radians(x) ** 2 + np.radians(y) ** 2)
    np.testing.assert_allclose(x * cosine, columns["x"], atol=2.5e-4)
    np.testing.assert_allclose(y * cosine, columns["y"], atol=2.5e-4)


def test_a_real_pair_of_clusters(shared_data: Path) -> None:
    folder = shared_data / "clustering" / "vb21"
    paths = [str(folder / f"{name}.txt.gz") for name in ("NGC_5024_M_53", "NGC_5053")]
    read = CatalogFile(paths, VB21, label_column="memberprob").table()
    assert len(read) == 14296
    np.testing.assert_array_equal(np.bincount(read.columns["label"]), [1720, 9826, 2750])


def test_real_gaia_parquet(shared_data: Path) -> None:
    path = str(shared_data / "clustering" / "gaiadr3_ra45_dec0_r0.5_allcols.parquet")
    with pytest.raises(ValueError, match=r"parallax.* in 375 of 2390 rows"):
        CatalogFile(path).table()
    read = CatalogFile(path, missing="drop").table()
    assert len(read) == 2390 - 375
    assert list(read.attributes["dropped"].values()) == [375]
    assert all(np.abs(read.columns[name]).max() > 0.1 for name in CORRELATIONS)
    assert read.attributes["defaults"] == ["absent: source_density"]


def test_real_pleiades_csv_names_what_it_lacks(shared_data: Path) -> None:
    path = str(shared_data / "clustering" / "hr23_Melotte_22.csv")
    names = {"source_id": "GaiaDR3", "ra": "RA_ICRS", "dec": "DE_ICRS", "parallax": "Plx"}
    with pytest.raises(ValueError, match=re.escape("no column 'pmra_error'")):
        CatalogFile(path, names | {"pmdec": "pmDE"}).table()
