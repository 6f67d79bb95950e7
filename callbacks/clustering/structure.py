"""The inner structure of clusters, from memberships: profile, dispersion, rotation (numpy)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

Array = NDArray[Any]
Scatter = Callable[[Array], Array]
"""Places x, y [deg], (n, 2), to the covariance of true parallax and proper motion, (n, 3, 3)."""
MIN_STARS = 25
"""Members that a bin of the kinematics holds at least."""
GRID = 160
"""Values of the dispersion that are tried."""


@dataclass(frozen=True)
class Cluster:
    """A cluster: who is in it, where it is and how it moves.

    Args:
        probability: Membership of each star, shape (n,).
        centre: x, y [deg], shape (2,).
        radius: Scale radius [deg]: Plummer's a, which holds half of the stars.
        mean: Mean proper motion [mas/yr], shape (2,).
        dispersion: Of the proper motion at the centre, on each axis [mas/yr].
        nu: Slope of the fitted profile, 2 for Plummer's; None if nothing was fitted.
        ellipticity: 1 - b/a.
        position_angle: Of the long axis, degrees from north to east.
        scatter: Of a model that knows it: by dispersion and depth, without measurement errors.
    """

    probability: Array
    centre: Array
    radius: float
    mean: Array
    dispersion: float
    nu: float | None = None
    ellipticity: float = 0.0
    position_angle: float = 0.0
    scatter: Scatter | None = None

    @classmethod
    def of_parameters(
        cls, row: dict[str, float], probability: Array, scatter: Scatter
    ) -> "Cluster":
        """Return a cluster that a model has fitted.

        Args:
            row: Of `ParametricModule.parameter_rows`.
            probability: Membership of each star in it, shape (n,).
            scatter: Of its true parallaxes and motions.
        """
        names = ("radius", "dispersion", "nu", "ellipticity", "position_angle")
        place, motion = np.array([row["x"], row["y"]]), np.array([row["pmra"], row["pmdec"]])
        known = {name: row[name] for name in names}
        return cls(probability, place, mean=motion, scatter=scatter, **known)

    @classmethod
    def of_members(cls, probability: Array, position: Array, motion: Array) -> "Cluster | None":
        """Return a cluster described by its members (probability above 0.5); None if they are few.

        Args:
            probability: Shape (n,).
            position: x, y [deg], shape (n, 2).
            motion: Proper motion [mas/yr], shape (n, 2).
        """
        member = (probability > 0.5) & np.isfinite(position).all(1) & np.isfinite(motion).all(1)
        if member.sum() < MIN_STARS:
            return None
        centre, mean = np.median(position[member], 0), np.median(motion[member], 0)
        radius = float(np.median(np.hypot(*(position[member] - centre).T)))
        spread = 1.4826 * float(np.median(np.abs(motion[member] - mean)))
        return cls(probability, centre, radius, mean, spread)

    def radii(self, position: Array) -> Array:
        """Return the elliptical radius √(q u² + w²/q) of places, u along the long axis; degrees.

        Ellipses have the area π R², so that a round profile may be drawn for any ellipticity.

        Args:
            position: x, y [deg], shape (n, 2).
        """
        angle, ratio = np.radians(self.position_angle), 1.0 - self.ellipticity
        x, y = (position - self.centre).T
        along, across = x * np.sin(angle) + y * np.cos(angle), x * np.cos(angle) - y * np.sin(angle)
        return np.sqrt(ratio * along**2 + across**2 / ratio)

    def ellipse(self, radius: Array, angles: Array) -> Array:
        """Return the places on ellipses, x and y [deg], shape (r, a, 2).

        Args:
            radius: Elliptical radii [deg], shape (r,).
            angles: Radians from the long axis, shape (a,).
        """
        return self.places(radius[:, None], angles)

    def places(self, radius: Array, angles: Array) -> Array:
        """Return the places at elliptical radii and angles, the inverse of `radii`; x and y [deg].

        Args:
            radius: Degrees.
            angles: Radians from the long axis, of a shape that broadcasts with it.
        """
        turn, ratio = np.radians(self.position_angle), (1.0 - self.ellipticity) ** 0.5
        along, across = radius * np.cos(angles) / ratio, radius * np.sin(angles) * ratio
        x = along * np.sin(turn) + across * np.cos(turn)
        y = along * np.cos(turn) - across * np.sin(turn)
        return np.stack([x, y], -1) + self.centre

    def density(self, radius: Array) -> Array:
        """Return the fitted profile in shares of the stars per square degree, integral 1.

        S = ν / (2π a²) (1 + R²/a²)^(-ν/2 - 1).

        Args:
            radius: R, degrees.
        """
        assert self.nu is not None
        falling = (1.0 + (radius / self.radius) ** 2) ** (-0.5 * self.nu - 1.0)
        return 0.5 * self.nu / np.pi / self.radius**2 * falling

    def motion_scatter(self, position: Array) -> Array:
        """Return the covariance of true proper motions at places, entries xx, xy, yy, (n, 3).

        Args:
            position: x, y [deg], shape (n, 2).
        """
        if self.scatter is None:
            return self.dispersion**2 * np.tile([1.0, 0.0, 1.0], (len(position), 1))
        return self.scatter(position)[:, [1, 1, 2], [1, 2, 2]]

    def dispersion_at(self, radius: Array) -> Array:
        """Return the rms of true proper motions on an axis [mas/yr] at radii in degrees, (r,)."""
        variance = self.motion_scatter(self.places(radius, np.zeros(len(radius))))
        return np.asarray(variance[:, [0, 2]].mean(1) ** 0.5)


@dataclass(frozen=True)
class Footprint:
    """The sky that was looked at, as the convex hull of the stars.

    Args:
        equations: Of its sides, n · x + d < 0 inside, shape (sides, 3).
    """

    equations: Array

    @classmethod
    def of_stars(cls, position: Array) -> "Footprint":
        """Return the hull of stars at x, y [deg], shape (n, 2), at least three."""
        return cls(ConvexHull(position).equations)

    def coverage(self, cluster: Cluster, radius: Array) -> Array:
        """Return the share of the ellipse at each radius that is inside, shape (r,).

        Args:
            cluster: Whose ellipses.
            radius: Degrees, shape (r,).
        """
        angles = (np.arange(72) + 0.5) * 2 * np.pi / 72
        return self.holds(cluster.ellipse(radius, angles)).mean(-1)

    def holds(self, points: Array) -> Array:
        """Return which places, x and y [deg] on the last axis, are inside."""
        return np.all(points @ self.equations[:, :2].T + self.equations[:, 2] < 0, axis=-1)

    def area(self, cluster: Cluster, edges: Array) -> Array:
        """Return the area [deg²] of elliptical rings that is inside, shape (r - 1,).

        Args:
            cluster: Whose ellipses.
            edges: Radii [deg], rising, shape (r,).
        """
        steps = np.linspace(edges[:-1], edges[1:], 9)  # (9, rings)
        middle = 0.5 * (steps[:-1] + steps[1:])
        rings = np.pi * np.diff(steps**2, axis=0)
        return (rings * self.coverage(cluster, middle.ravel()).reshape(middle.shape)).sum(0)


def density_profile(cluster: Cluster, position: Array, sky: Footprint) -> dict[str, Array]:
    """Return the number density of members and of all stars in rings, per square degree.

    Args:
        cluster: Its memberships are the weights.
        position: x, y [deg], shape (n, 2).
        sky: What was looked at.

    Returns:
        `radius` (mean over the members), `members`, its Poisson `error`, and `stars`.
    """
    radius, p = cluster.radii(position), cluster.probability
    inner = np.sort(radius[p > 0.5])[:MIN_STARS][-1] if (p > 0.5).any() else cluster.radius
    edges = np.append(0.0, np.geomspace(inner, radius.max(), 12))
    members, stars, centred = (
        np.histogram(radius, edges, weights=w)[0] for w in (p, np.ones(len(p)), p * radius)
    )
    area = sky.area(cluster, edges)
    kept = (members >= 1) & (area > 0)
    members, stars, centred, area = (x[kept] for x in (members, stars, centred, area))
    return {
        "radius": centred / members,
        "members": members / area,
        "error": np.sqrt(members) / area,
        "stars": stars / area,
    }


def kinematic_profile(
    cluster: Cluster, position: Array, motion: Array, covariance: Array
) -> dict[str, Array]:
    """Return the dispersion and the mean motion of members in rings of equal numbers, in mas/yr.

    Radial motion is outwards, tangential from north to east, both less the cluster's mean. The
    dispersion is that of the true motions on each axis: errors are taken out by likelihood.

    Args:
        cluster: Its memberships are the weights.
        position: x, y [deg], shape (n, 2).
        motion: Proper motion [mas/yr], shape (n, 2).
        covariance: Of its errors, entries xx, xy, yy, shape (n, 3).

    Returns:
        `radius`, `dispersion`, its 68 % interval `low` and `high`, `radial`, `tangential` and their
        errors `radial_error`, `tangential_error`, shape (rings,) each.
    """
    known = np.isfinite(motion).all(1) & np.isfinite(covariance).all(1)
    used = np.flatnonzero(known & (cluster.probability > 0.2))
    radius, p = cluster.radii(position[used]), cluster.probability[used]
    velocity, variance = polar(
        position[used] - cluster.centre, motion[used] - cluster.mean, covariance[used]
    )
    rings = np.array_split(np.argsort(radius), int(np.clip(p.sum() // (2 * MIN_STARS), 1, 8)))
    found = []
    for ring in rings if p.sum() >= MIN_STARS else []:
        v, e, w = velocity[ring], variance[ring], p[ring]
        low, middle, high = true_dispersion(v, e, w)
        weight = w[:, None] / (middle**2 + e)
        mean, error = (weight * v).sum(0) / weight.sum(0), weight.sum(0) ** -0.5
        found.append([np.average(radius[ring], weights=w), middle, low, high, *mean, *error])
    names = "radius", "dispersion", "low", "high", "radial", "tangential"
    columns = np.array(found).reshape(-1, 8).T
    return dict(zip((*names, "radial_error", "tangential_error"), columns, strict=True))


def polar(offset: Array, motion: Array, covariance: Array) -> tuple[Array, Array]:
    """Return motions outwards and from north to east, and the variances of their errors.

    Args:
        offset: x, y from the centre, shape (n, 2).
        motion: Shape (n, 2).
        covariance: Entries xx, xy, yy, shape (n, 3).

    Returns:
        Shape (n, 2) each.
    """
    east, north = (offset / np.maximum(np.hypot(*offset.T), 1e-12)[:, None]).T
    axes = np.stack([[east, north], [north, -east]])  # (2, 2, n): outwards, tangential
    xx, xy, yy = covariance.T
    (ax, ay), (bx, by) = axes
    velocity = np.stack(
        [ax * motion[:, 0] + ay * motion[:, 1], bx * motion[:, 0] + by * motion[:, 1]], 1
    )
    variance = [x * x * xx + 2 * x * y * xy + y * y * yy for x, y in ((ax, ay), (bx, by))]
    return velocity, np.stack(variance, 1)


def true_dispersion(velocity: Array, variance: Array, weight: Array) -> Array:
    """Return the 16th, 50th and 84th percentile of the dispersion without errors, shape (3,).

    The posterior for v ~ N(0, σ² + e²) under a flat prior in σ, on a grid.

    Args:
        velocity: v, shape (n, 2).
        variance: e², shape (n, 2).
        weight: Of each star, shape (n,).
    """
    rms = np.sqrt(np.average((velocity**2).mean(1), weights=weight))
    sigma = np.linspace(0.0, 2.5 * rms, GRID)
    total = sigma[:, None, None] ** 2 + variance
    log = -0.5 * ((velocity**2 / total + np.log(total)).sum(2) @ weight)
    share = np.cumsum(np.exp(log - log.max()))
    return np.interp([0.16, 0.5, 0.84], share / share[-1], sigma)
