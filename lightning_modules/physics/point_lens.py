"""A point source behind a point lens (numpy only)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def pspl(u: Array) -> Array:
    """Magnify a point source by a single lens: (u^2 + 2) / (u sqrt(u^2 + 4)) (Paczynski 1986)."""
    square = np.maximum(u * u, np.finfo(u.dtype).tiny)
    amplification: Array = (square + 2) / np.sqrt(square * (square + 4))
    return amplification
