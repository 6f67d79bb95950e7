import numpy as np

from lightning_modules.physics.anomaly import anomaly_scores, largest_window
from lightning_modules.physics.point_lens import pspl

TIME = np.tile(np.linspace(0.0, 400.0, 600), (40, 1))


def single_lenses(rng: np.random.Generator) -> np.ndarray:
    peak, impact, width = (rng.uniform(*r, (40, 1)) for r in ((80, 320), (0.05, 0.8), (10, 60)))
    return 0.7 * pspl(np.hypot((TIME - peak) / width, impact)) + 0.3


def test_largest_window_in_closed_form() -> None:
    residuals = np.zeros((2, 50))
    residuals[0, 20:30] = 2.0  # ten epochs of two sigma: (10 x 2)^2 / 10
    residuals[1, 5] = -5.0
    assert np.allclose(largest_window(residuals), [40.0, 25.0])


def test_single_lenses_fit_and_a_bump_does_not() -> None:
    rng = np.random.default_rng(1)
    true = single_lenses(rng)
    good = rng.random(true.shape) > 0.2
    error = np.full(true.shape, 0.02)
    flux = true + 0.02 * rng.normal(size=true.shape)
    excess, window = anomaly_scores(TIME, flux, error, good).T
    # chi^2 minus degrees of freedom has mean 0 and deviation sqrt(2 x 475) = 31.
    assert abs(np.median(excess)) < 25
    assert excess.max() < 5 * 31
    bumped = flux + 0.1 * (np.abs(TIME - 200) < 5)
    higher, wider = anomaly_scores(TIME, bumped, error, good).T
    assert np.median(higher - excess) > 100
    assert (wider > window).mean() > 0.9


def test_epochs_that_do_not_count_change_nothing() -> None:
    rng = np.random.default_rng(2)
    flux = single_lenses(rng) + 0.05 * rng.normal(size=TIME.shape)
    error = np.full(TIME.shape, 0.05)
    good = TIME < 200
    spoiled = np.where(good, flux, np.nan)
    assert np.array_equal(
        anomaly_scores(TIME, flux, error, good), anomaly_scores(TIME, spoiled, error, good)
    )
    assert np.array_equal(anomaly_scores(TIME, flux, error, good & (TIME < 2)), np.zeros((40, 2)))
