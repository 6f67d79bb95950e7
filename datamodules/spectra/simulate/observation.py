"""What the instrument adds: errors, noise, the bits of APOGEE_PIXMASK, and broken spectra."""

import numpy as np

from datamodules.spectra.grid import Grid
from datamodules.spectra.simulate.line_formation import PIXEL_VELOCITY
from datamodules.spectra.simulate.line_table import Array

BAD_PIXEL, COSMIC_RAY, PERSISTENCE, SKY_LINE, TELLURIC, FEW_FIBRES = (
    1 << bit for bit in (0, 1, 9, 12, 13, 14)
)
"""The bits that are simulated: 0, 1, 9, 12, 13 and 14."""

BROKEN = {"zero_flux": 1, "nan_pixels": 2, "huge_errors": 4, "missing_labels": 8, "flagged": 16}
"""Bits of the column `broken`: what is wrong with a row on purpose.

`zero_flux`: flux, errors and mask all 0; `nan_pixels`: 50 pixels NaN in flux and error;
`huge_errors`: 200 pixels with an error of 1e10; `missing_labels`: no label; `flagged`: STAR_BAD and
bit 0 of STARFLAG set.
"""

SKY_SEED = 1612
"""Fixes the places of the sky's emission lines for ever."""

NUM_SKY_LINES = 160
SKY_NOISE = 0.03
NUM_BAD_PIXELS = 60
MEAN_COSMIC_RAYS = 40.0
COSMIC_RAY_HEIGHT = 0.3
MEAN_FEW_FIBRES = 5.0
PERSISTENT_PIXELS = 800
PERSISTENT_SHARE = 0.12
TELLURIC_LIMIT = 0.4
"""Pixels with more of the telluric pattern get bit 13."""

NAN_PIXELS, HUGE_ERRORS = 50, 200


class Instrument:
    """The survey's detectors; throughput falls at the ends of each.

    Args:
        grid: The pixels.
        error_floor: No error is smaller.

    Attributes:
        profile: Error over that of a median pixel, shape (P,).
        sky_lines: Pixels on the 8575 of the sky's lines in the Earth's frame.
    """

    def __init__(self, grid: Grid, error_floor: float = 0.005) -> None:
        self.grid = grid
        self.error_floor = error_floor
        sizes = [pixels.stop - pixels.start for pixels in grid.chips]
        edge = np.concatenate([np.minimum(np.arange(n), np.arange(n)[::-1]) for n in sizes])
        profile = 1.0 / np.sqrt(1.0 - 0.75 * np.exp(-edge / 120.0))
        self.profile = (profile / np.median(profile)).astype(np.float32)
        rng = np.random.Generator(np.random.PCG64(SKY_SEED))
        lines = rng.choice(grid.num_pixels, NUM_SKY_LINES, replace=False)
        self.sky_lines = np.sort(grid.indices[lines])

    def errors(self, snr: Array) -> Array:
        """Compute the errors of the flux before sky lines, shape (n, P) float32."""
        errors = self.profile / np.asarray(snr, np.float32)[:, None]
        return np.asarray(np.maximum(errors, np.float32(self.error_floor)))

    def sky_pixels(self, velocity: float) -> Array:
        """Return the pixels within one of a sky line seen at a velocity in km/s."""
        centre = self.sky_lines + round(velocity / PIXEL_VELOCITY)
        wanted = (centre[:, None] + np.arange(-1, 2)).ravel()
        place = np.searchsorted(self.grid.indices, wanted).clip(0, self.grid.num_pixels - 1)
        return np.asarray(np.unique(place[self.grid.indices[place] == wanted]))


def observe(
    instrument: Instrument,
    rng: np.random.Generator,
    spectrum: tuple[Array, Array, Array],
    sky_velocity: float,
    broken: int,
) -> None:
    """Turn one true spectrum into an observed one, in place.

    Args:
        instrument: The detectors.
        rng: Of this row.
        spectrum: `flux` (true at first), `flux_error` (of the throughput alone at first) and
            `pixel_mask` (telluric bits only at first), each (P,).
        sky_velocity: Of the star in the Earth's frame in km/s.
        broken: Bits of `BROKEN`.
    """
    flux, error, mask = spectrum
    num_pixels = len(flux)
    noise = rng.standard_normal(num_pixels, np.float32)
    sky = instrument.sky_pixels(sky_velocity)
    error[sky] = np.hypot(error[sky], np.float32(SKY_NOISE))
    mask[sky] |= SKY_LINE
    flux += error * noise
    struck = rng.choice(num_pixels, rng.poisson(MEAN_COSMIC_RAYS), replace=False)
    flux[struck] += rng.exponential(COSMIC_RAY_HEIGHT, len(struck)).astype(np.float32)
    mask[struck] |= COSMIC_RAY
    dead = rng.choice(num_pixels, NUM_BAD_PIXELS, replace=False)
    flux[dead] = 0.0
    mask[dead] |= BAD_PIXEL
    mask[rng.choice(num_pixels, rng.poisson(MEAN_FEW_FIBRES), replace=False)] |= FEW_FIBRES
    blue = instrument.grid.chips[0].stop
    first = int(rng.integers(0, blue - PERSISTENT_PIXELS))
    if rng.random() < PERSISTENT_SHARE:
        mask[first : first + PERSISTENT_PIXELS] |= PERSISTENCE
    _break(rng, flux, error, mask, broken)


def _break(rng: np.random.Generator, flux: Array, error: Array, mask: Array, broken: int) -> None:
    """Damage a spectrum as its bits of `BROKEN` say."""
    if broken & BROKEN["nan_pixels"]:
        lost = rng.choice(len(flux), NAN_PIXELS, replace=False)
        flux[lost] = error[lost] = np.nan
    if broken & BROKEN["huge_errors"]:
        error[rng.choice(len(flux), HUGE_ERRORS, replace=False)] = 1e10
    if broken & BROKEN["zero_flux"]:
        flux[:] = error[:] = mask[:] = 0
