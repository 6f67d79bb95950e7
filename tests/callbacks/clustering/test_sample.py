"""What is known of the objects: columns by name, scales, subsets."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from callbacks.clustering.sample import (
    StarSample,
    make_subsets,
    pick_astrometry,
    scale_features,
    sees_photometry,
)


def test_without_a_test_split_all_is_the_only_subset(run_of: Any) -> None:
    for rows in ({"label": np.zeros(4)}, {"split": [0, 0, 1, 1]}, {"split": [2, 2, 2, 2]}):
        (subset,) = make_subsets(run_of(**rows))
        assert subset.split == "all"
        for mask in (subset.scored, subset.fitted, subset.aligned):
            assert mask.all()


def test_astrometry_is_found_by_name() -> None:
    features = np.arange(6.0).reshape(2, 3)
    picked = pick_astrometry(features, ["pmdec", "magnitude", "pmra"])
    np.testing.assert_allclose(picked[:, 3:], [[2, 0], [5, 3]])
    assert np.isnan(picked[:, :3]).all()


def test_features_are_scaled_on_the_training_split_and_gaps_are_zero(run_of: Any) -> None:
    features = np.array([[0.0, np.nan], [1, 5], [2, 5], [3, 5], [1000, 5]])
    scaled = scale_features(features, run_of(split=[0, 0, 0, 0, 2]))
    assert scaled[0, 1] == 0
    assert scaled[4, 0] == pytest.approx((1000 - 1.5) / (1.5 / 1.349), rel=1e-3)


def test_photometry_is_scaled_beside_the_features_where_the_stars_have_it(run_of: Any) -> None:
    rows = {
        "features": np.arange(10.0).reshape(5, 2),
        "magnitude": np.array([15.0, 16.0, np.nan, 18.0, 99.0]),
        "colour": np.array([0.5, 1.0, 1.5, np.nan, 9.0]),
        "parallax_error": np.ones(5),
    }
    run = run_of(split=[0, 0, 0, 0, 2], **rows)
    found = StarSample.of_run(run).with_photometry(run)
    assert found is not None
    np.testing.assert_array_equal(found[:, :2], StarSample.of_run(run).scaled)
    assert found[[1, 2], 2].tolist() == [0, 0]  # the training split's median, and absent
    assert found[1, 3] == found[3, 3] == 0
    assert found[4, 2] > found[3, 2] > 0 > found[0, 2]
    for absent in ({"colour": np.full(5, np.nan)}, {"magnitude": [np.nan] * 4 + [15.0]}):
        other = run_of(**run.rows | absent)
        assert StarSample.of_run(other).with_photometry(other) is None
    named = run_of(SimpleNamespace(features=["x", "colour"], training_statistics=dict), **rows)
    assert StarSample.of_run(named).with_photometry(named) is None  # the features hold it


@pytest.mark.parametrize("needs", [(), ("magnitude",), ("colour", "features", "magnitude")])
def test_who_needs_magnitude_and_colour_sees_photometry(needs: tuple[str, ...]) -> None:
    module = SimpleNamespace(expected_shapes=lambda: dict.fromkeys(needs))
    assert sees_photometry(module) == (len(needs) == 3)
    assert not sees_photometry(None)
