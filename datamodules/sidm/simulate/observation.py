"""What a telescope adds to simulated maps: shape noise, photon counts and a field of view."""

from dataclasses import dataclass

import numpy as np
from astropy import units
from astropy.cosmology import FlatLambdaCDM
from scipy.ndimage import gaussian_filter

from datamodules.sidm.simulate.halos import OMEGA_MATTER
from datamodules.sidm.simulate.projection import Grid
from datamodules.source import check_rules
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.isothermal_jeans import G

COSMOLOGY = FlatLambdaCDM(H0=70, Om0=OMEGA_MATTER)

CRITICAL = 299792.458**2 / (4 * np.pi * G)
"""c^2/(4 pi G) in Msun/kpc"""

EFFECTIVE_AREA = 400.0
"""Of Chandra's ACIS, cm^2."""

PHOTON_ENERGY = 1.5 * 1.602e-9
"""Mean energy of a photon, erg; all of the emission is taken to be in the band."""


@dataclass
class MapObservation:
    """How the clusters are observed, all as if at one redshift.

    Attributes:
        lens_redshift: Redshift at which the clusters are put.
        source_redshift: Redshift of the lensed galaxies.
        source_density: Lensed galaxies per square arcminute, whose shapes give `total` the noise
            of a Kaiser-Squires (1993) map; null for none.
        ellipticity_dispersion: Of the galaxies, both components together.
        smoothing: Standard deviation of the kernel of the lensing map, kpc.
        exposure: Of Chandra on `xray`, ks; null for no noise of counts.
        field_radius: Pixels farther from the centre are not `good`, kpc; null for no limit.
        footprint: Corners [x, y] in kpc of the polygon outside of which pixels are not `good`.
    """

    lens_redshift: float = 0.25
    source_redshift: float = 1.0
    source_density: float | None = None
    ellipticity_dispersion: float = 0.3
    smoothing: float = 0.0
    exposure: float | None = None
    field_radius: float | None = None
    footprint: list[list[float]] | None = None

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        corners = self.footprint
        positive = ("source_density", "exposure", "field_radius")
        rules = {
            "0 < lens_redshift < source_redshift must hold": 0
            < self.lens_redshift
            < self.source_redshift,
            "ellipticity_dispersion must be positive": self.ellipticity_dispersion > 0,
            "smoothing must not be negative": self.smoothing >= 0,
            "footprint must have three corners [x, y] or more": corners is None
            or (len(corners) >= 3 and all(len(corner) == 2 for corner in corners)),
        }
        for name in positive:
            value = getattr(self, name)
            rules[f"{name} must be positive"] = value is None or value > 0
        check_rules("data.source.observation", rules)

    def observe(self, rng: np.random.Generator, maps: dict[str, Array], grid: Grid) -> None:
        """Add noise to `total` and `xray` in place.

        Args:
            rng: Source of randomness.
            maps: `total` in Msun/kpc^2 and `xray` in 1e40 erg/s/kpc^2, each of shape (n, n).
            grid: The pixels.
        """
        if self.source_density is not None:
            noise = self.density_noise(grid) * rng.standard_normal(maps["total"].shape)
            maps["total"] = gaussian_filter(
                maps["total"] + noise, self.smoothing / grid.pixel_scale
            )
        if self.exposure is not None:
            count = self.photon_counts(grid)
            maps["xray"] = rng.poisson(maps["xray"] * count) / count

    def density_noise(self, grid: Grid) -> float:
        """Return the noise of a pixel in Msun/kpc^2: that of the shear, sd / sqrt(2 n)."""
        lens, source = (
            COSMOLOGY.comoving_distance(redshift).to_value(units.kpc)
            for redshift in (self.lens_redshift, self.source_redshift)
        )
        near = lens / (1 + self.lens_redshift)
        arcmin = grid.pixel_scale / near * units.rad.to(units.arcmin)
        galaxies = (self.source_density or 0.0) * arcmin**2
        critical = CRITICAL * source / (near * (source - lens))
        return float(critical * self.ellipticity_dispersion / np.sqrt(2 * galaxies))

    def photon_counts(self, grid: Grid) -> float:
        """Return the photons of a pixel per 1e40 erg/s/kpc^2."""
        distance = COSMOLOGY.luminosity_distance(self.lens_redshift).to_value(units.cm)
        collected = 1e40 * EFFECTIVE_AREA * 1e3 * (self.exposure or 0.0) / (4 * np.pi * distance**2)
        return float(grid.area * collected / PHOTON_ENERGY)

    def good(self, grid: Grid) -> Array:
        """Return which pixels are in the field of view, shape (n, n) bool."""
        x, y = np.meshgrid(grid.coordinate, grid.coordinate)
        good = np.ones(x.shape, dtype=bool)
        if self.field_radius is not None:
            good &= np.hypot(x, y) <= self.field_radius
        if self.footprint is not None:
            good &= _inside(x, y, np.asarray(self.footprint, float))
        return good


def _inside(x: Array, y: Array, corners: Array) -> Array:
    """Return which points are in a polygon: a ray to the right crosses its sides an odd time."""
    odd = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            odd ^= ((y0 > y) != (y1 > y)) & (x < crossing)
    return odd
