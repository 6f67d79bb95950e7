"""Cores of self-interacting dark matter: the isothermal Jeans model, tabulated once.

Inside r1, where a particle has scattered once in the age of the halo, dark matter is isothermal;
outside it keeps the NFW profile, and density and enclosed mass are continuous (Kaplinghat et al.
2016, 1508.03339; Robertson et al. 2021, 2009.07844). In units of NFW's scale radius and density
the solution depends on a = r1/r_s alone, and so does sigma/m times age, rho_s^1.5 and r_s.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.integrate import solve_ivp

from lightning_modules.physics.arrays import Array

G = 4.30091e-6
"""kpc (km/s)^2 / Msun"""

CM2_PER_G = 2.0885e-10
"""1 cm^2/g in kpc^2/Msun"""

GYR = 1 / 0.97779
"""1 Gyr in kpc/(km/s)"""

TYPICAL = (1.07e6, 278.0, 6.8)
"""NFW's rho_s in Msun/kpc^3 and r_s in kpc, and the age in Gyr, of a typical cluster."""

SMALLEST, LARGEST = 1e-5, 3.9
"""Range of r1/r_s; no isothermal sphere fits NFW's mass and density beyond 3.9."""


@dataclass(frozen=True)
class Core:
    """The isothermal core of a halo.

    Attributes:
        outer_radius: r1 in kpc; zero without a core.
        radius: r0 in kpc.
        density: rho0 at the centre, Msun/kpc^3.
        dispersion: One-dimensional velocity dispersion s0, km/s.
    """

    outer_radius: float
    radius: float
    density: float
    dispersion: float

    def profile(self, radius: Array) -> Array:
        """Return the density at radii in kpc inside r1, in Msun/kpc^3."""
        log_x, h, _ = isothermal_sphere()
        x = np.log(radius / self.radius)
        return self.density * np.exp(np.interp(x, log_x, h))


NO_CORE = Core(0.0, 0.0, 0.0, 0.0)


def nfw_mass(a: Array | float) -> Array:
    """Return m(a) = ln(1 + a) - a/(1 + a): NFW's mass over 4 pi rho_s r_s^3."""
    return np.asarray(np.log1p(a) - a / (1 + a))


def nfw_density(a: Array | float) -> Array:
    """Return NFW's density over rho_s at a = r/r_s."""
    return np.asarray(1 / (a * (1 + a) ** 2))


@lru_cache(maxsize=1)
def isothermal_sphere() -> tuple[Array, Array, Array]:
    """Solve h'' + (2/x) h' = -exp(h), h(0) = h'(0) = 0.

    Returns:
        ln x, h = ln(rho/rho0), and K = mu/(x^3 exp(h)) with mu = -x^2 h', each of shape (n,), up
        to the first maximum of K.
    """
    log_x = np.linspace(np.log(1e-4), np.log(100.0), 4000)

    def slopes(log_radius: float, state: Array) -> list[float]:
        x = np.exp(log_radius)
        h, mu = state
        return [-mu / x, x**3 * np.exp(h)]

    start = [-np.exp(2 * log_x[0]) / 6, np.exp(3 * log_x[0]) / 3]
    h, mu = solve_ivp(slopes, log_x[[0, -1]], start, "DOP853", log_x, rtol=1e-10, atol=1e-16).y
    ratio = mu / np.exp(3 * log_x + h)
    rising = slice(0, int(np.argmax(ratio)) + 1)
    return log_x[rising], h[rising], ratio[rising]


@lru_cache(maxsize=1)
def _scattering() -> tuple[Array, Array, Array]:
    """Return ln of the reduced cross-section, rising, ln a and ln x1 = ln(r1/r0), each (n,)."""
    log_x, h, ratio = isothermal_sphere()
    log_a = np.linspace(np.log(SMALLEST), np.log(LARGEST), 2000)
    a = np.exp(log_a)
    log_x1 = np.interp(nfw_mass(a) / (a**3 * nfw_density(a)), ratio, log_x)
    radius, density = a / np.exp(log_x1), nfw_density(a) * np.exp(-np.interp(log_x1, log_x, h))
    reduced = np.sqrt(np.pi) / (4 * nfw_density(a) * radius * np.sqrt(density))
    return np.log(reduced), log_a, log_x1


def typical_core_radius(cross_section: Array) -> Array:
    """Return r1 in kpc in a typical cluster: 3e14 Msun, concentration 4.7, 6.8 Gyr old.

    Args:
        cross_section: sigma/m in cm^2/g, shape (n,).
    """
    values = np.asarray(cross_section, np.float64)
    return np.array([isothermal_core(*TYPICAL, value).outer_radius for value in values])


def isothermal_core(density: float, radius: float, age: float, cross_section: float) -> Core:
    """Return the core where rho(r1) (sigma/m) (4 s0/sqrt(pi)) t = 1.

    Args:
        density: NFW's rho_s of the dark matter, Msun/kpc^3.
        radius: NFW's r_s, kpc.
        age: t in Gyr.
        cross_section: sigma/m in cm^2/g; zero gives no core.
    """
    if cross_section == 0:
        return NO_CORE
    time = age * GYR * radius * np.sqrt(4 * np.pi * G * density)
    log_reduced, log_a, log_x1 = _scattering()
    wanted = np.log(cross_section * CM2_PER_G * density * time)
    a = np.exp(np.interp(wanted, log_reduced, log_a))
    edge = float(np.interp(wanted, log_reduced, log_x1))
    log_x, h, _ = isothermal_sphere()
    core = a * radius / np.exp(edge)
    central = density * nfw_density(a) * np.exp(-np.interp(edge, log_x, h))
    dispersion = core * np.sqrt(4 * np.pi * G * central)
    return Core(float(a * radius), float(core), float(central), float(dispersion))
