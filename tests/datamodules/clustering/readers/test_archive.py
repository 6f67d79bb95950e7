"""The Gaia archive against a loopback TAP server: counts, limits, errors, cache, exact ids."""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import ClusteringDataModule, GaiaArchive
from datamodules.clustering.readers import globulars
from datamodules.store import RowStore
from lightning_modules.physics.covariance import CORRELATIONS

pytest.importorskip("pyvo", reason="the archive needs the extra `archive`")


def cone(archive: Any, **settings: Any) -> GaiaArchive:
    """Make a source that asks the loopback server."""
    return GaiaArchive(10.5, -40.5, 1.0, url=archive.url, **settings)


def test_rows_are_counted_then_fetched_exactly(archive: Any) -> None:
    read = cone(archive, magnitude_limit=19.0, condition="ruwe < 1.4").table()
    np.testing.assert_array_equal(read.columns["source_id"], np.asarray(archive.table["source_id"]))
    np.testing.assert_array_equal(read.columns["ra"], np.asarray(archive.table["ra"]))
    assert {*CORRELATIONS, "pseudocolour", "ecl_lat"} <= set(read.columns)
    count, rows = archive.queries
    assert "SELECT COUNT(*) AS number FROM gaiadr3.gaia_source" in count
    assert count.split(" WHERE ")[1] == rows.split(" WHERE ")[1]
    assert "CIRCLE('ICRS', 10.5, -40.5, 1.0)" in rows
    assert "phot_g_mean_mag <= 19.0" in rows
    assert "(ruwe < 1.4)" in rows
    assert "parallax IS NOT NULL" in rows
    assert read.attributes["query"] == rows
    assert archive.maxrecs == ["1", "41"]  # the server's own default limit never applies


def test_fewer_rows_than_counted_are_refused(archive: Any, tmp_path: Path) -> None:
    archive.row_limit = 20
    with pytest.raises(ValueError, match="counted 40 stars but returned 20"):
        cone(archive).prepare(tmp_path / "store.h5", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_overflow_is_refused(archive: Any) -> None:
    archive.overflow = True
    with pytest.raises(ValueError, match=r"row limit \(QUERY_STATUS=OVERFLOW, 40 rows\)"):
        cone(archive).table()


def test_error_of_the_job_surfaces(archive: Any) -> None:
    archive.error = "Unknown column rwue"
    with pytest.raises(
        ValueError, match=r"the query failed: .*Unknown column rwue.*it was: SELECT"
    ):
        cone(archive, condition="rwue < 1.4").table()


def test_broken_transfer_is_refused(archive: Any, tmp_path: Path) -> None:
    archive.cut_body = True
    with pytest.raises(ValueError, match=archive.url) as caught:
        cone(archive).prepare(tmp_path / "store.h5", seed=0)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_does_not_end_times_out(archive: Any) -> None:
    archive.stuck = True
    with pytest.raises(ValueError, match=r"did not end within 0\.1 s.*timeout"):
        cone(archive, timeout=0.1).table()


def test_no_star_is_an_error(archive: Any) -> None:
    archive.table = archive.table[:0]
    with pytest.raises(ValueError, match=r"no star matches; enlarge data\.source\.radius"):
        cone(archive).table()


def test_archive_that_does_not_answer() -> None:
    source = GaiaArchive(10.0, 0.0, 1.0, url="http://127.0.0.1:9/tap")
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:9/tap: the query failed") as caught:
        source.table()
    assert "\n" not in str(caught.value)


def test_second_prepare_does_not_ask_again(archive: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"cache_dir": str(tmp_path)}
    data = ClusteringDataModule(cone(archive), **settings)
    data.prepare_data()
    asked = archive.requests
    assert asked > 0
    again = ClusteringDataModule(cone(archive), **settings)
    again.prepare_data()
    again.setup()
    assert archive.requests == asked
    assert "SELECT source_id" in again.provenance()["query"]
    other = ClusteringDataModule(cone(archive, magnitude_limit=18.0), **settings)
    other.prepare_data()
    assert archive.requests > asked
    store = RowStore(again.store_path, "astrolit.clustering")
    assert store.attributes["counted"] == 40


def test_impossible_cones_are_refused() -> None:
    with pytest.raises(ValueError, match="no cone"):
        GaiaArchive(10.0, 100.0, 1.0)


def test_a_globular_cluster_is_found_by_name(archive: Any) -> None:
    for name in ("NGC 6121", "ngc6121", "M 4", "Messier-4"):
        source = GaiaArchive(name=name, url=archive.url)
        source.table()
        assert "CIRCLE('ICRS', 245.897, -26.526, 0.5)" in archive.queries[-1]
    assert GaiaArchive(name="omega Cen").ra == pytest.approx(201.697)
    assert GaiaArchive(name="Palomar 5", radius=0.7).query("*").count("229.019, -0.121, 0.7") == 1


def test_a_name_that_is_not_one_place_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'NGC 6112' is known here; did you mean .*NGC 6121.*\?"):
        GaiaArchive(name="NGC 6112")
    with pytest.raises(ValueError, match="both say where the cone is"):
        GaiaArchive(10.0, -40.0, name="M 4")
    with pytest.raises(ValueError, match="needs a name, or ra, dec and radius"):
        GaiaArchive(10.0, -40.0)


def test_every_name_of_a_globular_is_its_own() -> None:
    with Path(globulars.__file__).with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 170
    for row in rows:
        found = globulars.find_globular(row["name"])
        assert (found.name, found.ra) == (row["name"], float(row["ra"]))
        assert 0.1 <= found.radius <= 1.0
        for alias in filter(None, row["aliases"].split(";")):
            assert globulars.find_globular(alias) == found


def test_stars_of_a_position_alone_are_asked_for(archive: Any) -> None:
    for name in ("parallax", "pmra", "pmdec", "parallax_error", "pmra_error", "pmdec_error"):
        archive.table[name][:4] = np.nan
    with pytest.raises(ValueError, match="in 4 of 40 rows"):
        cone(archive).table()
    kept = cone(archive, missing="keep").table()
    assert "parallax IS NOT NULL" not in archive.queries[-1]
    assert np.isnan(kept.columns["parallax"]).sum() == 4


def test_without_pyvo_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvo", None)
    with pytest.raises(ValueError, match=r"astrolit\[archive\]"):
        GaiaArchive(10.0, 0.0, 1.0, url="http://127.0.0.1:9/tap").table()
