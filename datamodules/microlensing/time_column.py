"""Times of the epochs, which events of one field share."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.lazy_arrays import LazyColumn


class TimeColumn(LazyColumn):
    """Times of the epochs of each event, looked up in those of its field.

    Args:
        times: Of the fields, shape (F, T) float64.
        field: Field of each event, shape (N,).
    """

    def __init__(self, times: NDArray[np.float64], field: NDArray[np.int32]) -> None:
        self.times = torch.from_numpy(times)
        self.field = torch.from_numpy(field.astype(np.int64))
        self.shape = (len(field), times.shape[1])

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.times[self.field[rows]]
