from typing import Any

import numpy as np
import pytest

from callbacks.clustering.injection import add_injection, consistency, draw_places
from callbacks.clustering.structure import Cluster, Footprint
from callbacks.report.base import TestRun

BOX = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])


@pytest.fixture
def run(stars: Any, run_of: Any) -> TestRun:
    """The stars of the small field and what a module that knows the generator says of them."""
    data, module = stars.data(), stars.measuring()
    data.prepare_data()
    data.setup()
    answer = module.predict_step(data.columns)
    names = ("index", "features", "covariance", "magnitude")
    found: TestRun = run_of(
        **{name: data.columns[name].numpy() for name in names},
        probability=answer["probability"].numpy(),
    )
    found.module = module
    return found


def injected(run: TestRun, rows: list[dict[str, float]]) -> dict[str, float]:
    add_injection(run, rows, 4000)
    return {row.key: row.value for row in run.report.rows}


def test_stars_of_the_right_model_are_consistent(run: TestRun) -> None:
    found = injected(run, run.module.parameter_rows())
    assert found["model/ece/split=injected"] < 0.02
    assert found["model/completeness/split=injected"] > 0.95
    assert "not the model's truth" in run.report.notes[0]


def test_stars_of_a_wrong_model_are_not(run: TestRun) -> None:
    wrong = [row | {"pmra": row["pmra"] + 1.0} for row in run.module.parameter_rows()]
    found = injected(run, wrong)
    assert found["model/ece/split=injected"] > 0.1
    assert found["model/completeness/split=injected"] < 0.8


def test_a_module_without_a_field_column_is_told(run: TestRun, stars: Any) -> None:
    rows, run.module = run.module.parameter_rows(), stars.module()
    assert injected(run, rows) == {}
    assert "no stars were injected" in run.report.notes[0]


def test_places_follow_the_profile_inside_the_footprint() -> None:
    shape = {"nu": 2.0, "ellipticity": 0.3, "position_angle": 70.0}
    cluster = Cluster(1, np.zeros(0), np.zeros(2), 0.05, np.zeros(2), 0.3, **shape)
    places = draw_places(cluster, Footprint.of_stars(BOX), 5000, np.random.default_rng(0))
    assert np.abs(places).max() < 1
    assert np.mean(cluster.radii(places) < 0.05) == pytest.approx(0.5, abs=0.02)


def test_consistency_of_memberships_is_known() -> None:
    rng = np.random.default_rng(0)
    real = np.repeat([0.0, 0.5, 1.0], [600, 200, 300])  # 400 members, a quarter of them at 0.5
    right = np.repeat([0.5, 1.0], [100, 300])
    assert consistency(right, real, 50, rng)[0] == pytest.approx(0.0)
    sure = np.ones(400)  # no member should be doubted: 100 too few, 100 too many
    error, std = consistency(sure, real, 50, rng)
    assert error == pytest.approx(200 / 1100)
    assert 0 < std < 0.05
