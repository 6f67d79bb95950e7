from typing import Any

import numpy as np
import pytest
import torch

from callbacks.clustering.injection import add_injection, consistency, draw_places, inject
from callbacks.clustering.structure import Cluster, Footprint
from callbacks.report.base import TestRun
from lightning_modules import ClusterMixture
from lightning_modules.clustering.mixture.footprint import Grid
from lightning_modules.clustering.mixture.likelihood import Parameters

NAMES = ("parallax", "pmra", "pmdec")
MEAN = np.array([7.4, 20.0, -45.0])
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


@pytest.fixture
def near(run_of: Any) -> TestRun:
    """A cluster as near as the Pleiades, and field stars, all with errors as Gaia's."""
    rng, count = np.random.default_rng(0), 400
    radius, nu = 1.5, 2.0  # degrees
    mixture = Parameters.zeros(1, 1)._replace(
        weight=torch.tensor([0.5, 0.5]).double(),
        shape=torch.tensor([[radius**2 / nu, 0.0, radius**2 / nu]]).double(),
        degrees=torch.tensor([nu]).double(),
        mean=torch.from_numpy(MEAN[None]),
        dispersion=torch.tensor([0.3]).double(),
        field_mean=torch.tensor([[2.0, 0.0, 0.0]]).double(),
        field_covariance=torch.tensor([[4.0, 0.0, 0.0, 200.0, 0.0, 200.0]]).double(),
        error_scale=torch.tensor(1.0).double(),
    )
    occupied = Grid.empty().occupied.fill_(value=True)
    cell = torch.full((2,), 8.0 / len(occupied)).double()
    module = ClusterMixture(1, 1)
    module.begin(Grid(occupied, torch.tensor([-4.0, -4.0]).double(), cell), None, mixture)
    features = np.concatenate([rng.uniform(-4, 4, (count, 2)), np.tile(MEAN, (count, 1))], 1)
    rows: dict[str, Any] = {"index": np.arange(count), "features": features.astype(np.float32)}
    rows["covariance"] = np.tile(np.diag([1e-9, 1e-9, *[0.02**2] * 3]), (count, 1, 1))
    batch = {name: torch.from_numpy(values) for name, values in rows.items()}
    found: TestRun = run_of(**rows, probability=module.predict_step(batch)["probability"].numpy())
    found.module = module
    return found


def test_stars_of_a_near_cluster_have_its_depth(near: TestRun) -> None:
    row = {"cluster": 1, "weight": 0.5, "x": 0.0, "y": 0.0, "radius": 1.5, "ellipticity": 0.0}
    row |= {
        "position_angle": 0.0,
        "nu": 2.0,
        "dispersion": 0.3,
        **dict(zip(NAMES, MEAN, strict=True)),
    }
    donors = np.zeros(4000, dtype=int)
    drawn = inject(near, row, donors, np.random.default_rng(0))["features"].astype(np.float64)
    radius = np.hypot(*drawn[:, :2].T)
    shift = drawn[:, 2] / MEAN[0] - 1.0
    # A Plummer sphere has the depth √((a² + R²) / 2) along the line of sight at R.
    pull = shift / np.radians(((1.5**2 + radius**2) / 2) ** 0.5)
    assert pull.std() == pytest.approx(1.0, abs=0.03)
    motion = (drawn[:, 3:] - MEAN[1:]) @ MEAN[1:] / np.square(MEAN[1:]).sum()
    assert np.corrcoef(motion, shift)[0, 1] > 0.9  # near stars move faster
    assert injected(near, [row])["model/completeness/split=injected"] > 0.97


def test_places_follow_the_profile_inside_the_footprint() -> None:
    shape = {"nu": 2.0, "ellipticity": 0.3, "position_angle": 70.0}
    cluster = Cluster(np.zeros(0), np.zeros(2), 0.05, np.zeros(2), 0.3, **shape)
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
