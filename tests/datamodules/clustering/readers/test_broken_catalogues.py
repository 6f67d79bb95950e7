"""Every kind of broken catalogue is refused in one sentence, and leaves no file behind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from astropy.table import MaskedColumn, Table, vstack

from datamodules import CatalogFile

Write = Callable[[Table, Path], Path]
SUFFIXES = [".fits", ".ecsv", ".csv", ".vot", ".parquet", ".txt"]


def check_refused(source: CatalogFile, tmp_path: Path, *words: str) -> None:
    """Check that `prepare` fails with a one-line message of these words and writes nothing."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        source.prepare(tmp_path / "store.h5", seed=0)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    assert sorted(tmp_path.iterdir()) == before


def test_missing_file(tmp_path: Path) -> None:
    source = CatalogFile(str(tmp_path / "nothing.fits"))
    check_refused(source, tmp_path, "nothing.fits", "no such file")
    with pytest.raises(FileNotFoundError, match=r"nothing\.fits: no such file"):
        source.parameters()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_required_column(stars: Table, write: Write, tmp_path: Path, suffix: str) -> None:
    stars.rename_column("parallax", "plx")
    path = write(stars, tmp_path / f"s{suffix}")
    check_refused(CatalogFile(str(path)), tmp_path, str(path), "parallax", "'plx'", "column_map")


def test_mapped_column_that_is_not_there(stars: Table, write: Write, tmp_path: Path) -> None:
    path = str(write(stars, tmp_path / "s.csv"))
    check_refused(CatalogFile(path, {"ruwe": "RUWE2"}), tmp_path, "'RUWE2'", "ruwe")
    check_refused(CatalogFile(path, label_column="p"), tmp_path, "'p'", "label_column")
    check_refused(CatalogFile(path, extra_columns=["q"]), tmp_path, "'q'", "extra_columns")


