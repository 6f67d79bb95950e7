"""Expectation maximisation climbs, and is scikit-learn's where there are no errors."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from lightning_modules.clustering.mixture import em
from tests.lightning_modules.clustering.mixture.drawing import draw, full, mixture, square, tensor


def test_every_step_raises_the_likelihood() -> None:
    truth, sky = mixture(), square()
    stars, _ = draw(truth, 3000)
    start = truth._replace(
        centre=truth.centre + 0.05, shape=2.0 * truth.shape, mean=truth.mean + 0.3,
        dispersion=2.0 * truth.dispersion, field_mean=truth.field_mean + 1.0,
        weight=torch.full((4,), 0.25, dtype=torch.float64),
    )  # fmt: skip
    parameters, values = start, []
    for _ in range(25):
        share, parts, value = em.expect(parameters, stars, sky)
        values.append(value)
        parameters = em.maximise(parameters, share, parts, stars, sky)
    assert (np.diff(values) > -1e-6).all()
    assert values[-1] > values[0] + 0.1
    torch.testing.assert_close(parameters.mean, truth.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(parameters.centre, truth.centre, rtol=0, atol=0.01)
    torch.testing.assert_close(parameters.dispersion, truth.dispersion, rtol=0.15, atol=0)


@pytest.mark.filterwarnings("ignore:.*did not converge.*")
def test_without_errors_the_field_is_scikit_learns_mixture() -> None:
    p = mixture(0, 2)
    stars, _ = draw(p, 1000)
    stars = stars._replace(covariance=torch.zeros_like(stars.covariance))
    share, parts, _ = em.expect(p, stars, square())
    found = em.maximise(p, share, parts, stars, square())
    precision = np.linalg.inv(full(p.field_covariance).numpy())
    model = GaussianMixture(
        2, max_iter=1, reg_covar=1e-6, weights_init=p.weight.numpy(),
        means_init=p.field_mean.numpy(), precisions_init=precision,
    ).fit(stars.motion.numpy())  # fmt: skip
    np.testing.assert_allclose(found.weight, model.weights_, rtol=1e-8)
    np.testing.assert_allclose(found.field_mean, model.means_, rtol=1e-6)
    np.testing.assert_allclose(full(found.field_covariance), model.covariances_, rtol=1e-6)


def test_the_mean_is_that_of_least_squares_where_nothing_spreads() -> None:
    """With σ = 0 the step is the error-weighted mean; the usual one would not move at all."""
    p = mixture(1, 1)._replace(weight=tensor(1.0, 0.0), dispersion=tensor(1e-9))
    stars, _ = draw(p, 500)
    share, parts, _ = em.expect(p._replace(mean=p.mean + 0.1), stars, square())
    found = em.maximise(p._replace(mean=p.mean + 0.1), share, parts, stars, square())
    precision = torch.linalg.inv(full(stars.covariance))
    pull = (precision @ stars.motion[..., None]).sum(0)
    expected = torch.linalg.solve(precision.sum(0), pull)[:, 0]
    torch.testing.assert_close(found.mean[0], expected, rtol=1e-6, atol=1e-6)


def test_the_error_of_a_mean_motion_falls_with_the_stars_that_have_one() -> None:
    p = mixture(1, 1)._replace(weight=tensor(1.0, 0.0), dispersion=tensor(1e-9))
    stars, _ = draw(p, 500)
    alike = tensor(0.01, 0.0, 0.0, 0.04, 0.0, 0.04).expand(500, 6)
    stars = stars._replace(covariance=alike)
    found = em.error_of_motion(p, stars, square())
    expected = p.error_scale * 0.2 / 500**0.5
    torch.testing.assert_close(found, expected[None], rtol=0.01, atol=0.0)
    known = torch.ones(500, 3, dtype=torch.bool)
    known[:375, 1:] = False
    found = em.error_of_motion(p, stars._replace(known=known), square())
    torch.testing.assert_close(found, 2.0 * expected[None], rtol=0.01, atol=0.0)


def test_stars_without_motions_change_no_motion() -> None:
    p = mixture()
    stars, _ = draw(p, 1000)
    blind = stars._replace(known=torch.zeros_like(stars.known))
    share, parts, _ = em.expect(p, blind, square())
    found = em.maximise(p, share, parts, blind, square())
    torch.testing.assert_close(found.field_mean, p.field_mean)
    torch.testing.assert_close(found.dispersion, p.dispersion)
    assert not torch.allclose(found.centre, p.centre, atol=1e-5)
