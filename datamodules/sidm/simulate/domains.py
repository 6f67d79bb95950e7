"""The simulations that are imitated: their cross-sections and the physics of their domains."""

from dataclasses import dataclass, fields, replace
from typing import Literal

from datamodules.source import check_rules

DomainName = Literal["fiducial", "agn_weak", "agn_strong", "foreign", "dark_matter_only", "noise"]

MAX_CROSS_SECTION = 2.0
"""In cm^2/g; far beyond it no isothermal core fits the densest haloes (they would collapse)."""


@dataclass(frozen=True)
class Domain:
    """Numbers that differ between the codes and feedbacks of simulations.

    Attributes:
        particle_mass: Of dark matter, Msun.
        baryon_mass: Of a particle of gas or stars, Msun.
        smoothing: Standard deviation of the kernel of dark matter and gas, kpc.
        mass_mean: Mean of log10 M200c/Msun.
        mass_scatter: Its standard deviation, before the limits.
        mass_low: Its lower limit; the upper one is 15.2.
        redshift_offset: Added to the redshifts.
        gas_fraction: Mass of gas over M200c.
        gas_core: Core radius of the gas over r200.
        cool_cores: Share of clusters with a cool core, 0.3 times as large.
        star_fraction: Mass of stars over M200c that dark matter lacks.
        bcg_mass: Factor of the mass of the brightest cluster galaxy.
        satellite_stars: Mass of stars over the mass of a subhalo.
        subhaloes: Factor of their number.
    """

    particle_mass: float = 5.5e9
    baryon_mass: float = 1.1e9
    smoothing: float = 20.0
    mass_mean: float = 14.5
    mass_scatter: float = 0.2
    mass_low: float = 14.2
    redshift_offset: float = 0.0
    gas_fraction: float = 0.11
    gas_core: float = 0.1
    cool_cores: float = 0.35
    star_fraction: float = 0.015
    bcg_mass: float = 1.0
    satellite_stars: float = 0.03
    subhaloes: float = 1.0


FIDUCIAL = Domain()
DOMAINS: dict[str, Domain] = {
    "fiducial": FIDUCIAL,
    "agn_weak": replace(
        FIDUCIAL, gas_fraction=0.135, gas_core=0.07, cool_cores=0.55, bcg_mass=1.25
    ),
    "agn_strong": replace(
        FIDUCIAL, gas_fraction=0.085, gas_core=0.15, cool_cores=0.15, bcg_mass=0.8
    ),
    "foreign": replace(
        FIDUCIAL,
        particle_mass=6.9e7,
        smoothing=12.0,
        mass_mean=14.85,
        mass_scatter=0.12,
        mass_low=14.7,
        redshift_offset=0.05,
        gas_fraction=0.125,
        bcg_mass=1.4,
        subhaloes=1.5,
    ),
    "dark_matter_only": replace(
        FIDUCIAL, gas_fraction=0.0, star_fraction=0.0, bcg_mass=0.0, satellite_stars=0.0
    ),
    "noise": FIDUCIAL,
}
"""BAHAMAS-like with three strengths of AGN feedback, DARKSKIES-like zooms, dark matter alone."""


@dataclass
class Simulation:
    """One run of a simulation.

    Attributes:
        name: Its name.
        cross_section: sigma/m in cm^2/g; null for noise alone.
        domain: `fiducial`, `agn_weak` or `agn_strong` (feedback), `foreign` (another code and
            resolution), `dark_matter_only`, or `noise` (pixels uniform in 0 to 1).
        num_halos: Number of its clusters; the source's if null.
        halo_set: Runs of one set are twins: the same clusters and lines of sight, which differ by
            cross-section and domain alone.
    """

    name: str
    cross_section: float | None = None
    domain: DomainName = "fiducial"
    num_halos: int | None = None
    halo_set: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that make no simulation."""
        value = self.cross_section
        noise = self.domain == "noise"
        rules = {
            "name must not be empty": bool(self.name),
            f"domain {self.domain!r} must be one of {', '.join(DOMAINS)}": self.domain in DOMAINS,
            "cross_section must be null for noise": not noise or value is None,
            f"cross_section must be from 0 to {MAX_CROSS_SECTION:g} cm^2/g": noise
            or (value is not None and 0 <= value <= MAX_CROSS_SECTION),
            "num_halos must be positive": self.num_halos is None or self.num_halos > 0,
            "halo_set must not be negative": self.halo_set >= 0,
        }
        check_rules(f"data.source.simulations: {self.name!r}", rules)


def domain_of(name: str, gap: float) -> Domain:
    """Return the numbers of a domain.

    Args:
        name: One of `DOMAINS`.
        gap: How far `foreign` is from `fiducial`, 0 to 1; masses of particles change by their
            logarithm.
    """
    there = DOMAINS[name]
    if name != "foreign":
        return there
    mixed = {f.name: _between(f.name, there, gap) for f in fields(Domain)}
    return Domain(**mixed)


def _between(name: str, there: Domain, gap: float) -> float:
    """Return one number between the fiducial domain and another."""
    first, last = getattr(FIDUCIAL, name), getattr(there, name)
    if name == "particle_mass":
        return float(first ** (1 - gap) * last**gap)
    return float((1 - gap) * first + gap * last)
