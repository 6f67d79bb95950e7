"""Which class a simulation is of (torch only)."""

import torch
from torch import Tensor

from lightning_modules.physics.cross_sections import merged

MOST_SIMULATIONS = 256
"""Length of the tables by simulation."""
SAME = 0.01
"""Relative difference up to which cross-sections of data and checkpoint are one (bfloat16's)."""


def distinct(labels: Tensor) -> Tensor:
    """Return the different cross-sections in rising order; what is equal to rounding is one."""
    return labels.new_tensor(sorted(set(merged(labels.tolist()))))


def class_tables(labels: Tensor, num_hidden: int, own: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the simulations of the training are to the loss.

    Args:
        labels: Cross-sections of the known simulations, which come first, in cm²/g, shape (A,).
        num_hidden: Hidden simulations, which come next.
        own: Whether each of these has a class of its own.

    Returns:
        Cross-section of each class, rising, NaN for hidden ones, (C,); class of each simulation,
        -1 for none, and whether it takes part in the loss, both (MOST_SIMULATIONS,).

    Raises:
        ValueError: If there are more simulations than the tables hold.
    """
    known, size = distinct(labels), len(labels) + num_hidden
    if size > MOST_SIMULATIONS:
        raise ValueError(
            f"{size} simulations in training are more than {MOST_SIMULATIONS}; take some out of "
            "data.known and data.hidden"
        )
    classes = torch.full((MOST_SIMULATIONS,), -1, device=labels.device)
    classes[: len(labels)] = (labels[:, None] - known).abs().argmin(dim=1)
    takes_part = torch.arange(MOST_SIMULATIONS, device=labels.device) < size
    if own:
        classes[len(labels) : size] = len(known) + torch.arange(num_hidden)
        known = torch.cat([known, known.new_full((num_hidden,), torch.nan)])
    return known, classes, takes_part


def look_up(
    simulation: Tensor, class_of_simulation: Tensor, takes_part: Tensor
) -> tuple[Tensor, Tensor]:
    """Return each row's class, -1 for none, and whether it takes part in the loss, both (B,).

    Args:
        simulation: Position in the data's list; what is outside the tables has no class, (B,).
        class_of_simulation: Of `class_tables`.
        takes_part: Of `class_tables`.
    """
    listed = (simulation >= 0) & (simulation < MOST_SIMULATIONS)
    place = torch.where(listed, simulation, 0)
    return torch.where(listed, class_of_simulation[place], -1), listed & takes_part[place]


def class_of_label(label: Tensor, known_label: Tensor) -> Tensor:
    """Return the class whose cross-section is that of a row, -1 if none is, shape (B,).

    Args:
        label: Cross-section in cm²/g, NaN if it is not given, shape (B,).
        known_label: Of each class, NaN if hidden, shape (C,).
    """
    nearest = (label[:, None] - known_label).abs().nan_to_num(torch.inf).argmin(dim=1)
    return torch.where(torch.isclose(label, known_label[nearest], rtol=SAME), nearest, -1)
