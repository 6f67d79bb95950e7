from dataclasses import replace

import numpy as np
import pytest

from callbacks.metrics.ranking import Ranking, area_under_roc
from callbacks.sidm.populations import Population
from callbacks.sidm.rejection import MapScores
from tests.callbacks.sidm.toy import draw, known


def test_the_mahalanobis_distance_is_to_the_nearest_mean_in_units_of_the_scatter() -> None:
    scores = MapScores().fit(known(4000))
    place = Population("x", np.array([[[0.0, 3.0, 0.0]], [[0.0, 0.0, 0.0]]]), np.arange(2))
    np.testing.assert_allclose(scores.mahalanobis(place), [9.0, 0.0], atol=0.5)


@pytest.mark.parametrize("score", ["mahalanobis", "nearest_neighbours"])
def test_far_maps_score_high_and_known_ones_do_not(score: str) -> None:
    scores = MapScores().fit(known(300))
    inside, foreign = draw("x", 0.2, 200, 1), draw("y", 0.2, 200, 2)
    foreign.latent[..., 1] += 5.0
    values = [getattr(scores, score)(x) for x in (inside, foreign)]
    assert all(v.shape == (200,) for v in values)
    curve = Ranking(np.repeat([0, 1], 200), np.concatenate(values)).curve()
    assert area_under_roc(curve) > 0.97


def test_a_stretched_axis_changes_no_score() -> None:
    anchors, observed = known(300), draw("x", 0.2, 50, 1)
    stretch = np.array([40.0, 1.0, 1.0])
    wide = [Population(x.name, x.latent * stretch, x.halo, x.cross_section) for x in anchors]
    plain, stretched = MapScores().fit(anchors), MapScores().fit(wide)
    for score in ("mahalanobis", "nearest_neighbours"):
        found = getattr(stretched, score)(replace(observed, latent=observed.latent * stretch))
        np.testing.assert_allclose(found, getattr(plain, score)(observed), rtol=1e-6)


def test_a_foreign_profile_is_noticed_where_the_latent_is_not_foreign() -> None:
    def described(one: Population, shift: float) -> Population:
        rng = np.random.default_rng(one.num_maps)
        return replace(one, profile=shift + rng.normal(size=(one.num_maps, 2)))

    scores = MapScores().fit([described(one, 0.0) for one in known(300)])
    inside, foreign = (described(draw("x", 0.2, 200, 1), shift) for shift in (0.0, 5.0))
    assert scores.mahalanobis(foreign).min() > np.median(scores.mahalanobis(inside))
