"""Lines of a giant's H-band spectrum: where they are, how deep, and what each species answers to.

Vacuum wavelengths and depths at Teff 4700 K, logg 2.3, [M/H] 0 come from SDSS's line
identifications and from a quadratic model of real spectra (depth of the deepest of five pixels, so
blends are included). The median answer of a species' lines to temperature in that model is its
`Species.energy`. Chosen by hand: all of Na, Ce and hydrogen, the weak lines at random places, and
the CO bands (heads as observed, 20 lines each).
"""

from dataclasses import dataclass
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

# Vacuum wavelength in A : depth.
_LINES = {
    "Fe I": """15211.7:.28 15223.8:.24 15298.7:.40 15339.6:.33 15595.8:.27 15625.9:.30 15636.2:.30
        15666.3:.27 15690.5:.25 15697.0:.28 15773.7:.36 15897.3:.28 15958.4:.25 15985.1:.30
        16011.3:.31 16106.8:.25 16169.4:.26 16212.2:.25 16320.8:.31 16385.3:.38 16402.6:.25""",
    "Na I": "16378.3:.05 16393.3:.07",
    "Mg I": """15745.0:.35 15753.3:.44 15770.1:.46 15883.9:.15 15890.5:.15 15893.9:.23
        15958.8:.25""",
    "Al I": "16723.5:.39 16755.2:.47 16767.9:.27",
    "Si I": """15381.1:.22 15562.0:.27 15892.8:.48 15964.4:.39 16064.4:.27 16099.2:.33 16168.1:.22
        16220.1:.26 16246.3:.25 16386.0:.38 16685.3:.33 16832.8:.20""",
    "S I": "15408.0:.08 15479.8:.12 15482.7:.12",
    "K I": "15172.5:.17",
    "Ca I": "16141.2:.12 16155.2:.15 16161.8:.16 16201.5:.23",
    "Ti I": "15339.0:.33 15548.0:.20 15703.3:.13 15719.9:.21",
    "V I": "15767.8:.10 16183.1:.11",
    "Cr I": "15684.3:.14 16019.7:.10",
    "Mn I": "15221.9:.27 15266.7:.23",
    "Ni I": """15203.8:.16 15559.6:.23 15609.9:.11 15636.9:.23 16098.1:.19 16315.0:.16 16367.6:.22
        16678.3:.10""",
    "C I": "16009.2:.16 16026.0:.12 16895.0:.17",
    "Ce II": "15789.1:.05 15962.0:.04 16381.0:.05 16599.7:.06 16727.1:.05",
    "OH": """15268.8:.14 15404.8:.12 15564.5:.14 15889.2:.18 15897.9:.17 15902.0:.22 15917.1:.15
        16042.9:.19 16211.6:.25 16543.1:.15 16871.3:.15""",
    "CO": """15591.9:.17 15653.5:.12 15695.4:.20 16121.0:.16 16199.9:.19 16229.5:.19 16239.9:.20
        16245.6:.25 16664.8:.13 16686.2:.13""",
    "CN": """15172.8:.17 15182.9:.17 15204.1:.16 15222.4:.24 15321.9:.16 15391.6:.23 15403.7:.16
        15971.5:.23 16001.6:.17""",
    "H I": """15196.0:.01 15264.7:.01 15346.0:.01 15443.1:.01 15560.7:.02 15705.0:.02 15884.9:.02
        16113.7:.02 16411.7:.02 16811.1:.03""",
}

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

    def rows_of(self, element: str) -> NDArray[np.int64]:
        """Return the positions of all lines that answer to an element (`c`, `mg`, ...)."""
        names = [name for name, kind in SPECIES.items() if element in kind.elements]
        return np.flatnonzero(np.isin(self.species, names))


def element_windows(half_width: float = 0.8) -> dict[str, list[tuple[float, float]]]:
    """Return where in the spectrum the identified lines of each element are.

    Carbon, nitrogen and oxygen have the molecules CO, CN and OH as well. Blends are not cut out.

    Args:
        half_width: Of the window of one line in A; windows that touch become one.

    Returns:
        Element (`Mg`) to the ends of its windows in vacuum in A, in order.
    """
    windows: dict[str, list[tuple[float, float]]] = {}
    lines: dict[str, list[float]] = {}
    for name, wavelength, _ in _identified():
        element = _MOLECULES.get(name, name.split()[0])
        if SPECIES[name].elements:
            lines.setdefault(element, []).extend(wavelength.tolist())
    for element, places in lines.items():
        spans: list[tuple[float, float]] = []
        for place in sorted(places):
            low, high = place - half_width, place + half_width
            joins = bool(spans) and low <= spans[-1][1]
            spans = [*spans[:-1], (spans[-1][0], high)] if joins else [*spans, (low, high)]
        windows[element] = spans
    return windows


def _identified() -> list[tuple[str, Array, Array]]:
    """List species, wavelengths and depths of the identified lines."""
    parts = []
    for name, text in _LINES.items():
        pairs = np.array([entry.split(":") for entry in text.split()], np.float64)
        parts.append((name, pairs[:, 0], pairs[:, 1]))
    return parts


def line_table() -> LineTable:
    """Put the table together: listed lines, weak lines at fixed random places, CO bands."""
    rng = np.random.Generator(np.random.PCG64(WEAK_SEED))
    parts = _identified()
    for name, (number, least, largest) in _WEAK.items():
        places = FIRST + (LAST - FIRST) * rng.random(number)
        parts.append((name, places, least * (largest / least) ** rng.random(number)))
    order = np.arange(1, _CO_LINES + 1)
    for head in _CO_HEADS:
        depth = _CO_DEPTH * np.exp(-order / _CO_DECAY)
        parts.append(("CO", head + _CO_SPACING * order**2, depth))
    return LineTable(
        np.concatenate([wavelength for _, wavelength, _ in parts]),
        np.concatenate([depth for _, _, depth in parts]),
        tuple(name for name, wavelength, _ in parts for _ in wavelength),
    )
