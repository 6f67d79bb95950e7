"""A simulated field with star clusters, as Gaia DR3 would list it, truth included (numpy only)."""

from dataclasses import dataclass

import numpy as np

from datamodules.clustering.gaia_columns import ERRORS, storage
from datamodules.clustering.simulate import astrometry, galaxy
from datamodules.clustering.simulate.profiles import Profile, draw_radii, velocity_dispersion
from datamodules.source import check_rules
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.covariance import MAS_PER_DEG
from lightning_modules.physics.frames import frame_jacobian, inverse_tangent_plane

ISOCHRONE = np.array(
    [
        [-3.0, -2.0, 0.0, 2.0, 3.0, 3.5, 4.0, 4.5, 5.5, 6.5, 7.5, 9.0, 11.0, 14.0],
        [1.75, 1.45, 1.15, 0.98, 0.93, 0.8, 0.66, 0.66, 0.8, 1.05, 1.4, 2.0, 2.7, 3.6],
    ]
)
"""Absolute magnitude M_G and colour BP-RP along an old, metal-poor locus."""

BINARY_SHARE = 0.2
FIRST_ID = 4_000_000_000_000_000_000
ID_STEP = 128


@dataclass
class StarCluster:
    """One star cluster.

    Attributes:
        num_stars: Number of stars.
        offset: Position (x, y) in degrees from the field's centre.
        parallax: True parallax in mas.
        proper_motion: Mean (mu_x, mu_y) in mas/yr, at the field's centre.
        dispersion: Central velocity dispersion in mas/yr on each axis; falls with radius.
        profile: Surface density: `plummer`, `king` (1962) or `eff` (Elson, Fall & Freeman).
        scale: Plummer's a, King's core radius or EFF's a, in degrees.
        tidal_radius: Where the cluster ends, in degrees.
        slope: gamma of `eff`, above 2.
        ellipticity: 1 - b/a, in [0, 1); the mean radius is kept.
        position_angle: Of the long axis, degrees from north to east.
        tail_fraction: Share of the stars in two tidal tails.
        tail_length: Mean length of a tail beyond one tidal radius, in degrees.
        tail_angle: Direction of the tails, degrees from north to east.
        colour_offset: Added to BP-RP of the locus: metallicity or reddening.
    """

    num_stars: int = 2000
    offset: tuple[float, float] = (0.0, 0.0)
    parallax: float = 0.5
    proper_motion: tuple[float, float] = (-12.5, -19.0)
    dispersion: float = 0.45
    profile: Profile = "plummer"
    scale: float = 0.1
    tidal_radius: float = 0.5
    slope: float = 3.0
    ellipticity: float = 0.0
    position_angle: float = 0.0
    tail_fraction: float = 0.0
    tail_length: float = 0.2
    tail_angle: float = 0.0
    colour_offset: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that make no cluster."""
        rules = {
            "num_stars must be at least 1": self.num_stars >= 1,
            "offset and proper_motion must be pairs": len(self.offset) == 2
            and len(self.proper_motion) == 2,
            "parallax must be positive": self.parallax > 0,
            "dispersion must not be negative": self.dispersion >= 0,
            "profile must be plummer, king or eff": self.profile in ("plummer", "king", "eff"),
            "0 < scale < tidal_radius must hold": 0 < self.scale < self.tidal_radius,
            "slope must be above 2": self.slope > 2,
            "ellipticity must be in [0, 1)": 0 <= self.ellipticity < 1,
            "tail_fraction must be in [0, 1]": 0 <= self.tail_fraction <= 1,
            "tail_length must be positive": self.tail_length > 0,
        }
        check_rules(f"a cluster of data.source.clusters: {self}", rules)


@dataclass(kw_only=True)
class Sky:
    """Where and how deep to look.

    Args:
        centre: Middle of the field, (ra, dec) in degrees.
        radius: Radius of the field in degrees.
        magnitudes: Range of apparent G.
        zero_point: Parallax zero point in mas, added to every measured parallax.
        two_parameter_share: Share of the stars, faint ones, measured with a position alone: without
            parallax and proper motion, as Gaia's two-parameter solutions.
    """

    centre: tuple[float, float] = (245.9, -26.5)
    radius: float = 0.5
    magnitudes: tuple[float, float] = (13.0, 20.5)
    zero_point: float = -0.03
    two_parameter_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        (_, dec), (bright, faint) = self.centre, self.magnitudes
        rules = {
            f"radius={self.radius} must be in (0, 45)": 0 < self.radius < 45,
            f"centre={list(self.centre)} must be (ra, dec) in degrees": -90 <= dec <= 90,
            f"magnitudes={list(self.magnitudes)} must be [bright, faint]": bright < faint,
            f"two_parameter_share={self.two_parameter_share} must be in [0, 1)": 0
            <= self.two_parameter_share
            < 1,
        }
        check_rules("data.source", rules)


Truth = dict[str, Array]
"""True values of one population, first axis the star; angles in the tangent frame of the field.

