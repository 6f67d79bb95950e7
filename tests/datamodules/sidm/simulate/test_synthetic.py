"""The source of simulated cluster maps: what its store holds, the same from any workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from datamodules import MapObservation, SimulatedClusterMaps, Simulation
from datamodules.sidm.simulate.maps import PHYSICAL
from datamodules.sidm.source import SCHEMA
from datamodules.store import RowStore
from lightning_modules.physics.arrays import Array

SMALL: dict[str, Any] = {
    "simulations": [
        {"name": "cdm", "cross_section": 0.0},
        {"name": "strong", "cross_section": 1.0, "num_halos": 4},
        {"name": "other", "cross_section": 0.3, "domain": "foreign", "halo_set": 1},
        {"name": "noise", "domain": "noise"},
    ],
    "num_halos": 3,
    "num_projections": 2,
    "num_redshifts": 2,
    "num_calibration": 1,
    "num_hidden": 2,
    "population_size": 2,
    "channels": ["total", "stars"],
    "num_pixels": 24,
    "simulation_workers": 1,
}


def prepare(path: Path, seed: int = 5, **settings: Any) -> RowStore:
    SimulatedClusterMaps(**{**SMALL, **settings}).prepare(path, seed)
    return RowStore(path, SCHEMA)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RowStore:
    return prepare(tmp_path_factory.mktemp("maps") / "maps.h5")


def test_the_store_has_what_the_contract_says(store: RowStore) -> None:
    columns = store.read()
    rows = 4 * (3 + 4 + 3 + 3 + 3 * 2)
    assert columns["map"].shape == (rows, 2, 24, 24)
    assert columns["map"].dtype == np.float32
    assert columns["good"].shape == (rows, 24, 24)
    assert columns["good"].all()
    for name in ("cross_section", *PHYSICAL):
        assert columns[name].dtype == np.float32, name
    for name in ("name", "halo", "projection"):
        assert columns[name].dtype == np.int64, name
    assert store.attributes["channels"] == ["total", "stars"]
    assert store.attributes["pixel_scale"] == 20.0
    assert store.attributes["counts"] == {"maps": rows}


def test_every_simulation_has_its_haloes_projections_and_redshifts(store: RowStore) -> None:
    columns = store.read()
    names, halo = columns["simulation"], columns["halo"]
    by_name = {name: set(halo[names == name]) for name in np.unique(names)}
    assert {name: len(ids) for name, ids in by_name.items()} == {
        "cdm": 3,
        "strong": 4,
        "other": 3,
        "noise": 3,
        "calibration_000": 2,
        "hidden_000": 2,
        "hidden_001": 2,
    }
    assert by_name["cdm"] < by_name["strong"]  # twins
    distinct = [by_name[name] for name in by_name if name != "cdm"]
    assert len(set.union(*distinct)) == sum(map(len, distinct))
    first = (names == "cdm") & (halo == 0)
    pairs = set(zip(columns["redshift"][first], columns["projection"][first], strict=True))
    assert len(pairs) == 4
    assert np.isnan(columns["cross_section"][names == "noise"]).all()
    assert (columns["cross_section"][names == "strong"] == 1).all()


def test_added_simulations_have_cross_sections_of_their_own() -> None:
    source = SimulatedClusterMaps(num_calibration=3, num_hidden=400, population_range=(0.05, 0.5))
    found = {run.name: run.cross_section for run in source.all_simulations(0)}
    fewer = SimulatedClusterMaps(num_hidden=2, population_range=(0.05, 0.5))
    for run in fewer.all_simulations(0):
        assert found[run.name] == run.cross_section
    hidden = np.log([value for name, value in found.items() if name.startswith("hidden")])
    assert np.log(0.05) <= hidden.min() < hidden.max() <= np.log(0.5)
    assert hidden.mean() == pytest.approx(np.log(np.sqrt(0.05 * 0.5)), abs=0.15)
    assert hidden.std() == pytest.approx(np.log(10) / np.sqrt(12), rel=0.1)
    other = {run.name: run.cross_section for run in source.all_simulations(1)}
    assert other["hidden_000"] != found["hidden_000"]
    assert found["calibration_000"] != found["hidden_000"]


def test_workers_and_blocks_change_not_a_bit(store: RowStore, tmp_path: Path) -> None:
    one = store.read()
    two = prepare(tmp_path / "two.h5", simulation_workers=2, block_size=30).read()
    for name, values in one.items():
        np.testing.assert_array_equal(two[name], values, err_msg=name)
    assert not list(tmp_path.glob(".*"))


def test_a_map_does_not_depend_on_what_else_is_simulated(store: RowStore, tmp_path: Path) -> None:
    alone = prepare(
        tmp_path / "alone.h5",
        simulations=[Simulation("renamed", 1.0)],
        num_halos=2,
        num_projections=1,
        num_redshifts=1,
        num_calibration=0,
        num_hidden=0,
        channels=["stars"],
    ).read()
    whole = store.read()
    for row in range(2):
        same = (whole["simulation"] == "strong") & (whole["halo"] == row)
        first = int(np.flatnonzero(same)[0])
        np.testing.assert_array_equal(alone["map"][row, 0], whole["map"][first, 1])
    other = prepare(tmp_path / "other.h5", seed=6).read()
    assert not np.array_equal(other["map"][0], whole["map"][0])


def test_an_observation_adds_noise_and_hides_pixels(store: RowStore, tmp_path: Path) -> None:
    observation = MapObservation(source_density=100, field_radius=200)
    seen = prepare(tmp_path / "seen.h5", observation=observation).read()
    good = seen["good"]
    assert 0 < good.mean() < 1
    assert (np.isnan(seen["map"]) == ~good[:, None]).all()
    plain = store.read()
    where = good & (plain["simulation"] != "noise")[:, None, None]
    difference = (seen["map"][:, 0] - plain["map"][:, 0])[where]
    expected = observation.density_noise(SimulatedClusterMaps(**SMALL).grid)
    assert difference.std() == pytest.approx(expected, rel=0.03)
    np.testing.assert_array_equal(seen["map"][:, 1][good], plain["map"][:, 1][good])
    noise = plain["simulation"] == "noise"
    np.testing.assert_array_equal(
        seen["map"][noise, 0][good[noise]], plain["map"][noise, 0][good[noise]]
    )


def profiles(maps: Array) -> Array:
    """Return mean and scatter of log10(map/max) in ten rings, shape (n, 20)."""
    pixel = (np.arange(100) - 49.5) * 20
    ring = np.digitize(
        np.hypot(*np.meshgrid(pixel, pixel)), [20, 45, 75, 110, 160, 230, 330, 480, 700, 1000]
    )
    logs = np.log10(maps / maps.max(axis=(1, 2), keepdims=True) + 1e-4)
    parts = [logs[:, ring == number] for number in range(10)]
    return np.concatenate([[part.mean(1), part.std(1)] for part in parts]).T


def test_radial_profiles_tell_cross_sections_as_well_as_in_the_published_simulations(
    tmp_path: Path,
) -> None:
    # The published networks reach 0.64 on four cross-sections of BAHAMAS; chance is 0.25.
    SimulatedClusterMaps(num_halos=150, simulation_workers=1).prepare(tmp_path / "maps.h5", 0)
    columns = RowStore(tmp_path / "maps.h5").read(["map", "halo", "simulation"])
    features, train = profiles(columns["map"][:, 0]), columns["halo"] < 100
    model = LinearDiscriminantAnalysis().fit(features[train], columns["simulation"][train])
    accuracy = model.score(features[~train], columns["simulation"][~train])
    assert accuracy == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"simulations": []}, "there must be a simulation"),
        (
            {"simulations": [{"name": "a", "cross_section": -1}]},
            "cross_section must be from 0 to 2",
        ),
        ({"simulations": [{"name": "a"}]}, "cross_section must be from 0 to 2"),
        ({"simulations": [{"name": "a", "cross_section": 0, "domain": "noise"}]}, "must be null"),
        ({"simulations": [{"name": "a", "cross_section": 0, "domain": "x"}]}, "domain 'x' must be"),
        ({"simulations": [{"sigma": 0}]}, "simulation 1 is .* its keys are"),
        ({"simulations": [{"name": "", "cross_section": 0}]}, "name must not be empty"),
        (
            {"simulations": [{"name": "a", "cross_section": 0, "num_halos": 0}]},
            "num_halos must be positive",
        ),
        (
            {"simulations": [{"name": "a", "cross_section": 0, "halo_set": -1}]},
            "halo_set must not be negative",
        ),
        (
            {"simulations": [{"name": "a", "cross_section": 0, "halo_set": 10**6}]},
            "halo_set and num_halos must be below",
        ),
        ({"simulations": [{"name": "a", "cross_section": s} for s in (0, 1)]}, "differ in name"),
        ({"simulations": [{"name": n, "cross_section": 0} for n in "ab"]}, "maps are the same"),
        ({"simulations": [{"name": "hidden_1", "cross_section": 0}]}, "names that begin with"),
        ({"num_halos": 0}, "num_halos must be positive"),
        ({"num_pixels": 0}, "num_pixels must be positive"),
        ({"num_projections": 0}, "num_projections must be positive"),
        ({"population_size": 0}, "population_size must be positive"),
        ({"block_size": 0}, "block_size must be positive"),
        ({"num_redshifts": 5}, "num_redshifts must be 1 to 4"),
        ({"num_hidden": -1}, "num_calibration and num_hidden must not be negative"),
        ({"population_range": (0.0, 1.0)}, "population_range must increase"),
        ({"population_range": (0.5, 0.1)}, "population_range must increase"),
        ({"population_range": (0.5, 3.0)}, "population_range must increase"),
        ({"channels": ["stars", "total"]}, "channels must be some of total, xray, stars"),
        ({"channels": ["mass"]}, "channels must be some of total, xray, stars"),
        ({"channels": []}, "channels must be some of total, xray, stars"),
        ({"pixel_scale": 0.0}, "pixel_scale must be positive"),
        ({"pixel_scale": 100.0}, "must be at most 8000 kpc"),
        ({"domain_gap": 1.5}, "domain_gap must be in"),
        ({"simulation_workers": 0}, "simulation_workers must be -1 or positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        SimulatedClusterMaps(**settings)
    assert "\n" not in str(refusal.value)
