import numpy as np
import pytest
from scipy.stats import norm

from callbacks.sidm.confidence import (
    OverlapTest,
    density_overlap,
    latent_overlap,
    nearest_known,
    two_sample_test,
)
from callbacks.sidm.populations import Population
from tests.callbacks.sidm.toy import COORDINATE, curved, draw, known


def test_a_sample_overlaps_itself_and_nothing_far_away() -> None:
    sample = np.random.default_rng(0).normal(size=500)
    assert density_overlap(sample, sample) == pytest.approx(1.0, abs=5e-3)
    assert density_overlap(sample, sample + 50) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0, 3.0])
def test_two_normals_overlap_by_the_tails_between_them(distance: float) -> None:
    quantiles = norm.ppf((np.arange(20000) + 0.5) / 20000)
    overlap = density_overlap(quantiles, quantiles + distance)
    assert overlap == pytest.approx(2 * norm.cdf(-distance / 2), abs=0.015)
    assert density_overlap(quantiles + distance, quantiles) == pytest.approx(overlap, abs=1e-6)


def test_the_latent_overlap_does_not_look_at_the_first_dimension() -> None:
    here = draw("a", 0.1, 500, 0)
    there = Population("b", here.latent + np.array([100.0, 0.0, 0.0]), here.halo, 0.1)
    assert latent_overlap(here, there) > 0.99
    away = Population("c", here.latent + np.array([0.0, 100.0, 0.0]), here.halo, 0.1)
    assert latent_overlap(here, away) < 1e-6


def test_a_foreign_population_overlaps_less_than_neighbours_do() -> None:
    test = OverlapTest(known(200, curved), num_resamples=20)
    inside, foreign = draw("x", 0.2, 150, 1, curved), draw("y", 0.2, 150, 1, curved)
    foreign.latent[..., 2] += 6.0
    best = {x.name: max(test.overlaps(x).values()) for x in (inside, foreign)}
    assert test.p_value(best["x"], 150, 0.2) > 0.2
    assert test.p_value(best["y"], 150, 0.2) == pytest.approx(1 / 21)


def test_the_reference_of_a_value_is_between_its_neighbours() -> None:
    anchors = known(400)
    reference = nearest_known(anchors, 0.2, COORDINATE)
    assert reference.name == "sidm_0.1+sidm_0.3"
    u = float(COORDINATE.of(0.2))
    assert reference.latent[..., 0].mean() == pytest.approx(2 * u, abs=0.15)
    assert nearest_known(anchors, 1.5, COORDINATE) is anchors[-1]
    assert nearest_known(anchors, 0.0, COORDINATE) is anchors[0]


def test_the_two_sample_test_finds_what_is_foreign_and_nothing_else() -> None:
    anchors = known(400, curved)
    inside, foreign = draw("x", 0.2, 200, 1, curved), draw("y", 0.2, 200, 1, curved)
    foreign.latent[..., 2] += 2.0
    reference = nearest_known(anchors, 0.2, COORDINATE)
    assert two_sample_test(inside, reference).auc < 0.6
    found = two_sample_test(foreign, reference)
    assert found.auc == pytest.approx(norm.cdf(2 / np.sqrt(2)), abs=0.05)
    assert found.auc > found.limit == 0.75


def test_a_small_population_is_not_called_foreign_by_chance() -> None:
    reference = draw("a", 0.2, 20, 0)
    found = [two_sample_test(draw("x", 0.2, 20, seed), reference) for seed in range(1, 41)]
    assert found[0].limit == pytest.approx(0.5 + 3 * np.sqrt(41 / 4800))
    assert sum(one.auc > one.limit for one in found) <= 1
