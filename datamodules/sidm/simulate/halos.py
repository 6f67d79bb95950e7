"""Clusters of galaxies: what is drawn once for all twins of a halo, and the halo it makes."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, pdtrik

from datamodules.sidm.simulate.domains import Domain
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.isothermal_jeans import Core, G, isothermal_core, nfw_mass

HUBBLE = 0.07
"""km/s/kpc"""

OMEGA_MATTER = 0.3
REDSHIFTS = np.array([0.0, 0.125, 0.25, 0.375])
MASS_HIGH = 15.2
"""Largest log10 M200c/Msun."""

NORMALS = (
    "concentration",
    "age",
    "gas_mass",
    "gas_core",
    "beta",
    "bcg_mass",
    "bcg_size",
    "axis_ratio",
)
UNIFORMS = (
    "mass",
    "middle_axis",
    "cool_core",
    "subhaloes",
    "merger",
    "merger_mass",
    "merger_distance",
)

MAX_SUBHALOES = 512
"""More than any halo has: the mean is at most 264."""


@dataclass(frozen=True)
class Structure:
    """The random numbers of a halo, the same in all its twins.

    Attributes:
        normal: Standard normal numbers by name, see `NORMALS`.
        uniform: Numbers uniform in 0 to 1 by name, see `UNIFORMS`.
        bcg: Direction and distance of the brightest galaxy, standard normal, shape (3,).
        gas: The same of the gas, shape (3,).
        merger: Direction of the merging cluster, shape (3,).
        redshifts: Those of `REDSHIFTS` in the order in which the halo is seen, shape (4,).
        subhaloes: Uniform numbers of mass, distance and direction, shape (MAX_SUBHALOES, 4).
    """

    normal: dict[str, float]
    uniform: dict[str, float]
    bcg: Array
    gas: Array
    merger: Array
    redshifts: Array
    subhaloes: Array


@dataclass(frozen=True)
class View:
    """A line of sight, the same for all twins.

    Attributes:
        sky: Rows are the directions x and y of the map, shape (2, 3).
        centre: Where the map finds the halo's centre, standard normal, shape (2,).
    """

    sky: Array
    centre: Array


@dataclass(frozen=True)
class Halo:
    """A cluster at one redshift, in one simulation. Lengths in kpc, masses in Msun.

    Attributes:
        structure: What it was made from.
        redshift: Of the snapshot.
        mass: M200c.
        concentration: r200/r_s of the dark matter.
        radius: r200.
        density: NFW's rho_s, Msun/kpc^3.
        age: In Gyr.
        cross_section: sigma/m in cm^2/g.
        core: Of the dark matter.
        domain: The simulation's physics.
    """

    structure: Structure
    redshift: float
    mass: float
    concentration: float
    radius: float
    density: float
    age: float
    cross_section: float
    core: Core
    domain: Domain

    @property
    def scale_radius(self) -> float:
        """NFW's r_s."""
        return self.radius / self.concentration

    @property
    def cool_core(self) -> bool:
        """Whether the gas has a cool core."""
        return self.structure.uniform["cool_core"] < self.domain.cool_cores


def draw_structure(rng: np.random.Generator) -> Structure:
    """Draw the random numbers of a halo."""
    direction = rng.standard_normal(3)
    return Structure(
        normal=dict(zip(NORMALS, rng.standard_normal(len(NORMALS)).tolist(), strict=True)),
        uniform=dict(zip(UNIFORMS, rng.random(len(UNIFORMS)).tolist(), strict=True)),
        bcg=rng.standard_normal(3),
        gas=rng.standard_normal(3),
        merger=direction / np.linalg.norm(direction),
        redshifts=rng.permutation(REDSHIFTS),
        subhaloes=rng.random((MAX_SUBHALOES, 4)),
    )


def draw_view(rng: np.random.Generator) -> View:
    """Draw a line of sight, uniform over all directions."""
    rotation, upper = np.linalg.qr(rng.standard_normal((3, 3)))
    return View((rotation * np.sign(np.diag(upper))).T[:2], rng.standard_normal(2))


def make_halo(structure: Structure, redshift: float, cross_section: float, domain: Domain) -> Halo:
    """Make a cluster; twins differ by their cross-section and domain alone.

    Args:
        structure: Its random numbers.
        redshift: Of the snapshot.
        cross_section: sigma/m in cm^2/g.
        domain: The simulation's physics.
    """
    normal = structure.normal
    low, high = ndtr(
        (np.array([domain.mass_low, MASS_HIGH]) - domain.mass_mean) / domain.mass_scatter
    )
    quantile = low + structure.uniform["mass"] * (high - low)
    mass = float(10 ** (domain.mass_mean + domain.mass_scatter * ndtri(quantile)))
    critical = 3 * HUBBLE**2 * (OMEGA_MATTER * (1 + redshift) ** 3 + 1 - OMEGA_MATTER)
    critical /= 8 * np.pi * G
    radius = float((mass / (4 / 3 * np.pi * 200 * critical)) ** (1 / 3))
    concentration = 5.3 * (mass / 2e14) ** -0.1 * (1 + redshift) ** -0.5
    concentration = float(concentration * 10 ** (0.13 * normal["concentration"]))
    age = max(3.0, (7.5 + 1.5 * normal["age"]) * (1 - 0.5 * redshift))
    dark = mass * (1 - domain.gas_fraction - domain.star_fraction)
    scale = radius / concentration
    density = float(dark / (4 * np.pi * scale**3 * nfw_mass(concentration)))
    core = isothermal_core(density, scale, age, cross_section)
    return Halo(
        structure, redshift, mass, concentration, radius, density, age, cross_section, core, domain
    )


def subhaloes(halo: Halo) -> tuple[Array, Array]:
    """Return the masses of the subhaloes in Msun, shape (n,), and positions in kpc, shape (n, 3).

    dN/dm ~ m^-1.9 from 5e10 Msun to a twentieth of the halo. Scattering evaporates a share of
    them: those of a twin with larger cross-section are the first of its other twins'.
    """
    structure = halo.structure
    survivors = 1 - 0.35 * min(halo.cross_section, 1.0)
    mean = halo.domain.subhaloes * 55 * halo.mass / 5e14 * survivors
    count = min(int(np.ceil(max(pdtrik(structure.uniform["subhaloes"], mean), 0))), MAX_SUBHALOES)
    chance, distance, height, angle = structure.subhaloes[:count].T
    largest = 1 - (0.05 * halo.mass / 5e10) ** -0.9
    mass = 5e10 * (1 - chance * largest) ** (-1 / 0.9)
    along = 2 * height - 1
    across, angle = np.sqrt(1 - along**2), 2 * np.pi * angle
    direction = np.stack([across * np.cos(angle), across * np.sin(angle), along], axis=1)
    return mass, (halo.radius * distance**0.8)[:, None] * direction


def sky_shape(halo: Halo, view: View) -> tuple[float, float]:
    """Return axis ratio and angle of the long axis of the triaxial halo on the sky.

    Surfaces of equal density x^T S^-1 x project to the ellipses of the sky's block of S.
    """
    structure = halo.structure
    minor = float(np.clip(0.58 + 0.05 * structure.normal["axis_ratio"], 0.35, 0.95))
    middle = minor + structure.uniform["middle_axis"] * (1 - minor)
    block = (view.sky * np.array([1.0, middle**2, minor**2])) @ view.sky.T
    values, vectors = np.linalg.eigh(block)
    ratio = float(np.sqrt(values[0] / values[1]))
    return ratio, float(np.arctan2(vectors[1, 1], vectors[0, 1]))
