"""Flips and transpositions of maps, the symmetries of a square (torch only)."""

import torch
from torch import Tensor


def transformed(values: Tensor, element: int) -> Tensor:
    """Return maps after one of the eight symmetries.

    Args:
        values: Shape (..., H, W).
        element: 0 to 7: bit 1 flips the last axis, bit 2 the one before, bit 4 swaps them.
    """
    axes = [axis for bit, axis in ((1, -1), (2, -2)) if element & bit]
    flipped = values.flip(axes) if axes else values
    return flipped.transpose(-1, -2) if element & 4 else flipped


def random_dihedral(*arrays: Tensor) -> list[Tensor]:
    """Return arrays with each row under a random symmetry, the same in all of them.

    Drawn from torch's generator. Rows that are not square are only flipped.

    Args:
        *arrays: Each of shape (B, ..., H, W).
    """
    square = arrays[0].shape[-1] == arrays[0].shape[-2]
    elements = torch.randint(8 if square else 4, (len(arrays[0]),))
    found = [torch.empty_like(values) for values in arrays]
    for element in elements.unique().tolist():
        rows = torch.where(elements == element)[0].to(arrays[0].device)
        for new, values in zip(found, arrays, strict=True):
            new[rows] = transformed(values[rows], element)
    return found
