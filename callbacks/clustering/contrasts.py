"""Physical contrasts between groups of stars and the field; no labels."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callbacks.clustering.alignment import Clustering
from callbacks.metrics.ranking import divide

Array = NDArray[Any]
CONTRASTS = ("spatial_compactness", "kinematic_coherence", "distance_homogeneity")
MIN_STARS = 10


def contrasts(clustering: Clustering, features: Array, parallax_error: Array) -> dict[str, float]:
    """Compare each group with the field in position, proper motion and distance; no labels.

    For a group g with centre c_g (the medians of its stars) and a distance d from that centre,

        Q_g = 1 - median(d of the stars of g) / median(d of the field stars),

    averaged over groups with weights the number of stars. Q is 1 for a point, 0 for stars that
    scatter about c_g as the field does, negative if they scatter more; it has no units. d is

    * `spatial_compactness`: the angular distance |(x, y) - c_g|;
    * `kinematic_coherence`: the distance in proper motion |mu - c_g|;
    * `distance_homogeneity`: |parallax - c_g| / error of the star's parallax, so that faint stars
      of large error do not pass for a spread in distance.

    The field is the column that means "no cluster" (HDBSCAN's noise), else the group with the
    largest median distance in proper motion from its own centre. Groups of fewer than 10 stars
    are left out; without two groups the contrasts are NaN.

    Args:
        clustering: The groups.
        features: x, y [deg], parallax [mas], proper motions [mas/yr], shape (n, 5).
        parallax_error: mas, shape (n,).
    """
    groups, field = find_groups(clustering, features)
    if not groups or field is None:
        return dict.fromkeys(CONTRASTS, float("nan"))
    outside = clustering.assignment == field
    total, stars = np.zeros(3), 0
    for group in groups:
        inside = clustering.assignment == group
        d = _distances(features, parallax_error, inside)
        total += inside.sum() * (1 - divide(_medians(d[:, inside]), _medians(d[:, outside])))
        stars += inside.sum()
    return dict(zip(CONTRASTS, (total / stars).tolist(), strict=True))


def find_groups(clustering: Clustering, features: Array) -> tuple[list[int], int | None]:
    """Return the columns that are groups and the column that is the field; see `contrasts`."""
    sizes = np.bincount(clustering.assignment, minlength=clustering.num_columns)
    large = [int(column) for column in np.flatnonzero(sizes >= MIN_STARS)]
    field = clustering.field_column
    if field is None and len(large) > 1 and np.isfinite(features[:, 3:5]).any():
        field = max(large, key=lambda column: _spread(features[clustering.assignment == column]))
    if field not in large:
        return large, None
    return [column for column in large if column != field], field


def _spread(features: Array) -> float:
    """Return the median distance in proper motion from the centre."""
    motion = features[:, 3:5]
    return float(_medians(np.linalg.norm(motion - _medians(motion.T), axis=1)))


def _distances(features: Array, parallax_error: Array, inside: Array) -> Array:
    """Return the three distances of all stars from the centre of some, shape (3, n)."""
    offset = features - _medians(features[inside].T)
    place, motion = (np.linalg.norm(offset[:, part], axis=1) for part in ([0, 1], [3, 4]))
    return np.stack([place, motion, np.abs(offset[:, 2]) / parallax_error])


def _medians(values: Array) -> Array:
    """Return medians over the last axis of what is finite, NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.nanmedian(values, -1)
