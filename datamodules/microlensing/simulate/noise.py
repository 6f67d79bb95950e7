"""How well a survey measures: errors by brightness, floors, and noise (numpy only).

Fluxes are in units of the event's baseline. Noise is drawn from the error at the true flux; the
error that goes into the file is that at the measured flux, as a survey would find it. Were it that
at the true flux, the error bars would be the light curve without noise.
"""

from dataclasses import dataclass

import numpy as np

from datamodules.source import check_rules
from lightning_modules.physics.arrays import Array

MAG_TO_RELATIVE = 0.4 * float(np.log(10.0))
FAINTEST = 0.05
"""Fluxes below this share of the baseline get the error of this share (constant errors only)."""


@dataclass(frozen=True)
class PhotometricErrors:
    """Photometric errors.

    Constant errors: sigma_F = 0.921 e F, e being `sigma_mag`. Magnitude-dependent errors, with f
    the flux in units of a star of `reference_magnitude` and S the sky in the same units:
    sigma_f^2 = (0.921 e)^2 (f + S) / (1 + S). The floor is added in squares: (0.921 floor f)^2.

    Attributes:
        sigma_mag: e in magnitudes; with magnitude-dependent errors that of `reference_magnitude`.
        floor: Systematic error in magnitudes.
        magnitude_dependent: Whether photon noise of star and sky sets the errors.
        reference_magnitude: Magnitude of the star whose error is `sigma_mag`.
        sky_magnitude: Magnitude of the sky below a star.
        scatter: Natural-log scatter of the errors from epoch to epoch (seeing, Moon, clouds).
    """

    sigma_mag: float = 0.1
    floor: float = 0.0
    magnitude_dependent: bool = False
    reference_magnitude: float = 20.0
    sky_magnitude: float = 20.0
    scatter: float = 0.0

    def __post_init__(self) -> None:
        """Refuse an error that is not positive."""
        rules = {
            f"sigma_mag={self.sigma_mag} must be positive": self.sigma_mag > 0,
            f"floor={self.floor} must not be negative": self.floor >= 0,
            f"scatter={self.scatter} must not be negative": self.scatter >= 0,
        }
        check_rules("data.source.photometry", rules)

    def sigma(self, flux: Array, baseline_magnitude: Array) -> Array:
        """Return the error of fluxes, both in units of the baseline.

        Args:
            flux: Shape (n, T) or (n,).
            baseline_magnitude: Broadcastable to `flux`.
        """
        error, floor = MAG_TO_RELATIVE * self.sigma_mag, MAG_TO_RELATIVE * self.floor
        if not self.magnitude_dependent:
            relative = np.float32(np.hypot(error, floor))
            return relative * np.maximum(flux, np.float32(FAINTEST))
        unit = 10.0 ** (-0.4 * (baseline_magnitude - self.reference_magnitude))
        sky = 10.0 ** (-0.4 * (self.sky_magnitude - self.reference_magnitude))
        unit, one = unit.astype(flux.dtype), np.float32(error**2 / (1.0 + sky))
        light = np.maximum(flux, np.float32(0.0)) * unit
        variance = one * (light + np.float32(sky)) + np.float32(floor**2) * light**2
        return np.sqrt(variance) / unit

    def measure(
        self, rng: np.random.Generator, flux: Array, baseline_magnitude: Array
    ) -> tuple[Array, Array]:
        """Measure true fluxes, one law for all events.

        Args:
            rng: Random numbers.
            flux: True fluxes in units of the baseline, shape (n, T) float32.
            baseline_magnitude: Shape (n, 1).

        Returns:
            Measured flux and its error, the latter from the measured flux.
        """
        factors = np.ones((), np.float32)  # each epoch's error over the mean one
        if self.scatter:
            factors = np.exp(self.scatter * rng.standard_normal(flux.shape, dtype=np.float32))
        noise = rng.standard_normal(flux.shape, dtype=np.float32)
        measured = flux + noise * (self.sigma(flux, baseline_magnitude) * factors)
        return measured, self.sigma(measured, baseline_magnitude) * factors

    def tolerance(self, peak: Array, baseline_magnitude: Array) -> Array:
        """Return the relative tolerance that noise hides: 0.1 sigma (mag) at the peak, up to 0.01.

        Args:
            peak: Peak flux in units of the baseline, shape (n,).
            baseline_magnitude: Shape (n,).
        """
        relative = self.sigma(peak, baseline_magnitude) / np.maximum(peak, FAINTEST)
        return np.clip(0.1 * relative / MAG_TO_RELATIVE, 1e-5, 1e-2)
