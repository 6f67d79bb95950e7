"""Columns of a batch that stay in the file, so that memory is flat however many objects."""

from typing import cast

import torch
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
