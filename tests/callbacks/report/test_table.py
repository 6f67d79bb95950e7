import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from callbacks.report.table import SCHEMA, Report, to_plain


@pytest.fixture
def report() -> Report:
    report = Report("clustering", "all", 100, seed=3, provenance={"path": Path("a.fits")})
    report.add("model", "ari", 0.91, "split=all", std=0.01, n=100)
    report.add("baseline/hdbscan", "ari", np.float64(0.82), "split=all", n=100)
    report.add("baseline/hdbscan", "ece", float("nan"), "split=all")
    report.note("one line")
    return report


def test_json_is_flat_and_strict(report: Report, tmp_path: Path) -> None:
    report.write(tmp_path / "deep" / "folder")
    text = (tmp_path / "deep" / "folder" / "report.json").read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert content["model/ari/split=all"] == 0.91
    assert content["model/ari/split=all_std"] == 0.01
    assert content["baseline/hdbscan/ari/split=all"] == 0.82
    assert content["baseline/hdbscan/ece/split=all"] is None
    assert content["provenance"] == {"path": "a.fits"}
    assert content["schema"] == SCHEMA == "astrolit.report/2"
    assert content["seed"] == 3
    assert content["notes"] == ["one line"]


def test_csv_has_one_row_a_number(report: Report, tmp_path: Path) -> None:
    report.write(tmp_path)
    with (tmp_path / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    expected = {"subject": "model", "metric": "ari", "slice": "split=all"}
    assert rows[0] == {**expected, "value": "0.91", "std": "0.01", "n": "100"}
    assert rows[1]["std"] == ""


def test_a_failed_write_leaves_the_old_report(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.write(tmp_path)
    before = (tmp_path / "report.json").read_text()

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    report.add("model", "nmi", 0.5)
    with pytest.raises(OSError, match="No space"):
        report.write(tmp_path)
    assert (tmp_path / "report.json").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.csv", "report.json"]


def test_a_number_is_reported_once(report: Report) -> None:
    with pytest.raises(ValueError, match="model/ari/split=all already"):
        report.add("model", "ari", 0.5, "split=all")


def test_table_puts_model_and_baselines_side_by_side(report: Report) -> None:
    stream = io.StringIO()
    report.print(["split=all", "split=absent"], Console(file=stream, width=100))
    text = stream.getvalue()
    line = next(line for line in text.splitlines() if "ari" in line)
    assert "0.910 ± 0.010" in line
    assert "0.820" in line
    assert "one line" in text
    assert "absent" not in text


def test_plain_values() -> None:
    nested = {"a": [np.int64(1), np.array([0.5, np.inf])], 2: (True, None), "p": Path("x")}
    assert to_plain(nested) == {"a": [1, [0.5, None]], "2": [True, None], "p": "x"}


def test_rows_of_a_metric_a_subject_or_both(report: Report) -> None:
    assert [row.value for row in report.rows_of("ari")] == [0.91, 0.82]
    assert [row.metric for row in report.rows_of(subject="baseline/hdbscan")] == ["ari", "ece"]
    assert [row.value for row in report.rows_of("ari", "baseline/hdbscan")] == [0.82]
    assert report.rows_of("ece", "model") == []
    assert len(report.rows_of()) == 3


def test_what_is_covered_is_said_in_the_header(report: Report) -> None:
    report.covers("held_out", 20)
    assert (report.as_dict()["split"], report.as_dict()["num_objects"]) == ("held_out", 20)
    assert report.as_dict()["method"] == "clustering"
