"""Which simulations are known, hidden, for calibration or foreign: disjoint lists of names."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

Lists = Mapping[str, Sequence[str]]


def is_pattern(text: str) -> bool:
    """Return whether an entry of a list is a shell pattern, not a name."""
    return any(sign in text for sign in "*?[")


def assign_roles(lists: Lists, names: Sequence[str], origin: str) -> dict[str, str]:
    """Return the role of every simulation, in the order of the lists.

    An exact name wins over a pattern. A pattern takes, in the order of the data, what no list names
    exactly and no pattern before it took.

    Args:
        lists: Role to names or shell patterns, in the order of precedence.
        names: The simulations of the data.
        origin: Where the data come from, for messages.

    Raises:
        ValueError: A name is in two lists, or not in the data; or a simulation is in no list.
    """
    exact = _exact_names(lists, names, origin)
    roles: dict[str, str] = {}
    for role, entries in lists.items():
        for entry in entries:
            if entry in exact:
                roles[entry] = role
            else:
                free = (name for name in names if name not in exact and name not in roles)
                roles |= {name: role for name in free if fnmatchcase(name, entry)}
    undeclared = [name for name in names if name not in roles]
    if undeclared:
        raise ValueError(
            f"{origin}: simulations {undeclared} have no role; name them in data.known, "
            "data.hidden, data.calibration or data.foreign"
        )
    return roles


def _exact_names(lists: Lists, names: Sequence[str], origin: str) -> set[str]:
    """Return the entries that are names of simulations; each may be in one list only.

    Raises:
        ValueError: One is listed twice, or not in the data.
    """
    listed = [(entry, role) for role, entries in lists.items() for entry in entries]
    first: dict[str, str] = {}
    for entry, role in listed:
        if entry in first:
            places = " and ".join(f"data.{place}" for place in dict.fromkeys((first[entry], role)))
            raise ValueError(f"{entry!r} is listed twice, in {places}; name it once")
        first[entry] = role
        if entry not in names and not is_pattern(entry):
            raise ValueError(
                f"data.{role}: the data have no simulation {entry!r}; {origin} has {list(names)}"
            )
    return set(first) & set(names)


def check_cross_sections(
    roles: Mapping[str, str], values: Mapping[str, NDArray[Any]], origin: str
) -> None:
    """Refuse a simulation of several cross-sections or an impossible one, and what needs one.

    Args:
        roles: Simulation to role.
        values: Simulation to the cross-sections of its maps in cm^2/g, NaN unknown, each (n,).
        origin: Where the data come from, for messages.

    Raises:
        ValueError: A cross-section is not one, not finite or negative, or a calibration has none.
    """
    for name, role in roles.items():
        several = np.unique(values[name])
        if len(several) > 1:
            raise ValueError(
                f"{origin}: simulation {name!r} has several cross-sections "
                f"({several[:3]} cm^2/g); give each a name of its own"
            )
        value = float(several[0])
        if np.isinf(value) or value < 0:
            raise ValueError(
                f"{origin}: the cross-section of {name!r} is {value:g} cm^2/g; give a finite one "
                "of at least 0, or NaN if it is unknown"
            )
        if role == "calibration" and np.isnan(value):
            raise ValueError(
                f"{origin}: the cross-section of {name!r} is missing, by which intervals are to be "
                "scaled; give it, or take the simulation out of data.calibration"
            )
