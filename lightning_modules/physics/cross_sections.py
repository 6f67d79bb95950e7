"""When two cross-sections are the same."""

import math
from collections.abc import Sequence

ROUNDING = 1e-5
"""Relative difference up to which two cross-sections are one."""


def merged(values: Sequence[float]) -> list[float]:
    """Return cross-sections in cm²/g, each as the smallest of those that equal it to rounding."""
    smallest: dict[float, float] = {}
    last = float("-inf")
    for value in sorted(values):
        last = last if math.isclose(value, last, rel_tol=ROUNDING) else value
        smallest[value] = last
    return [smallest[value] for value in values]
