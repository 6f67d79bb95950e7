"""Quality cuts: what they keep, what they count, what they refuse."""

import numpy as np
import pytest

from datamodules.clustering.quality import apply_cuts, check_cuts

COLUMNS = {
    "ruwe": np.array([1.0, 1.4, 1.5, np.nan], dtype=np.float32),
    "visibility_periods_used": np.array([12.0, 8.0, 15.0, 10.0]),
}


def test_cuts_keep_count_and_report() -> None:
    cuts = {"ruwe": {"max": 1.41}, "visibility_periods_used": {"min": 10, "max": 14}}
    keep, report = apply_cuts(COLUMNS, cuts, "s.fits")
    np.testing.assert_array_equal(keep, [True, False, False, False])
    assert report == [
        {"column": "ruwe", "max": 1.41, "removed": 2, "missing": 1},
        {"column": "visibility_periods_used", "min": 10, "max": 14, "removed": 2, "missing": 0},
    ]


def test_bounds_are_inclusive_and_no_cut_keeps_all() -> None:
    keep, report = apply_cuts(COLUMNS, {"visibility_periods_used": {"min": 12}}, "s.fits")
    np.testing.assert_array_equal(keep, [True, False, True, False])
    assert apply_cuts(COLUMNS, {}, "s.fits")[0].all()
    assert report[0]["removed"] == 2


def test_unknown_column_names_file_and_columns() -> None:
    with pytest.raises(ValueError, match=r"s\.fits: no column 'rwue'.*'ruwe'"):
        apply_cuts(COLUMNS, {"rwue": {"max": 1.4}}, "s.fits")


def test_nothing_left_is_refused() -> None:
    with pytest.raises(ValueError, match=r"leave none of 4 stars.*'ruwe': 4"):
        apply_cuts(COLUMNS, {"ruwe": {"max": 0.5}}, "s.fits")


@pytest.mark.parametrize("bounds", [{}, {"maximum": 1.4}, 1.4, {"min": 2, "max": 1}])
def test_malformed_cuts_are_refused(bounds: object) -> None:
    with pytest.raises(ValueError, match=r"data\.cuts\.ruwe"):
        check_cuts({"ruwe": bounds})  # type: ignore[dict-item]
