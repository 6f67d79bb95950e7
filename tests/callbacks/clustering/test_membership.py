from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.io.votable import parse
from astropy.table import Table
from torch.utils.data import DataLoader

from callbacks.clustering.membership import MembershipTable
from callbacks.predictions.tables import to_table

FIRST_ID = 6_000_000_000_000_000_001


@pytest.fixture(scope="module")
def run(stars: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("membership")
    data = stars.data(cache_dir=str(folder / "cache"))
    callback = MembershipTable(["fits", "votable", "ecsv"], latent=True)
    stars.trainer(folder, callback).predict(stars.measuring(), data, return_predictions=False)
    return folder


@pytest.mark.parametrize("name", ["membership.fits", "membership.vot", "membership.ecsv"])
def test_table_holds_the_input_and_the_membership(run: Path, name: str) -> None:
    table = Table.read(run / name)
    assert len(table) == 501
    assert table["source_id"].dtype.kind == "i"
    np.testing.assert_array_equal(np.asarray(table["source_id"]), FIRST_ID + np.arange(501))
    assert str(table["input_parallax"].unit) == "mas"
    assert str(table["input_pmra"].unit) in {"mas / yr", "mas yr-1", "mas.yr-1"}
    probability = np.stack([np.asarray(table[f"probability_{i}"]) for i in range(3)], 1)
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probability.argmax(1), table["cluster"])
    np.testing.assert_allclose(table["membership"], probability[:, 1:].sum(1), atol=1e-6)
    published = np.asarray(table["input_label"])
    assert np.mean((np.asarray(table["membership"]) > 0.5) == (published > 0)) > 0.97
    assert np.mean(np.asarray(table["cluster"]) == published) > 0.97
    assert "latent_7" in table.colnames
    names = [name for name in table.colnames if not name.startswith("input_")]
    assert names[:3] == ["source_id", "membership", "cluster"]


def test_header_says_which_column_is_which_cluster(run: Path) -> None:
    header = fits.getheader(run / "membership.fits", "MEMBERSHIP")
    columns = {header[f"TTYPE{i}"]: header[f"TCOMM{i}"] for i in range(2, 7)}
    assert columns["probability_0"] == "Probability of the field"
    where = "x, y = -0.10000, -0.05000 deg; parallax 0.1000 mas; pm = -4.0000, 4.0000 mas/yr"
    assert columns["probability_2"] == f"Probability of cluster 2: {where}"
    assert where in "".join(header["COMMENT"])
    meta = Table.read(run / "membership.ecsv").meta
    assert meta["clusters"][1] == f"cluster 2 (probability_2): {where}"


def test_a_field_that_is_another_column_becomes_number_zero() -> None:
    writer = MembershipTable()
    writer.data, writer.field_column = Catalogue(Table({"id": [1, 2, 3]})), 1
    rows = {"index": np.arange(3), "assignment": np.array([0, 1, 2])}
    rows["probability"] = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0, 0.4, 0.6]])
    rows["probability_std"] = 0.1 * rows["probability"]
    rows["probability_error"] = 0.2 * rows["probability"]
    rows["epistemic"] = np.array([0.1, 0.2, 0.3])
    rows = writer.columns({key: torch.from_numpy(x) for key, x in rows.items()}, None)
    table = to_table(writer.table(rows), split=True)
    assert table["cluster"].tolist() == [1, 0, 2]
    assert table["probability_0"].tolist() == [0.2, 0.8, 0.4]
    assert table["probability_1"].tolist() == [0.7, 0.1, 0.0]
    np.testing.assert_allclose(table["membership"], [0.8, 0.2, 0.6])
    np.testing.assert_allclose(table["probability_0_std"], [0.02, 0.08, 0.04])
    np.testing.assert_allclose(table["probability_1_error"], [0.14, 0.02, 0.0])
    assert "refits" in table["probability_1_error"].description
    assert table["epistemic"].tolist() == [0.1, 0.2, 0.3]


def test_columns_without_names_have_no_membership() -> None:
    writer = MembershipTable()
    writer.data = Catalogue(Table({"id": [1, 2], "membership": [0.9, 0.1], "cluster": [4, 5]}))
    rows = {"index": np.arange(2), "assignment": np.array([1, 0]), "probability": np.eye(2)}
    table = to_table(writer.table(rows), split=True)
    assert "membership" not in table.colnames
    assert table["cluster"].tolist() == [1, 0]
    assert table["input_membership"].tolist() == [0.9, 0.1]
    assert table["input_cluster"].tolist() == [4, 5]


def test_fits_header_says_what_made_it(run: Path) -> None:
    header = fits.getheader(run / "membership.fits", "MEMBERSHIP")
    assert header["MODEL"] == "MeasuringModule"
    assert header["SOFTWARE"].startswith("astrolit")
    history = "".join(header["HISTORY"])
    assert "weights in memory" in history
    assert "TinyField" in history
    assert header["TUCD1"] == "meta.id;meta.main"
    assert (header["TTYPE4"], header["TUCD4"]) == ("probability_0", "stat.probability")
    assert header["TCOMM2"] == "Probability to belong to any cluster"


def test_votable_is_valid_and_carries_ucds(run: Path) -> None:
    document = parse(run / "membership.vot", verify="exception")
    table = document.get_first_table()
    ucds = {field.name: field.ucd for field in table.fields}
    assert ucds["source_id"] == "meta.id;meta.main"
    assert ucds["probability_0"] == "stat.probability"
    assert {field.name: field.datatype for field in table.fields}["source_id"] == "long"
    infos = {info.name: info.value for info in document.infos}
    assert infos["model"] == "MeasuringModule"
    assert "TinyField" in infos["provenance"]


class Catalogue:
    """An input of two stars."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def names(self, index: Any) -> Any:
        return index

    def catalogue(self, index: Any) -> Table:
        return self.table


@pytest.mark.parametrize("name", ["cluster", "probability_1"])
def test_an_id_that_has_the_name_of_an_answer_is_refused(name: str) -> None:
    rows = {"index": np.arange(2), "assignment": np.zeros(2, int), "probability": np.eye(2)}
    writer = MembershipTable()
    writer.data = Catalogue(Table({name: [1, 2]}))
    with pytest.raises(ValueError, match=f"'{name}' already"):
        to_table(writer.table(rows), split=True)
    writer.data = Catalogue(Table({"ra": [1, 2, 3]}))
    with pytest.raises(ValueError, match="lengths"):
        to_table(writer.table(rows), split=True)


def test_data_without_a_table_are_refused_before_any_work(stars: Any, tmp_path: Path) -> None:
    loader = DataLoader([{"index": torch.arange(2)}], batch_size=None)
    with pytest.raises(ValueError, match=r"with catalogue, .* NoneType has not"):
        stars.trainer(tmp_path, MembershipTable()).predict(stars.module(), loader)


def test_a_model_without_clusters_says_so(
    stars: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = stars.data(cache_dir=str(tmp_path / "cache"))
    stars.trainer(tmp_path, MembershipTable()).predict(
        stars.module(clusters=False), data, return_predictions=False
    )
    assert "no clusters yet" in capsys.readouterr().out
    assert "cluster" not in Table.read(tmp_path / "membership.fits").colnames


def test_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="choose from"):
        MembershipTable(["xlsx"])  # type: ignore[list-item]
