"""The simulator: no leaks between the classes, honest errors, data fixed by the seed alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from datamodules import OGLECadence, PhotometricErrors, RegularCadence, SimulatedEvents
from datamodules.microlensing.simulate.events import simulate_block
from datamodules.microlensing.simulate.noise import MAG_TO_RELATIVE
from datamodules.store import RowStore

Columns = dict[str, NDArray[Any]]


def simulate(seed: int = 0, **settings: Any) -> Columns:
    """Simulate one block of events in memory."""
    source = SimulatedEvents(**{"delta_chi2": False, **settings})
    columns, _ = simulate_block(
        source, source.times(seed), source.labels(seed), np.random.SeedSequence(seed)
    )
    return columns


def accuracy(features: NDArray[Any], label: NDArray[Any]) -> float:
    """Train on the first third of the curves and score on the rest."""
    third = len(label) // 3
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    model.fit(features[:third], label[:third])
    return float(model.score(features[third:], label[third:]))


def shape_features(values: NDArray[Any]) -> NDArray[Any]:
    """Summarise curves: quantiles and moments, so that any difference of noise laws shows."""
    quantiles = np.nanquantile(values, [0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1.0], axis=1).T
    mean, std = np.nanmean(values, axis=1), np.nanstd(values, axis=1)
    scaled = (values - mean[:, None]) / std[:, None]
    moments = [mean, std, np.nanmean(scaled**3, axis=1), np.nanmean(scaled**4, axis=1)]
    steps = np.nanmean(np.abs(np.diff(values, axis=1)), axis=1)
    return np.column_stack([quantiles, *moments, steps])


LENS_FREE: dict[str, Any] = {
    # All light is blended: both engines run in full, and no curve is magnified.
    "ranges": {"blend": [1.0, 1.0]},
    "cadence": RegularCadence(32),
    "num_single": 3900,
    "num_binary": 3900,
    "preset": "distinct",
}


@pytest.mark.parametrize("single_lens_prior", ["prior", "matched"])
def test_lens_free_curves_of_both_classes_cannot_be_told_apart(single_lens_prior: str) -> None:
    errors = PhotometricErrors(sigma_mag=0.2)
    columns = simulate(1, **LENS_FREE, photometry=errors, single_lens_prior=single_lens_prior)
    features = shape_features(columns["flux"])
    assert len(features) * 2 // 3 >= 5000
    assert accuracy(features, columns["label"]) == pytest.approx(0.5, abs=0.03)


def test_errors_and_gaps_of_lens_free_curves_do_not_tell_the_class() -> None:
    errors = PhotometricErrors(sigma_mag=0.1, magnitude_dependent=True, floor=0.005, scatter=0.2)
    columns = simulate(2, **LENS_FREE, photometry=errors)
    error, good = columns["flux_error"], columns["good"]
    runs = np.abs(np.diff(good.astype(int), axis=1)).sum(axis=1)
    features = np.column_stack(
        [shape_features(error), good.sum(axis=1), runs, columns["reference_flux_error"]]
    )
    assert accuracy(features, columns["label"]) == pytest.approx(0.5, abs=0.03)


def test_the_classifier_of_the_leak_tests_would_see_the_reference_leak() -> None:
    # The reference adds noise to magnitudes of one class and to magnifications of the other.
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 3000)
    noise = 0.2 * rng.standard_normal((3000, 200))
    flux = np.where(label[:, None] == 0, 10.0 ** (-0.4 * noise), 1.0 + noise)
    assert accuracy(shape_features(flux), label) > 0.95


def test_the_stored_error_is_that_of_the_measured_flux() -> None:
    columns = simulate(3, num_single=20, num_binary=20, cadence=RegularCadence(200))
    good = columns["good"]
    ratio = columns["flux_error"][good] / columns["flux"][good]
    np.testing.assert_allclose(ratio, MAG_TO_RELATIVE * 0.1, rtol=1e-5)
    errors = PhotometricErrors(magnitude_dependent=True, floor=0.01)
    some = simulate(4, num_single=20, num_binary=20, cadence=RegularCadence(200), photometry=errors)
    reference = some["reference_flux"][:, None]
    magnitude = some["baseline_magnitude"][:, None]
    again = errors.sigma(some["flux"] * reference, magnitude) / reference
    np.testing.assert_allclose(some["flux_error"][some["good"]], again[some["good"]], rtol=1e-4)


def test_noise_has_the_size_that_errors_claim() -> None:
    for errors in (
        PhotometricErrors(sigma_mag=0.05),
        PhotometricErrors(sigma_mag=0.05, magnitude_dependent=True, scatter=0.3),
    ):
        columns = simulate(
            5, **{**LENS_FREE, "num_single": 200, "num_binary": 200}, photometry=errors
        )
        pull = (columns["flux"] - 1) / columns["flux_error"]
        assert np.nanstd(pull) == pytest.approx(1.0, abs=0.04)
        assert abs(np.nanmean(pull)) < 0.15


def test_errors_by_magnitude_follow_the_formula() -> None:
    errors = PhotometricErrors(sigma_mag=0.1, magnitude_dependent=True, sky_magnitude=20.0)
    one = np.ones((1, 1), np.float32)
    at = [errors.sigma(one, np.array([[m]]))[0, 0] / MAG_TO_RELATIVE for m in (20.0, 15.0, 24.0)]
    assert at[0] == pytest.approx(0.1, rel=1e-5)
    assert at[1] == pytest.approx(0.1 * np.sqrt(101 / 2) / 100, rel=1e-4)  # photons of the star
    sky = 0.1 * np.sqrt((10**-1.6 + 1) / 2) / 10**-1.6
    assert at[2] == pytest.approx(sky, rel=1e-4)  # photons of the sky


def test_missing_epochs_carry_nothing_and_have_the_asked_share() -> None:
    columns = simulate(6, num_single=50, num_binary=50, missing_fraction=0.4)
    good = columns["good"]
    assert 1 - good.mean() == pytest.approx(0.4, abs=0.01)
    for name in ("flux", "flux_error"):
        assert np.isnan(columns[name][~good]).all()
        assert np.isfinite(columns[name][good]).all()


def test_parameters_belong_to_their_rows() -> None:
    settings = {
        "ranges": {"peak_time": [300.0, 700.0]},
        "photometry": PhotometricErrors(sigma_mag=1e-3),
    }
    columns = simulate(7, preset="distinct", num_single=40, num_binary=40, **settings)
    time = np.linspace(0.0, 1000.0, 1500)
    single = columns["label"] == 0
    u = np.hypot(
        (time - columns["peak_time"][:, None]) / columns["einstein_time"][:, None],
        columns["impact_parameter"][:, None],
    )
    expected = (u**2 + 2) / (u * np.sqrt(u**2 + 4))
    far = columns["good"] & (u > 10 * columns["source_radius"][:, None]) & single[:, None]
    np.testing.assert_allclose(columns["flux"][far], expected[far], rtol=0.01)
    assert np.isnan(columns["mass_ratio"][single]).all()
    assert np.isfinite(columns["mass_ratio"][~single]).all()


def test_reference_flux_is_noisy_and_knows_it() -> None:
    quiet = simulate(8, num_single=300, num_binary=300, cadence=RegularCadence(50))
    pull = (quiet["reference_flux"] - 1) / quiet["reference_flux_error"]
    assert pull.std() == pytest.approx(1.0, abs=0.1)
    assert quiet["reference_flux_error"].mean() == pytest.approx(0.0921 / np.sqrt(50), rel=0.05)
    first = simulate(8, num_single=5, num_binary=5, quiet_epochs=0, cadence=RegularCadence(200))
    pairs = zip(first["flux"], first["good"], strict=True)
    means = [np.nanmean(row[good][:30]) for row, good in pairs]
    np.testing.assert_allclose(means, 1.0, rtol=1e-4)


def test_delta_chi2_and_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"preset": "stellar", "num_single": 24, "num_binary": 24, "delta_chi2": True}
    cadence = RegularCadence(300)
    columns = simulate(9, **settings, cadence=cadence)
    binary = columns["label"] == 1
    assert (columns["delta_chi2"][~binary] == 0).all()
    assert (columns["delta_chi2"][binary] < 10).any()
    source = SimulatedEvents(**settings, cadence=cadence, min_delta_chi2=10.0)
    limited, counts = simulate_block(
        source, source.times(9), source.labels(9), np.random.SeedSequence(9)
    )
    assert (limited["delta_chi2"][limited["label"] == 1] >= 10).all()
    assert counts["below_min_delta_chi2"] > 0
    assert counts["failed"] == 0
    monkeypatch.setattr("datamodules.microlensing.simulate.events.MAX_DRAWS", 3)
    low = SimulatedEvents("planetary", 0, 2, cadence=RegularCadence(50), min_delta_chi2=1e12)
    with pytest.raises(ValueError, match="min_delta_chi2"):
        simulate_block(low, low.times(0), low.labels(0), np.random.SeedSequence(0))


def test_matched_singles_are_the_best_fits_of_binaries() -> None:
    settings = {"preset": "stellar", "photometry": PhotometricErrors(sigma_mag=1e-3)}
    size = {"num_single": 30, "num_binary": 0, "cadence": RegularCadence(300)}
    single = simulate(10, **settings, **size, single_lens_prior="matched", finite_source=False)
    time = np.linspace(0.0, 1000.0, 300)
    u = np.hypot(
        (time - single["peak_time"][:, None]) / single["einstein_time"][:, None],
        single["impact_parameter"][:, None],
    )
    model = (u**2 + 2) / (u * np.sqrt(u**2 + 4))
    model = (1 - single["blend"][:, None]) * model + single["blend"][:, None]
    np.testing.assert_allclose(single["flux"], np.where(single["good"], model, np.nan), rtol=0.02)
    assert np.isnan(single["separation"]).all()
    assert ((single["blend"] >= 0) & (single["blend"] <= 1)).all()


def test_a_failed_binary_is_drawn_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from datamodules.microlensing.simulate.magnification import MagnificationEngine

    original, calls = MagnificationEngine._inner, []

    def sometimes(self: MagnificationEngine, *args: Any) -> NDArray[Any]:
        calls.append(1)
        values = original(self, *args)
        return np.full_like(values, np.nan) if len(calls) % 4 == 0 else values

    monkeypatch.setattr(MagnificationEngine, "_inner", sometimes)
    source = SimulatedEvents(
        "critical", 6, 12, cadence=RegularCadence(60), missing_fraction=0.0, delta_chi2=False
    )
    columns, counts = simulate_block(
        source, source.times(0), source.labels(0), np.random.SeedSequence(0)
    )
    assert counts["failed"] == len(calls) - 12 > 0
    assert np.isfinite(columns["flux"][columns["good"]]).all()
    assert (columns["label"] == 1).sum() == 12


def test_the_same_seed_gives_the_same_events_with_one_and_two_workers(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "num_single": 24,
        "num_binary": 24,
        "block_size": 12,
        "cadence": OGLECadence(num_fields=3),
        "window": [0.0, 400.0],
    }
    stores = []
    for workers in (1, 2):
        path = tmp_path / f"{workers}.h5"
        SimulatedEvents(**settings, simulation_workers=workers).prepare(path, 3)
        stores.append(RowStore(path, "astrolit.microlensing"))
    one, two = stores
    assert one.attributes == two.attributes
    np.testing.assert_array_equal(one.read_shared("time"), two.read_shared("time"))
    first, second = one.read(), two.read()
    for name in ("flux", "flux_error", "reference_flux"):
        np.testing.assert_array_equal(np.isnan(first[name]), np.isnan(second[name]))
        np.testing.assert_array_max_ulp(
            np.nan_to_num(first[name]), np.nan_to_num(second[name]), maxulp=1
        )
    for name in set(first) - {"flux", "flux_error", "reference_flux", "delta_chi2"}:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-9, err_msg=name)
    other = SimulatedEvents(**settings, simulation_workers=1)
    other.prepare(tmp_path / "other.h5", 4)
    assert not np.array_equal(RowStore(tmp_path / "other.h5").read()["flux"], first["flux"])


def test_parallax_and_binary_sources_come_in_both_classes() -> None:
    columns = simulate(
        11,
        num_single=40,
        num_binary=40,
        ranges={"parallax": [0.1, 0.5]},
        binary_source_share=0.5,
        cadence=RegularCadence(50),
    )
    length = np.hypot(columns["parallax_north"], columns["parallax_east"])
    assert length.min() >= 0.1
    for label in (0, 1):
        two = columns["flux_ratio"][columns["label"] == label] > 0
        assert 0.2 < two.mean() < 0.8


def test_constant_and_variable_stars_are_further_classes() -> None:
    settings = {
        "num_flat": 30,
        "num_variable": 30,
        "single_lens_prior": "matched",
        "preset": "distinct",
    }
    columns = simulate(12, num_single=5, num_binary=5, **settings, cadence=RegularCadence(200))
    flat, variable = columns["label"] == 2, columns["label"] == 3
    pull = (columns["flux"] - 1) / columns["flux_error"]
    assert np.nanstd(pull[flat]) == pytest.approx(1.0, abs=0.1)
    assert np.nanstd(pull[variable]) > 2
    for name in ("peak_time", "mass_ratio", "delta_chi2"):
        assert np.isnan(columns[name][flat | variable]).all()
    assert np.isfinite(columns["baseline_magnitude"]).all()
    assert np.bincount(columns["label"]).tolist() == [5, 5, 30, 30]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"num_single": 0, "num_binary": 0}, "num_single"),
        ({"missing_fraction": 1.0}, "missing_fraction"),
        ({"binary_source_share": 0.5, "single_lens_prior": "matched"}, "binary sources"),
        ({"preset": "huge"}, "preset"),
        ({"window": [10.0, 0.0]}, "window"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SimulatedEvents(**settings)
