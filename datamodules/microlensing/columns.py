"""Columns of a batch that stay in the file, so that memory is flat however many events."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.store import RowStore


class LazyColumn:
    """What is indexed by rows like a tensor, but computed or read only then.

    Attributes:
        shape: As of a tensor.
    """

    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def as_tensor(self) -> Tensor:
        """Return itself under the type that the base datamodule's tables have."""
        return cast(Tensor, self)


class StoredColumn(LazyColumn):
    """A column of a row store that is read when it is indexed, like a tensor in memory.

    Args:
        store: The store.
        name: The column.
    """

    def __init__(self, store: RowStore, name: str) -> None:
        self.store = store
        self.name = name
        self.shape = (store.num_rows, *store.read([name], slice(0, 1))[name].shape[1:])

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.store.read([self.name], rows.numpy())[self.name])


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