`x` and `y` (degrees east and north of the centre), `parallax` (mas), `motion` ((mu_x, mu_y) in
mas/yr for clusters, (mu_alpha*, mu_delta) for the field, shape (n, 2)), `magnitude` G, `colour`
BP-RP, `label` (0 field, 1..K clusters), and `radius` (projected, within the cluster's profile, in
degrees; NaN in tails and field).
"""


def draw_cluster(rng: np.random.Generator, cluster: StarCluster, label: int, sky: Sky) -> Truth:
    """Draw the stars of a cluster; those outside the field are drawn again."""
    x, y, radius = _draw_positions(rng, cluster, sky.radius)
    shape = np.hypot(x - cluster.offset[0], y - cluster.offset[1])
    sigma = velocity_dispersion(shape, cluster.scale, cluster.dispersion)
    motion = np.array(cluster.proper_motion) + sigma[:, None] * rng.standard_normal((len(x), 2))
    modulus = galaxy.distance_modulus(np.array(1.0 / cluster.parallax))
    magnitude, colour = _draw_photometry(rng, len(x), modulus, sky.magnitudes)
    return {
        "x": x,
        "y": y,
        "parallax": np.full(len(x), cluster.parallax),
        "motion": motion,
        "magnitude": magnitude,
        "colour": colour + cluster.colour_offset,
        "label": np.full(len(x), label),
        "radius": radius,
    }


def _draw_positions(
    rng: np.random.Generator, cluster: StarCluster, field_radius: float
) -> tuple[Array, Array, Array]:
    """Draw positions of cluster stars inside the field, and their radii in the profile."""
    kept = np.empty((0, 3))
    for _ in range(100):
        drawn = np.stack(_draw_once(rng, cluster), axis=1)
        inside = np.hypot(drawn[:, 0], drawn[:, 1]) < field_radius
        kept = np.concatenate([kept, drawn[inside]])
        if len(kept) >= cluster.num_stars:
            x, y, radius = kept[: cluster.num_stars].T
            return x, y, radius
    raise ValueError(
        f"a cluster at offset {cluster.offset} lies outside the field of radius {field_radius} "
        "degrees; move it or enlarge data.source.radius"
    )


def _draw_once(rng: np.random.Generator, cluster: StarCluster) -> tuple[Array, Array, Array]:
    """Draw positions anywhere: profile, ellipticity, tails."""
    count = cluster.num_stars
    radius = draw_radii(
        rng.random(count), cluster.profile, cluster.scale, cluster.tidal_radius, cluster.slope
    )
    angle = 2 * np.pi * rng.random(count)
    axis = np.sqrt(1.0 - cluster.ellipticity)
    along, across = radius * np.cos(angle) / axis, radius * np.sin(angle) * axis
    x, y = _turn(along, across, cluster.position_angle)
    length = cluster.tidal_radius * rng.random(count) + rng.exponential(cluster.tail_length, count)
    length *= np.where(rng.random(count) < 0.5, -1.0, 1.0)
    tail_x, tail_y = _turn(length, cluster.scale * rng.standard_normal(count), cluster.tail_angle)
    in_tail = rng.random(count) < cluster.tail_fraction
    return (
        cluster.offset[0] + np.where(in_tail, tail_x, x),
        cluster.offset[1] + np.where(in_tail, tail_y, y),
        np.where(in_tail, np.nan, radius),
    )


def _turn(along: Array, across: Array, position_angle: float) -> tuple[Array, Array]:
    """Turn (along, across) an axis at a position angle (north to east) into (x, y)."""
    sine, cosine = np.sin(np.radians(position_angle)), np.cos(np.radians(position_angle))
    return along * sine + across * cosine, along * cosine - across * sine


def _draw_photometry(
    rng: np.random.Generator, count: int, modulus: Array, magnitudes: tuple[float, float]
) -> tuple[Array, Array]:
    """Draw G and BP-RP along the isochrone, binaries brighter by up to 0.75 mag."""
    grid = np.linspace(*magnitudes, 500)
    number = np.cumsum(10.0 ** (0.25 * grid) * (grid - modulus > ISOCHRONE[0, 0]))
    if number[-1] == 0:
        raise ValueError("a cluster is too near: all its stars are brighter than the field's range")
    magnitude = np.interp(rng.random(count), number / number[-1], grid)
    colour = np.interp(magnitude - modulus, *ISOCHRONE)
    binary = rng.random(count) < BINARY_SHARE
    brighter = magnitude - 0.75 * binary * rng.random(count)
    return np.maximum(brighter, magnitudes[0]), colour + 0.01 * rng.standard_normal(count)


def draw_field(rng: np.random.Generator, count: int, sky: Sky) -> Truth:
    """Draw field stars, uniform on the sky, from the model of the Galaxy."""
    radius = sky.radius * np.sqrt(rng.random(count))
    angle = 2 * np.pi * rng.random(count)
    x, y = radius * np.sin(angle), radius * np.cos(angle)
    centre = np.array(sky.centre)
    distance, component, absolute, g = galaxy.draw_distances(rng, count, centre, sky.magnitudes)
    directions = np.stack(inverse_tangent_plane(x, y, centre), axis=1)
    motion = galaxy.draw_proper_motions(rng, distance, component, directions)
    return {
        "x": x,
        "y": y,
        "parallax": 1.0 / distance,
        "motion": np.stack(motion, axis=1),
        "magnitude": g,
        "colour": galaxy.draw_colours(rng, absolute, distance),
        "label": np.zeros(count, dtype=np.int64),
        "radius": np.full(count, np.nan),
    }


def observe(rng: np.random.Generator, truth: Truth, sky: Sky) -> dict[str, Array]:
    """Turn true values into a catalogue: errors, correlations, noise, zero point.

    Args:
        rng: Random numbers.
        truth: Of all populations.
        sky: Where they are.
    """
    count, centre = len(truth["x"]), np.array(sky.centre)
    ra, dec = inverse_tangent_plane(truth["x"], truth["y"], centre)
    motion, member = truth["motion"].copy(), truth["label"] > 0
    inverse = np.linalg.inv(frame_jacobian(ra[member], dec[member], centre))
    motion[member] = np.einsum("nij,nj->ni", inverse, motion[member])
    errors = astrometry.draw_errors(rng, truth["magnitude"])
    correlations = astrometry.draw_correlations(rng, count)
    noise = astrometry.draw_noise(rng, errors, correlations)
    error_g, error_colour = astrometry.photometric_errors(truth["magnitude"])
    columns = {
        "source_id": FIRST_ID + ID_STEP * rng.permutation(4 * count)[:count],
        "ra": np.mod(ra + noise[:, 0] / MAS_PER_DEG / np.cos(np.radians(dec)), 360.0),
        "dec": dec + noise[:, 1] / MAS_PER_DEG,
        "parallax": truth["parallax"] + noise[:, 2] + sky.zero_point,
        "pmra": motion[:, 0] + noise[:, 3],
        "pmdec": motion[:, 1] + noise[:, 4],
        **dict(zip(ERRORS, errors.T, strict=True)),
        **astrometry.correlation_columns(correlations),
        "phot_g_mean_mag": truth["magnitude"] + error_g * rng.standard_normal(count),
        "bp_rp": truth["colour"] + error_colour * rng.standard_normal(count),
        "label": truth["label"],
        "true_parallax": truth["parallax"],
        "true_pmra": motion[:, 0],
        "true_pmdec": motion[:, 1],
        "true_radius": truth["radius"],
    }
    if sky.two_parameter_share:
        position_only = astrometry.draw_position_only(
            rng, truth["magnitude"], sky.two_parameter_share
        )
        columns |= {n: np.where(position_only, np.nan, columns[n]) for n in astrometry.MOTION}
    return {name: storage(name, values) for name, values in columns.items()}
