"""Which class a simulation is of (torch only)."""

import torch
from torch import Tensor

MOST_SIMULATIONS = 256
"""Length of the tables by simulation."""


def distinct(labels: Tensor) -> Tensor:
    """Return the different cross-sections in rising order; what is equal to rounding is one."""
    found: list[Tensor] = []
    for label in labels.sort().values:
        if not found or not torch.isclose(label, found[-1]):
            found.append(label)
    return torch.stack(found)


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
