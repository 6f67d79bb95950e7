"""Splits by object or group: a pure function of (id, seed)."""

import hashlib

import numpy as np
from numpy.typing import NDArray

SPLIT_CODES = {"train": 0, "val": 1, "test": 2}


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit integers (splitmix64 finaliser; Steele et al. 2014, OOPSLA)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def as_integers(ids: NDArray[np.generic]) -> NDArray[np.uint64]:
    """Map ids (integers or strings) to 64-bit integers, the same on every machine."""
    if np.issubdtype(ids.dtype, np.integer):
        return ids.astype(np.int64).view(np.uint64)
    digests = (hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def split_by_object(
    ids: NDArray[np.generic], seed: int, val_fraction: float, test_fraction: float
) -> NDArray[np.int64]:
    """Assign each row to train (0), val (1) or test (2) by a hash of its object's (or group's) id.

    Rows with one id never straddle the splits, and an id keeps its split when rows are added,
    removed or permuted.

    Args:
        ids: Ids of objects or of the groups they belong to, integers or strings, shape (num_rows,).
        seed: Seed of the split (`data.seed`).
        val_fraction: Expected share of ids in the validation split.
        test_fraction: Expected share of ids in the test split.

    Returns:
        Split codes, shape (num_rows,).

    Raises:
        ValueError: If the fractions are negative or leave nothing to train on.
    """
    if val_fraction < 0 or test_fraction < 0 or val_fraction + test_fraction >= 1:
        raise ValueError(
            f"val_fraction={val_fraction} and test_fraction={test_fraction} must be at least 0 "
            "and together below 1; lower them so that training keeps some objects"
        )
    with np.errstate(over="ignore"):
        salt = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        hashed = _mix(_mix(as_integers(ids) + salt) ^ salt)
    uniform = (hashed >> np.uint64(11)).astype(np.float64) / 2.0**53
    codes = np.full(len(ids), SPLIT_CODES["train"], dtype=np.int64)
    codes[uniform < test_fraction + val_fraction] = SPLIT_CODES["val"]
    codes[uniform < test_fraction] = SPLIT_CODES["test"]
    return codes