def test_wrong_names_in_the_settings() -> None:
    with pytest.raises(ValueError, match=r"column_map: \['paralax'\]"):
        CatalogFile("s.csv", {"paralax": "plx"})
    with pytest.raises(ValueError, match=r"units: \['plx'\]"):
        CatalogFile("s.csv", units={"plx": "mas"})
    with pytest.raises(ValueError, match="path is empty"):
        CatalogFile([])
    with pytest.raises(ValueError, match="names a file twice"):
        CatalogFile(["s.csv", "s.csv"])
    with pytest.raises(ValueError, match="label_threshold"):
        CatalogFile("s.csv", label_threshold=1.5)
    with pytest.raises(ValueError, match="are kept anyway"):
        CatalogFile("s.csv", extra_columns=["ruwe"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_table(stars: Table, write: Write, tmp_path: Path, suffix: str) -> None:
    path = write(stars[:0], tmp_path / f"s{suffix}")
    check_refused(CatalogFile(str(path)), tmp_path, str(path), "empty")


def test_empty_file(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = tmp_path / f"s{suffix}"
        path.write_bytes(b"")
        check_refused(CatalogFile(str(path)), tmp_path, str(path))


@pytest.mark.parametrize("suffix", [*(f"{s}.gz" for s in SUFFIXES)])
def test_truncated_gzip(stars: Table, write: Write, tmp_path: Path, suffix: str) -> None:
    path = write(stars, tmp_path / f"s{suffix}")
    path.write_bytes(path.read_bytes()[:-30])
    check_refused(CatalogFile(str(path)), tmp_path, str(path), "gzip", "truncated")


@pytest.mark.parametrize("suffix", [".fits", ".vot", ".parquet", ".txt", ".csv", ".ecsv"])
def test_truncated_file(stars: Table, write: Write, tmp_path: Path, suffix: str) -> None:
    path = write(stars, tmp_path / f"s{suffix}")
    content = path.read_bytes()
    cut = {".fits": len(content) - 2880, ".txt": len(content) - 90, ".csv": len(content) - 90}
    path.write_bytes(content[: cut.get(suffix, len(content) * 2 // 3)])
    check_refused(CatalogFile(str(path)), tmp_path, str(path))


def test_a_file_of_another_format(stars: Table, write: Write, tmp_path: Path) -> None:
    write(stars, tmp_path / "s.csv").rename(tmp_path / "s.fits")
    check_refused(
        CatalogFile(str(tmp_path / "s.fits")), tmp_path, "s.fits", "cannot be read as fits"
    )
    (tmp_path / "s.fits").rename(tmp_path / "s.catalogue")
    check_refused(CatalogFile(str(tmp_path / "s.catalogue")), tmp_path, "unknown suffix", "format")
    assert len(CatalogFile(str(tmp_path / "s.catalogue"), format="csv").table()) == 12


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_duplicated_ids(stars: Table, write: Write, tmp_path: Path, suffix: str) -> None:
    path = write(vstack([stars, stars[2:4]]), tmp_path / f"s{suffix}")
    check_refused(
        CatalogFile(str(path)), tmp_path, str(path), "repeats 2 ids", str(stars["source_id"][2])
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_stored_as_floats(stars: Table, write: Write, tmp_path: Path, suffix: str) -> None:
    stars["source_id"] = stars["source_id"].astype(np.float64)
    path = write(stars, tmp_path / f"s{suffix}")
    check_refused(CatalogFile(str(path)), tmp_path, str(path), "source_id", "64-bit")


def test_ids_rounded_by_a_float_before(stars: Table, write: Write, tmp_path: Path) -> None:
    table = vstack([stars] * 5, metadata_conflicts="silent")
    ids = 4_000_000_000_000_000_000 + 128 * np.arange(1, 61, dtype=np.int64) * 977
    table["source_id"] = ids
    path = str(write(table, tmp_path / "s.csv"))
    assert len(CatalogFile(path).table()) == 60
    table["source_id"] = ids.astype(np.float64).astype(np.int64)
    path = str(write(table, tmp_path / "s.csv"))
    check_refused(CatalogFile(path), tmp_path, "went through a float")


def test_text_ids(stars: Table, write: Write, tmp_path: Path) -> None:
    stars["source_id"] = [f"Gaia DR3 {i}" for i in stars["source_id"]]
    path = str(write(stars, tmp_path / "s.fits"))
    check_refused(CatalogFile(path), tmp_path, "source_id", "no 64-bit integer")


@pytest.mark.parametrize("suffix", [".fits", ".csv", ".txt"])
def test_infinite_values(stars: Table, write: Write, tmp_path: Path, suffix: str) -> None:
    stars["pmra"][3] = np.inf
    path = write(stars, tmp_path / f"s{suffix}")
    check_refused(CatalogFile(str(path), missing="drop"), tmp_path, str(path), "'pmra'", "1 of 12")


def test_nan_in_a_required_column(stars: Table, write: Write, tmp_path: Path) -> None:
    stars["pmra"][3:5] = np.nan
    path = str(write(stars, tmp_path / "s.fits"))
    check_refused(CatalogFile(path), tmp_path, path, "pmra in 2 of 12 rows", "missing: drop")
    assert len(CatalogFile(path, missing="drop").table()) == 10
    stars["pmra"] = np.nan
    path = str(write(stars, tmp_path / "s.fits"))
    check_refused(CatalogFile(path, missing="drop"), tmp_path, path, "every row", "pmra")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_words_in_a_numeric_column(stars: Table, write: Write, tmp_path: Path, suffix: str) -> None:
    words = stars["pmdec"].astype(str)
    words[4] = "12h30"
    stars["pmdec"] = words
    path = write(stars, tmp_path / f"s{suffix}")
    check_refused(CatalogFile(str(path)), tmp_path, str(path), "'pmdec'", "not numeric", "12h30")


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("parallax_error", -0.1, "zero or negative"),
        ("pmra_error", 0.0, "zero or negative"),
        ("dec", 91.0, "outside -90..90"),
        ("ra", 1e4, "outside -360..720"),
    ],
)
def test_impossible_values(
    stars: Table, write: Write, tmp_path: Path, name: str, value: float, word: str
) -> None:
    stars[name][7] = value
    path = write(stars, tmp_path / "s.fits")
    check_refused(CatalogFile(str(path)), tmp_path, str(path), f"'{name}'", word, "1 of 12")


def test_impossible_correlations(stars: Table, write: Write, tmp_path: Path) -> None:
    stars["pmra_pmdec_corr"] = np.full(12, 1.2)
    path = str(write(stars, tmp_path / "s.fits"))
    check_refused(CatalogFile(path), tmp_path, "'pmra_pmdec_corr'", "outside -1..1")
    stars["pmra_pmdec_corr"] = 0.9
    stars["parallax_pmra_corr"] = 0.9
    stars["parallax_pmdec_corr"] = np.where(np.arange(12) < 2, -0.9, 0.9)
    path = str(write(stars, tmp_path / "s.fits"))
    check_refused(CatalogFile(path), tmp_path, "positive definite in 2 of 12 rows", "missing: drop")
    read = CatalogFile(path, missing="drop").table()
    assert len(read) == 10
    assert list(read.attributes["dropped"].values()) == [2]


def test_wrong_units(stars: Table, write: Write, tmp_path: Path) -> None:
    stars["parallax"].unit = "mag"
    path = str(write(stars, tmp_path / "s.ecsv"))
    check_refused(CatalogFile(path), tmp_path, path, "'parallax'", "'mag'", "mas")
    path = str(write(stars, tmp_path / "s.csv"))
    check_refused(CatalogFile(path, units={"pmra": "furlong"}), tmp_path, "'furlong'", "unknown")


def test_labels_that_are_no_labels(stars: Table, write: Write, tmp_path: Path) -> None:
    stars["p"] = np.linspace(0, 3, 12)
    stars["n"] = np.arange(12) - 5
    path = str(write(stars, tmp_path / "s.fits"))
    check_refused(CatalogFile(path, label_column="p"), tmp_path, "'p'", "neither", "probabilities")
    check_refused(CatalogFile(path, label_column="n"), tmp_path, "'n'", "label -5")


def test_a_label_that_numbers_something_else(stars: Table, write: Write, tmp_path: Path) -> None:
    stars["n"] = np.arange(len(stars)) + 7000
    path = str(write(stars, tmp_path / "s.fits"))
    check_refused(CatalogFile(path, label_column="n"), tmp_path, "'n'", "1..K")


def test_ragged_text(stars: Table, write: Write, tmp_path: Path) -> None:
    path = write(stars, tmp_path / "s.txt")
    lines = path.read_text().splitlines()
    lines[5] = lines[5].rsplit("\t", 2)[0]
    path.write_text("\n".join(lines))
    check_refused(CatalogFile(str(path)), tmp_path, str(path), "row 5 has 9 values for 11 columns")


def test_fits_without_a_table(tmp_path: Path) -> None:
    from astropy.io import fits

    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
    check_refused(CatalogFile(str(tmp_path / "image.fits")), tmp_path, "no table extension")


def test_masked_ids(stars: Table, tmp_path: Path) -> None:
    arrays = {name: pa.array(np.asarray(column)) for name, column in stars.columns.items()}
    arrays["source_id"] = pa.array([None, *np.asarray(stars["source_id"])[1:].tolist()])
    pyarrow.parquet.write_table(pa.table(arrays), tmp_path / "s.parquet")
    check_refused(CatalogFile(str(tmp_path / "s.parquet")), tmp_path, "source_id in 1 of 12 rows")


def test_all_values_masked(stars: Table, write: Write, tmp_path: Path) -> None:
    table = Table(stars, masked=True, copy=True)
    table["parallax"] = MaskedColumn(np.zeros(12), mask=True)
    for suffix in SUFFIXES:
        path = str(write(table, tmp_path / f"s{suffix}"))
        check_refused(CatalogFile(path, missing="drop"), tmp_path, path, "every row", "parallax")


def test_votable_that_points_elsewhere(stars: Table, tmp_path: Path) -> None:
    path = tmp_path / "s.vot"
    stars.write(path, format="votable", tabledata_format="binary2")
    text = path.read_text().replace("<STREAM ", '<STREAM href="file:///etc/hostname" ')
    path.write_text(text)
    check_refused(CatalogFile(str(path)), tmp_path, "rows elsewhere")
