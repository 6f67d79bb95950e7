"""Fisher scoring: derivatives, the information, and steps that never end lower."""

import pytest
import torch

from lightning_modules.clustering.mixture import scoring
from lightning_modules.clustering.mixture.coordinates import coordinates, parameters_at
from lightning_modules.clustering.mixture.likelihood import Integrals, log_terms
from tests.lightning_modules.clustering.mixture.drawing import draw, mixture, square


def value(theta: torch.Tensor, stars: object, sky: object) -> torch.Tensor:
    p = parameters_at(theta, 2, 2)
    integrals = Integrals.of(p, sky)  # type: ignore[arg-type]
    likelihood = log_terms(p, integrals, stars).logsumexp(1).sum()  # type: ignore[arg-type]
    return likelihood + scoring.log_prior(p)


def target(theta: torch.Tensor, stars: object, sky: object) -> scoring.Target:
    p = parameters_at(theta, 2, 2)
    integrals = Integrals.of(p, sky)  # type: ignore[arg-type]
    sums, _ = scoring.information(p, integrals, stars)  # type: ignore[arg-type]
    return scoring.Target.of(p, sky, sums, scoring.log_prior)  # type: ignore[arg-type]


def test_coordinates_and_back() -> None:
    p = mixture()
    again = parameters_at(coordinates(p), 2, 2)
    for name, values in p._asdict().items():
        torch.testing.assert_close(getattr(again, name), values, msg=name)


def test_the_gradient_is_that_of_finite_differences() -> None:
    stars, _ = draw(mixture(), 300)
    sky, theta = square(), coordinates(mixture()) + 0.03
    found = target(theta, stars, sky)
    assert float(found.value) == pytest.approx(float(value(theta, stars, sky)), rel=1e-12)
    step = 1e-5 * torch.eye(len(theta), dtype=torch.float64)
    for i in range(len(theta)):
        up, down = (value(theta + sign * step[i], stars, sky) for sign in (1, -1))
        assert float(found.gradient[i]) == pytest.approx(
            float(up - down) / 2e-5, rel=1e-4, abs=1e-3
        )


@pytest.mark.slow
def test_the_information_is_the_curvature_at_the_truth() -> None:
    """On stars drawn from the model itself, to the noise of a finite sample."""
    stars, _ = draw(mixture(), 20000)
    sky, theta = square(), coordinates(mixture())
    found = target(theta, stars, sky).curvature
    step, rows = 1e-4, []
    for i in range(len(theta)):
        shift = torch.zeros_like(theta)
        shift[i] = step
        gradients = [target(theta + sign * shift, stars, sky).gradient for sign in (1, -1)]
        rows.append((gradients[1] - gradients[0]) / (2 * step))
    hessian = torch.stack(rows)
    root = hessian.diagonal().sqrt()
    relative = (found - hessian) / (root[:, None] * root)
    assert float(relative.abs().max()) < 0.12


def test_the_truth_is_recovered_within_its_errors() -> None:
    stars, _ = draw(mixture(), 6000)
    sky, truth = square(), mixture()
    start = truth._replace(mean=truth.mean + 0.1, error_scale=truth.error_scale * 0.8)
    best, last = scoring.climb(start, stars, sky, tolerance=1e-3)
    theta = coordinates(best)
    assert last > float(value(coordinates(truth), stars, sky))
    found = target(theta, stars, sky)
    assert float(found.gradient @ torch.linalg.solve(found.curvature, found.gradient)) < 0.1
    pulls = (theta - coordinates(truth)) / torch.linalg.inv(found.curvature).diagonal().sqrt()
    assert float(pulls.abs().max()) < 4.0
    assert float(pulls.square().mean()) < 2.0


def test_a_step_that_makes_it_worse_is_taken_back() -> None:
    stars, _ = draw(mixture(), 500)
    sky, theta = square(), coordinates(mixture())
    ascent = scoring.Ascent()
    first, _ = ascent.step(theta, target(theta, stars, sky))
    bad = theta + 0.5
    second, gain = ascent.step(bad, target(bad, stars, sky))
    assert ascent.theta is theta
    assert (second - theta).norm() < (first - theta).norm()
    assert gain > 0
    copy = scoring.Ascent()
    copy.restore(ascent.state())
    bad = theta + 0.2
    assert copy.next is second
    assert torch.equal(
        copy.step(bad, target(bad, stars, sky))[0], ascent.step(bad, target(bad, stars, sky))[0]
    )


def test_an_ascent_moves_to_another_device_whole() -> None:
    stars, _ = draw(mixture(), 100)
    theta, ascent = coordinates(mixture()), scoring.Ascent()
    ascent.to(torch.device("meta"))  # nothing yet
    ascent.step(theta, target(theta, stars, square()))
    ascent.to(torch.device("meta"))
    assert ascent.target is not None
    values = [value for value in vars(ascent).values() if isinstance(value, torch.Tensor)]
    assert len(values) == 3
    assert {value.device.type for value in (*values, *ascent.target)} == {"meta"}
