"""The batched fit finds what was put in, respects bounds, and agrees with scipy's search."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from datamodules.microlensing.simulate.magnification import MagnificationEngine
from datamodules.microlensing.simulate.presets import EventSettings
from lightning_modules.physics.point_lens import pspl
from lightning_modules.physics.single_lens_fit import Curves, fit_single_lens, starting_points


def test_a_blended_single_lens_is_recovered_exactly() -> None:
    time = np.linspace(0.0, 1000.0, 700)[None].repeat(3, axis=0)
    truth = np.array([[400.0, 0.1, 30.0, 0.3], [550.0, 0.5, 80.0, 1.0], [200.0, 0.02, 15.0, 0.8]])
    t0, u0, width, share = truth.T[:, :, None]
    flux = share * pspl(np.hypot((time - t0) / width, u0)) + 1 - share
    weight = np.where(np.random.default_rng(0).random(time.shape) < 0.2, 0.0, 20.0)
    starts = np.stack([truth[:, 0] + 5, truth[:, 1] * 2, np.log(truth[:, 2] * 0.6)], axis=1)
    fit = fit_single_lens(Curves(time, flux, weight), starts[:, None])
    assert fit.chi2.max() < 1e-3
    np.testing.assert_allclose(fit.peak_time, truth[:, 0], atol=0.05)
    np.testing.assert_allclose(fit.einstein_time, truth[:, 2], rtol=0.01)
    np.testing.assert_allclose(fit.source_flux, truth[:, 3], rtol=0.02)


def test_blend_stays_within_its_bounds() -> None:
    # A curve that would want negative blended light: (A - 1) times 1.5 about a baseline of 1.
    time = np.linspace(0.0, 200.0, 400)[None]
    magnification = pspl(np.hypot((time - 100.0) / 20.0, 0.3))
    flux = 1.0 + 1.5 * (magnification - 1)
    fit = fit_single_lens(
        Curves(time, flux, np.full_like(time, 50.0)), np.array([[[99, 0.3, 3.0]]])
    )
    assert fit.blend_flux[0] == 0.0
    assert fit.source_flux[0] > 0


def test_chi2_is_no_worse_than_that_of_scipy_from_the_truth() -> None:
    count = 24
    settings = EventSettings("distinct", ranges={"blend": [0.0, 0.5]})
    rng = np.random.default_rng(5)
    events = settings.draw(rng, count)
    time = np.linspace(*settings.days, 600)[None].repeat(count, axis=0)
    good = rng.random(time.shape) > 0.2
    lens = MagnificationEngine(268.0, -29.0, finite_source=False)
    flux = lens.magnify(events, np.ones(count, bool), time, good, np.full(count, 1e-2)).astype(
        float
    )
    flux = (1 - events["blend"][:, None]) * flux + events["blend"][:, None]
    weight = np.where(good, 1 / (0.0921 * flux), 0.0)
    fit = fit_single_lens(Curves(time, flux, weight), starting_points(events, time, flux * good))

    def scipy_chi2(row: int) -> float:
        def residuals(theta: np.ndarray) -> np.ndarray:
            u = np.hypot((time[row] - theta[0]) / np.exp(theta[2]), theta[1])
            design = np.stack([pspl(u), np.ones_like(u)]) * weight[row]
            wanted = flux[row] * weight[row]
            source, blend = np.linalg.lstsq(design.T, wanted, rcond=None)[0]
            if blend < 0:
                source, blend = design[0] @ wanted / (design[0] @ design[0]), 0.0
            return wanted - source * design[0] - blend * design[1]

        start = [
            events["peak_time"][row],
            events["impact_parameter"][row],
            np.log(events["einstein_time"][row]),
        ]
        return float(2 * least_squares(residuals, start).cost)

    theirs = np.array([scipy_chi2(row) for row in range(count)])
    assert (fit.chi2 <= 1.02 * theirs + 0.1).all()
    assert np.median(fit.chi2) == pytest.approx(np.median(theirs), rel=0.2)


def test_a_finite_source_and_parallax_are_no_deviation_from_a_single_lens() -> None:
    rng = np.random.default_rng(2)
    count = 16
    ranges = {"source_radius": [0.05, 0.1], "impact_parameter": [0.001, 0.1]}
    settings = EventSettings(ranges={**ranges, "parallax": [0.1, 0.3]})
    events = settings.draw(rng, count)
    time = np.linspace(*settings.days, 800)[None].repeat(count, axis=0)
    good = np.ones(time.shape, dtype=bool)
    lens = MagnificationEngine(268.0, -29.0, finite_source=True)
    single = np.zeros(count, dtype=bool)
    flux = lens.magnify(events, single, time, good, np.full(count, 1e-3)).astype(float)
    parallax = lens.parallax(events, time)
    assert parallax is not None
    crossing_time = events["source_radius"] * events["einstein_time"]
    curves = Curves(time, flux, 1 / (0.0921 * flux), *parallax, crossing_time)
    start = [events["peak_time"], events["impact_parameter"], np.log(events["einstein_time"])]
    fit = fit_single_lens(curves, np.stack(start, axis=1)[:, None])
    assert fit.chi2.max() < 0.5
