"""Lines of a giant's H-band spectrum: where they are, how deep, and what each species answers to.

The identified lines are in `lines.csv`, which says where they come from. The median answer of a
species' lines to temperature in a quadratic model of real spectra is its `Species.energy`. Chosen
by hand: the weak lines at random places, and the CO bands (heads as observed, 20 lines each).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

REFERENCE = {"teff": 4700.0, "logg": 2.3, "fe_h": 0.0, "alpha_m": 0.0}
"""Star at which the depths hold (all [X/Fe] are 0)."""

FIRST, LAST = 15105.0, 16995.0
"""Range of the weak lines in A."""

WEAK_SEED = 20221
"""Fixes the weak lines for ever."""


@dataclass(frozen=True)
class Species:
    """How the lines of an atom or molecule answer to a star's parameters.

    Attributes:
        elements: Elements it is made of; its abundance is the sum of their [X/H].
        energy: Effective excitation energy in eV; negative where ionisation wins, so that lines
            weaken in hotter stars. Unused for molecules.
        gravity: Change of the logarithmic strength with logg, in dex per dex.
        molecule: Whether the strength goes as (5300 K - Teff) instead.
        scarcest: Whether the scarcest of the elements counts instead of the sum.
        width: Doppler width (standard deviation) in km/s if not that of all lines.
    """

    elements: tuple[str, ...]
    energy: float = 0.0
    gravity: float = 0.0
    molecule: bool = False
    scarcest: bool = False
    width: float | None = None


SPECIES = {
    "Fe I": Species(("fe",), -0.85),
    "Na I": Species(("na",), -2.3),
    "Mg I": Species(("mg",), -0.8, 0.1),
    "Al I": Species(("al",), -1.35, 0.1),
    "Si I": Species(("si",), 0.0, 0.05),
    "S I": Species(("s",), -0.8),
    "K I": Species(("k",), -2.6),
    "Ca I": Species(("ca",), -2.3, 0.05),
    "Ti I": Species(("ti",), -3.4),
    "V I": Species(("v",), -1.0),
    "Cr I": Species(("cr",), -3.5),
    "Mn I": Species(("mn",), -2.6),
    "Ni I": Species(("ni",), -0.9),
    "C I": Species(("c",), 0.0),
    "Ce II": Species(("ce",), -0.5, -0.3),
    "OH": Species(("o",), molecule=True),
    "CO": Species(("c", "o"), 0.0, -0.15, molecule=True, scarcest=True),
    "CN": Species(("c", "n"), 0.0, -0.15, molecule=True),
    "H I": Species((), 6.0, 0.2, width=60.0),
}
"""By name. Low gravity strengthens CN and CO and weakens the pressure-broadened lines."""

_MOLECULES = {"CO": "C", "CN": "N", "OH": "O"}
"""Element that a molecule is measured for."""

_WEAK = {"Fe I": (150, 0.02, 0.15), "CN": (100, 0.02, 0.08), "OH": (40, 0.02, 0.08)}
"""Further lines at random places: number, least and largest depth."""

_CO_HEADS = (15582.0, 15780.4, 15981.0, 16189.3, 16401.5, 16618.4, 16840.9)
"""Heads of the second overtone of CO, 3-0 to 9-6, in A; many weak lines lie redward of each."""

_CO_LINES, _CO_SPACING, _CO_DEPTH, _CO_DECAY = 20, 0.2, 0.10, 12.0


@dataclass(frozen=True)
class LineTable:
    """The lines, L of them.

    Attributes:
        wavelength: In vacuum in A, shape (L,).
        depth: At the reference star, below the continuum 1, shape (L,).
        species: Names, shape (L,).
    """

    wavelength: Array
    depth: Array
    species: tuple[str, ...]

    def rows(self, name: str) -> NDArray[np.int64]:
        """Return the positions of a species' lines."""
        return np.flatnonzero(np.array(self.species) == name)


def element_windows(half_width: float = 0.8) -> dict[str, list[tuple[float, float]]]:
    """Return where in the spectrum the identified lines of each element are.

    Carbon, nitrogen and oxygen have the molecules CO, CN and OH as well. Blends are not cut out.

    Args:
        half_width: Of the window of one line in A; windows that touch become one.

    Returns:
        Element (`Mg`) to the ends of its windows in vacuum in A, in order.
    """
    listed = _identified()
    lines: dict[str, list[float]] = {}
    for name, place in zip(listed.species, listed.wavelength.tolist(), strict=True):
        if SPECIES[name].elements:
            lines.setdefault(_MOLECULES.get(name, name.split()[0]), []).append(place)
    windows: dict[str, list[tuple[float, float]]] = {element: [] for element in lines}
    for element, spans in windows.items():
        for place in sorted(lines[element]):
            low, high = place - half_width, place + half_width
            joins = bool(spans) and low <= spans[-1][1]
            spans.append((spans.pop()[0] if joins else low, high))
    return windows


def _identified() -> LineTable:
    """Read the identified lines."""
    kinds = [("species", "U5"), ("wavelength", np.float64), ("depth", np.float64)]
    listed = np.loadtxt(Path(__file__).with_name("lines.csv"), kinds, delimiter=",")
    return LineTable(listed["wavelength"], listed["depth"], tuple(listed["species"].tolist()))


def line_table() -> LineTable:
    """Put the table together: listed lines, weak lines at fixed random places, CO bands."""
    rng = np.random.Generator(np.random.PCG64(WEAK_SEED))
    parts = [_identified()]
    for name, (number, least, largest) in _WEAK.items():
        places = FIRST + (LAST - FIRST) * rng.random(number)
        depth = least * (largest / least) ** rng.random(number)
        parts.append(LineTable(places, depth, (name,) * number))
    order = np.arange(1, _CO_LINES + 1)
    for head in _CO_HEADS:
        depth = _CO_DEPTH * np.exp(-order / _CO_DECAY)
        parts.append(LineTable(head + _CO_SPACING * order**2, depth, ("CO",) * _CO_LINES))
    return LineTable(
        np.concatenate([part.wavelength for part in parts]),
        np.concatenate([part.depth for part in parts]),
        tuple(name for part in parts for name in part.species),
    )
