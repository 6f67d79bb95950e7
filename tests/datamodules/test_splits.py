"""Splits are a pure function of (object id, seed)."""

import numpy as np
import pytest

from datamodules.splits import SPLIT_CODES, split_by_object

IDS = np.arange(20_000, dtype=np.int64) * 7919 + 5_853_498_713_190_525_696  # as large as Gaia's
GOLDEN_INTEGERS = [2, 1, 1, 0, 0, 0, 2, 0, 2, 0, 2, 0]
GOLDEN_STRINGS = [0, 0, 0, 1, 1, 2, 1, 2, 2, 0, 1, 0]


def test_an_object_keeps_its_split_when_rows_change() -> None:
    codes = split_by_object(IDS, 3, 0.1, 0.2)
    order = np.random.default_rng(0).permutation(len(IDS))
    np.testing.assert_array_equal(split_by_object(IDS[order], 3, 0.1, 0.2), codes[order])
    np.testing.assert_array_equal(split_by_object(IDS[:77], 3, 0.1, 0.2), codes[:77])
    repeated = np.repeat(IDS[:50], 3)
    assert (codes[:50] == split_by_object(repeated, 3, 0.1, 0.2).reshape(50, 3).T).all()


@pytest.mark.parametrize(("val", "test"), [(0.1, 0.2), (0.0, 0.5), (0.3, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("ids", [IDS, IDS.astype(str)], ids=["integers", "strings"])
def test_shares_are_as_asked(ids: np.ndarray, val: float, test: float) -> None:
    codes = split_by_object(ids, 0, val, test)
    for name, share in (("val", val), ("test", test)):
        found = (codes == SPLIT_CODES[name]).mean()
        assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(ids)))


def test_seeds_are_independent() -> None:
    first, second = (split_by_object(IDS, seed, 0.0, 0.5) for seed in (0, 1))
    assert (first == second).mean() == pytest.approx(0.5, abs=0.02)


def test_neighbouring_ids_are_not_split_alike() -> None:
    codes = split_by_object(np.arange(20_000), 0, 0.0, 0.5) == SPLIT_CODES["test"]
    assert (codes[1:] == codes[:-1]).mean() == pytest.approx(0.5, abs=0.02)


def test_a_larger_share_only_adds_test_objects() -> None:
    small, large = (split_by_object(IDS, 0, 0.0, share) for share in (0.1, 0.3))
    assert (large[small == SPLIT_CODES["test"]] == SPLIT_CODES["test"]).all()


def test_is_the_same_on_every_machine_and_day() -> None:
    codes = split_by_object(np.arange(12), 0, 0.25, 0.25)
    names = split_by_object(np.array([f"star {i}" for i in range(12)]), 0, 0.25, 0.25)
    assert codes.tolist() == GOLDEN_INTEGERS
    assert names.tolist() == GOLDEN_STRINGS


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.2), (0.1, -0.2), (0.5, 0.5), (0.0, 1.0)])
def test_refuses_shares_that_leave_nothing(val: float, test: float) -> None:
    with pytest.raises(ValueError, match="together below 1"):
        split_by_object(IDS, 0, val, test)
