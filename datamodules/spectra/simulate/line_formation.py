"""Strengths of lines in a star, and the spectrum they make, on all 8575 pixels.

A line of depth d at the reference star has the depth d 10^(a x), where x is the logarithmic change
of its strength (abundance, temperature, gravity, continuous opacity) and a = 0.8 / (1 + 1.5 d):
weak lines grow linearly, strong ones saturate. Lines combine as optical depths, so that blends
never pass zero.
"""

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from datamodules.spectra.grid import LOG_START, LOG_STEP, NUM_PIXELS
from datamodules.spectra.schema import ELEMENTS
from datamodules.spectra.simulate.line_table import REFERENCE, SPECIES, Array, LineTable, Species

SPEED_OF_LIGHT = 299792.458
"""In km/s."""

PIXEL_VELOCITY = SPEED_OF_LIGHT * np.log(10.0) * LOG_STEP
"""Width of a pixel in km/s."""

BOLTZMANN = 8.617333e-5
"""In eV/K."""

FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
"""Full width at half maximum of a Gaussian over its standard deviation."""

ALPHA_ELEMENTS = ("o", "mg", "si", "s", "ca", "ti")
"""Elements that follow [alpha/M]."""

DOPPLER = 3.5
"""Standard deviation of a line's absorption before broadening, in km/s."""

RESOLUTION = 22500.0

OPACITY = 0.5
"""Power of the metallicity with which the continuous opacity grows: H- takes its electrons from
metals, so that line over continuum grows more slowly than [X/H] (as in real spectra)."""

DEEPEST = 0.9
"""No line is deeper after broadening."""


def broadening_width(lsf: Array | float, vmacro: Array | float) -> Array:
    """Return the standard deviation in km/s of instrument and macroturbulence together.

    Args:
        lsf: Width of the line spread function over its nominal width.
        vmacro: Full width of macroturbulence in km/s.
    """
    instrument = np.asarray(lsf) * SPEED_OF_LIGHT / RESOLUTION / FWHM
    return np.asarray(np.hypot(instrument, np.asarray(vmacro) / FWHM))


REFERENCE_WIDTH = float(broadening_width(lsf=1.0, vmacro=5.0))
"""Standard deviation in km/s of the broadening after which the depths of the table hold."""


def strength_change(species: Species, factors: Mapping[str, Array]) -> Array:
    """Compute log10 of the strength of a species' lines over that at the reference star.

    Args:
        species: The atom or molecule.
        factors: `teff`, `logg`, `fe_h` and `<x>_fe`, each (n,).

    Returns:
        Shape (n,).
    """
    teff, reference = factors["teff"], REFERENCE["teff"]
    change = species.gravity * (factors["logg"] - REFERENCE["logg"]) - OPACITY * factors["fe_h"]
    if species.molecule:
        scale = np.clip((5300.0 - teff) / 800.0, 0.1, 1.5) / ((5300.0 - reference) / 800.0)
        change = change + np.log10(scale)
    else:
        inverse = (1.0 / teff - 1.0 / reference) / BOLTZMANN
        change = change - species.energy * inverse / np.log(10.0)
    over_hydrogen = [factors["fe_h"] + factors.get(f"{x}_fe", 0.0) for x in species.elements]
    if not over_hydrogen:
        return np.asarray(change)
    combine = np.minimum.reduce if species.scarcest else np.add.reduce
    return np.asarray(change + combine(over_hydrogen))


def without_excess(factors: Mapping[str, Array]) -> dict[str, Array]:
    """Return the same star with the mean abundances of its [Fe/H] and [alpha/M]."""
    means = {f"{x}_fe": factors["alpha_m"] * (x in ALPHA_ELEMENTS) for x in ELEMENTS}
    return {**factors, **means}


class LineFormation:
    """The lines of a table on the 8575 pixels.

    Args:
        table: The lines.
        width: Standard deviation in km/s of the profiles that `optical_depth` draws.
        broadening: Standard deviation in km/s of the broadening that comes later, after which the
            depths of the table hold.
    """

    def __init__(
        self, table: LineTable, width: float = DOPPLER, broadening: float = REFERENCE_WIDTH
    ) -> None:
        self.table = table
        own = {name: kind.width or width for name, kind in SPECIES.items()}
        self.widths = np.array([own[name] for name in table.species])
        self.curves = {value: growth_curve(value, broadening) for value in set(own.values())}
        self.profiles = _profiles(table.wavelength, self.widths)

    def depths(self, factors: Mapping[str, Array]) -> Array:
        """Compute the depth of every line in every star, shape (n, L)."""
        reference = self.table.depth
        changes = np.empty((len(factors["teff"]), len(reference)))
        for name, species in SPECIES.items():
            changes[:, self.table.rows(name)] = strength_change(species, factors)[:, None]
        exponent = 0.8 / (1.0 + 1.5 * reference)
        return np.asarray(np.minimum(reference * 10.0 ** (exponent * changes), DEEPEST))

    def optical_depth(self, factors: Mapping[str, Array]) -> Array:
        """Sum the optical depths of all lines, shape (n, 8575) float32."""
        depths = self.depths(factors)
        peaks = np.empty_like(depths)
        for width, (depth, peak) in self.curves.items():
            lines = self.widths == width
            peaks[:, lines] = np.interp(depths[:, lines], depth, peak)
        return np.asarray((self.profiles @ peaks.astype(np.float32).T).T)


def growth_curve(width: float, broadening: float) -> tuple[Array, Array]:
    """Relate the depth of a line after broadening to its optical depth before.

    Args:
        width: Standard deviation in km/s of the Gaussian absorption coefficient.
        broadening: Standard deviation in km/s of the Gaussian broadening.

    Returns:
        Increasing depths, and the peak optical depth for each.
    """
    peak = np.concatenate([[0.0], np.logspace(-4, 4, 400)])
    nodes = np.linspace(-8.0, 8.0, 801)
    weight = np.exp(-0.5 * nodes**2) / np.exp(-0.5 * nodes**2).sum()
    velocity = nodes * broadening
    absorption = 1.0 - np.exp(-peak[:, None] * np.exp(-0.5 * (velocity / width) ** 2))
    return absorption @ weight, peak


def _profiles(wavelength: Array, widths: Array) -> sparse.csr_matrix:
    """Draw Gaussians of peak 1 around each line, to five standard deviations, shape (8575, L)."""
    centre = (np.log10(wavelength) - LOG_START) / LOG_STEP
    sigma = widths / PIXEL_VELOCITY
    rows, columns, values = [], [], []
    for line in range(len(centre)):
        low, high = centre[line] - 5 * sigma[line], centre[line] + 5 * sigma[line]
        pixels = np.arange(max(int(np.ceil(low)), 0), min(int(high), NUM_PIXELS - 1) + 1)
        rows.append(pixels)
        columns.append(np.full(len(pixels), line))
        values.append(np.exp(-0.5 * ((pixels - centre[line]) / sigma[line]) ** 2))
    triple = (
        np.concatenate(values).astype(np.float32),
        tuple(map(np.concatenate, (rows, columns))),
    )
    return sparse.csr_matrix(triple, shape=(NUM_PIXELS, len(centre)))
