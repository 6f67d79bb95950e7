import numpy as np
import pytest

from callbacks.report.bootstrap import Bootstrap
from callbacks.report.scope import Scope
from callbacks.report.table import Report
from callbacks.spectra.fidelity import (
    PixelSums,
    add_fidelity,
    add_windows,
    hidden_pixels,
    hidden_scores,
    hide,
    star_scores,
)

CHIPS = [slice(0, 40), slice(40, 70), slice(70, 100)]
NUM, PIXELS, ERROR = 400, 100, 0.02


def observed(seed: int = 0, noise: float = 1.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = 1 - 0.3 * rng.random((NUM, PIXELS))
    good = rng.random((NUM, PIXELS)) > 0.1
    flux = truth + noise * ERROR * rng.normal(size=(NUM, PIXELS))
    flux[~good] = rng.choice([np.nan, 1e9, -1e9], size=(~good).sum())
    spectra = {
        "index": np.arange(NUM) + 7,
        "flux": flux.astype(np.float32),
        "flux_ivar": np.where(good, ERROR**-2, 0).astype(np.float32),
        "good": good,
        "label": np.zeros((NUM, 3), np.float32),
    }
    return spectra, truth.astype(np.float32)


def report_of(spectra: dict[str, np.ndarray], model: np.ndarray, truth: np.ndarray) -> dict:
    pixels = PixelSums(PIXELS, CHIPS)
    for half in (slice(0, 150), slice(150, None)):
        pixels.add({name: values[half] for name, values in spectra.items()}, model[half])
    scores = star_scores(spectra, model, CHIPS, truth)
    hidden = hidden_pixels(spectra["index"], spectra["good"], 0)
    scores |= hidden_scores(spectra, model, hidden)
    report = Report("spectra", "held_out", NUM)
    scope = Scope(report, "model", Bootstrap(50))
    add_fidelity(scope, scores, pixels)
    wavelength = 15000 + 0.2 * np.arange(PIXELS)
    add_windows(scope, pixels, wavelength, {"Mg": [(15002.0, 15004.0)]})
    return report.as_dict()


def test_the_truth_has_chi2_of_one() -> None:
    spectra, truth = observed()
    found = report_of(spectra, truth, truth)
    for key in ("chi2", "chi2_hidden", "chi2/chip=blue", "chi2/chip=red"):
        error = found[f"model/{key}_std"]
        assert abs(found[f"model/{key}"] - 1) < 4 * error
        assert error < 0.03
    assert abs(found["model/pull_lag_one"]) < 0.02
    assert found["model/rms_to_truth"] == 0
    assert found["model/pull_rms/element=Mg"] == pytest.approx(1, abs=0.05)


def test_an_offset_is_found_everywhere() -> None:
    spectra, truth = observed(noise=0.0)
    found = report_of(spectra, truth - 2 * ERROR, truth)
    assert found["model/chi2"] == pytest.approx(4, rel=1e-4)
    assert found["model/chi2_star_median"] == pytest.approx(4, rel=1e-4)
    assert found["model/pull_mean"] == pytest.approx(2, rel=1e-4)
    assert found["model/pull_lag_one"] == pytest.approx(1, rel=1e-3)
    assert found["model/rms_to_truth"] == pytest.approx(2 * ERROR, rel=1e-4)
    assert found["model/residual_rms"] == pytest.approx(2 * ERROR, rel=1e-4)
    # Lines too deep by 2 errors over the 11 pixels of 0.2 A.
    expected = 2 * ERROR * 11 * 0.2 * 1e3
    assert found["model/equivalent_width_bias/element=Mg"] == pytest.approx(expected, rel=1e-3)


def test_denoising_gain() -> None:
    spectra, truth = observed()
    rng = np.random.default_rng(1)
    model = truth + 0.25 * ERROR * rng.normal(size=truth.shape)
    found = report_of(spectra, model, truth)
    assert found["model/denoising_gain"] == pytest.approx(4, rel=0.03)


def test_neighbours_across_a_gap_are_no_pair() -> None:
    sums = PixelSums(PIXELS, CHIPS)
    spectra, truth = observed(noise=0.0)
    spectra["good"][:] = True
    spectra["flux"] = truth
    sums.add(spectra, truth - 1)
    assert sums["pairs"].sum() == NUM * (PIXELS - len(CHIPS))
    assert sums["pairs"][[40, 70]].tolist() == [0, 0]


def test_hiding_depends_on_the_star_alone_and_leaves_no_trace() -> None:
    spectra, _ = observed()
    hidden = hidden_pixels(spectra["index"], spectra["good"], 3)
    assert hidden.sum() / spectra["good"].sum() == pytest.approx(0.15, abs=0.01)
    assert not (hidden & ~spectra["good"]).any()
    again = hidden_pixels(spectra["index"][5:9], spectra["good"][5:9], 3)
    assert np.array_equal(hidden[5:9], again)
    seen = hide(spectra, hidden)
    assert np.isnan(seen["flux"][hidden]).all()
    assert (seen["flux_ivar"][hidden] == 0).all()
    assert np.array_equal(seen["good"], spectra["good"] & ~hidden)


def test_a_star_without_good_pixels_has_no_chi2() -> None:
    spectra, truth = observed()
    spectra["good"][3] = False
    found = report_of(spectra, truth, truth)
    assert found["model/chi2_star_median"] == pytest.approx(1, abs=0.1)
    assert found["model/chi2"] == pytest.approx(1, abs=0.05)
