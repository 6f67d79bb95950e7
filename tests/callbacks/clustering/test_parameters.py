import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from callbacks.clustering.parameters import add_parameters, parameter_table
from callbacks.clustering.report import ClusteringReport
from lightning_modules.physics.frames import tangent_plane


@pytest.fixture(scope="module")
def run(stars: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a module with parameters, and two others beside it."""
    folder = tmp_path_factory.mktemp("parameters")
    callback = ClusteringReport(False, num_resamples=20, max_tsne=60, num_injected=500)
    callback.beside = {"twin": stars.measuring(), "embedding": stars.module(clusters=False)}
    data = stars.data(cache_dir=str(folder / "cache"))
    trainer = stars.trainer(folder, callback, tensorboard=True)
    trainer.test(stars.measuring(), data, verbose=False)
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def test_parameters_are_numbers_of_the_report(report: dict[str, Any]) -> None:
    assert report["model/pmra/cluster=2"] == -4.0
    assert report["model/pmra/cluster=2_std"] == 0.02
    assert report["model/pmra_pmdec_corr/cluster=1"] == 0.1
    assert "model/pmra_pmdec_corr/cluster=1_std" not in report
    assert "model/cluster/cluster=1" not in report


def test_parameters_are_a_file_with_units(run: Path) -> None:
    table = Table.read(run / "parameters.ecsv")
    assert table["cluster"].tolist() == [1, 2]
    assert table["pmdec"].tolist() == [-3.0, 4.0]
    assert str(table["pmdec"].unit) == str(table["pmdec_error"].unit) == "mas / yr"
    assert table["radius"].unit == "deg"
    assert table["nu"].unit is None


def test_parameters_are_in_tensorboard(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    assert "test/parameters/text_summary" in events.Tags()["tensors"]
    (text,) = events.Tensors("test/parameters/text_summary")[0].tensor_proto.string_val
    assert "| pmra [mas/yr] | 4.000 ± 0.010 | -4.000 ± 0.020 |" in text.decode()


def test_a_field_by_construction_is_no_cluster(report: dict[str, Any]) -> None:
    assert report["model/num_clusters/split=all"] == 2


def test_trained_runs_stand_beside_the_model(report: dict[str, Any]) -> None:
    for metric in ("f1", "ari", "auc", "brier"):
        for split in ("all", "held_out"):
            key = f"{metric}/split={split}"
            assert report[f"baseline/twin/{key}"] == report[f"model/{key}"]
    assert not any(key.startswith("baseline/embedding") for key in report)
    assert "baseline/embedding has no clusters yet and is left out" in report["notes"]


def test_stars_are_injected_on_request(report: dict[str, Any]) -> None:
    assert 0 <= report["model/ece/split=injected"] < 0.1


def test_centres_are_on_the_sky_where_the_frame_is_known(stars: Any) -> None:
    rows, centre = stars.measuring().parameter_rows(), np.array([350.0, 60.0])
    table = parameter_table(rows, centre)
    x, y = tangent_plane(np.array(table["ra"]), np.array(table["dec"]), centre)
    np.testing.assert_allclose(np.stack([x, y], 1), [[0.05, 0.1], [-0.1, -0.05]], atol=1e-12)
    assert "ra" not in parameter_table(rows).colnames


def test_a_model_without_clusters_has_no_table(
    stars: Any, run_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(x=[0])
    run.module = stars.measuring()
    monkeypatch.setattr(run.module, "parameter_rows", lambda: [])
    assert add_parameters(run) == []
    assert not run.report.tables
    assert "no cluster" in run.report.notes[0]
    run.module = stars.module()
    assert add_parameters(run) == []
    assert len(run.report.notes) == 1
