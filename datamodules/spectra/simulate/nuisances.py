"""What lies between a star's spectrum and the spectrum a survey writes, but for noise and masks.

Broadening and a residual velocity on the 8575 pixels; then, on the pixels of the detectors, a
diffuse interstellar band, what the telluric correction left, and the continuum's error.
"""

from collections.abc import Mapping

import numpy as np
from scipy import fft

from datamodules.spectra.grid import LOG_START, LOG_STEP, NUM_PIXELS, Grid
from datamodules.spectra.simulate.line_formation import (
    FWHM,
    PIXEL_VELOCITY,
    RESOLUTION,
    SPEED_OF_LIGHT,
)
from datamodules.spectra.simulate.line_table import Array

CONTINUUM_TERMS = 9
"""Legendre polynomials of order 0, 1, 2 on each of three detectors."""

DIB_WAVELENGTH, DIB_WIDTH = 15272.4, 1.7
"""Rest wavelength in A, and standard deviation, of the diffuse interstellar band."""

DIB_PER_EXTINCTION = 0.03
"""Depth of the band over A_K in mag."""

TELLURIC_SEED = 1613
"""Fix the places of the Earth's lines for ever."""

NUM_TELLURIC_LINES = 120
TELLURIC_BANDS = ((15152.0, 15300.0), (15690.0, 15800.0), (15990.0, 16120.0), (16700.0, 16943.0))
"""Where the atmosphere's absorption is, in A: water, carbon dioxide twice, methane and water."""

_OVERSAMPLED = 16
"""Steps of velocity in a pixel."""

_PADDED = 9000
"""Length of the transforms: 8575 pixels and room for what would come round the end."""


def broaden(absorption: Array, width: Array, velocity: Array) -> Array:
    """Convolve each spectrum with a Gaussian and shift it, by Fourier transform.

    Args:
        absorption: One minus the flux, shape (n, 8575); it counts as 0 outside.
        width: Standard deviation in km/s, shape (n,).
        velocity: Shift in km/s, redward positive, shape (n,).

    Returns:
        Shape (n, 8575) float32.
    """
    frequency = 2.0 * np.pi * fft.rfftfreq(_PADDED).astype(np.float32)
    sigma = (np.asarray(width) / PIXEL_VELOCITY).astype(np.float32)[:, None]
    shift = (np.asarray(velocity) / PIXEL_VELOCITY).astype(np.float32)[:, None]
    spectrum = fft.rfft(np.asarray(absorption, np.float32), _PADDED, axis=-1)
    spectrum *= np.exp(-0.5 * (sigma * frequency) ** 2)
    phase = shift * frequency
    spectrum *= np.cos(phase) - 1j * np.sin(phase)
    return np.asarray(fft.irfft(spectrum, _PADDED, axis=-1)[:, : absorption.shape[-1]])


class Foreground:
    """What multiplies a star's spectrum on its way, on the detectors' pixels.

    Args:
        grid: The pixels.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.legendre = _legendre(grid)
        self.telluric_pattern = _telluric_pattern()

    def apply(self, flux: Array, factors: Mapping[str, Array]) -> Array:
        """Multiply by band, telluric residual and continuum.

        Args:
            flux: Normalised flux, shape (n, P).
            factors: `dib_depth`, `dib_velocity`, `telluric`, `sky_velocity` and `continuum_<k>`.
        """
        change = self.continuum(factors)
        change += self.telluric(factors) * factors["telluric"][:, None].astype(np.float32)
        change -= self.band(factors)
        return np.asarray(flux * (1.0 + change))

    def continuum(self, factors: Mapping[str, Array]) -> Array:
        """Compute the relative error of the continuum, shape (n, P)."""
        terms = [factors[f"continuum_{term}"] for term in range(CONTINUUM_TERMS)]
        return np.asarray(np.stack(terms, 1).astype(np.float32) @ self.legendre)

    def band(self, factors: Mapping[str, Array]) -> Array:
        """Compute the depth of the diffuse interstellar band, shape (n, P)."""
        centre = DIB_WAVELENGTH * (1.0 + factors["dib_velocity"] / SPEED_OF_LIGHT)
        away = (self.grid.wavelength[None, :] - centre[:, None]) / DIB_WIDTH
        near = np.flatnonzero((np.abs(away) < 6.0).any(0))
        depth = np.zeros(away.shape, np.float32)
        profile = np.exp(-0.5 * away[:, near] ** 2)
        depth[:, near] = factors["dib_depth"][:, None] * profile
        return depth

    def telluric(self, factors: Mapping[str, Array]) -> Array:
        """Return the Earth's absorption lines at the star's velocity, about 1 at most, (n, P)."""
        steps = np.rint(factors["sky_velocity"] / PIXEL_VELOCITY * _OVERSAMPLED).astype(np.int64)
        places = self.grid.indices * _OVERSAMPLED - steps[:, None]
        return np.asarray(self.telluric_pattern[places.clip(0, len(self.telluric_pattern) - 1)])


def _telluric_pattern() -> Array:
    """Draw the Earth's absorption lines in its frame on a fine grid of velocities."""
    rng = np.random.Generator(np.random.PCG64(TELLURIC_SEED))
    bands = np.array(TELLURIC_BANDS)[rng.integers(0, len(TELLURIC_BANDS), NUM_TELLURIC_LINES)]
    wavelength = bands[:, 0] + (bands[:, 1] - bands[:, 0]) * rng.random(len(bands))
    strength = rng.exponential(0.5, len(bands)).clip(0.2, 1.5)
    place = (np.log10(wavelength) - LOG_START) / LOG_STEP * _OVERSAMPLED
    sigma = SPEED_OF_LIGHT / RESOLUTION / FWHM / PIXEL_VELOCITY * _OVERSAMPLED
    pattern = np.zeros(NUM_PIXELS * _OVERSAMPLED, np.float32)
    for centre, height in zip(place, strength, strict=True):
        near = np.arange(int(centre - 5 * sigma), int(centre + 5 * sigma))
        pattern[near] += height * np.exp(-0.5 * ((near - centre) / sigma) ** 2)
    return pattern


def _legendre(grid: Grid) -> Array:
    """Return the continuum's terms, each 1 at its largest, shape (9, P) float32."""
    terms = np.zeros((CONTINUUM_TERMS, grid.num_pixels), np.float32)
    for chip, pixels in enumerate(grid.chips):
        x = np.linspace(-1.0, 1.0, pixels.stop - pixels.start)
        for order in range(3):
            terms[3 * chip + order, pixels] = np.polynomial.Legendre.basis(order)(x)
    return terms
