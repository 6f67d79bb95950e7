"""Annual parallax: how the Earth's orbit bends the path of the source (numpy only)."""

import numpy as np

from datamodules.microlensing.simulate.cadence import TIME_ZERO
from lightning_modules.physics.arrays import Array

J2000 = 2451545.0
OBLIQUITY = np.radians(23.439)
PRECESSION = 3.82e-5
"""Degrees a day that the equinox of date moves against that of 2000."""


def sun_position(time: Array) -> Array:
    """Return the Sun's geocentric position in AU, to 3e-4 (Astronomical Almanac, equinox 2000).

    Args:
        time: Days after `TIME_ZERO`, any shape.

    Returns:
        Equatorial (x, y, z), shape (3, ...).
    """
    days = time + (TIME_ZERO - J2000)
    anomaly = np.radians(357.528 + 0.9856003 * days)
    longitude = np.radians(280.460 + (0.9856474 - PRECESSION) * days)
    longitude = longitude + np.radians(1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    distance = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly)
    east = distance * np.sin(longitude)
    return np.stack(
        [distance * np.cos(longitude), east * np.cos(OBLIQUITY), east * np.sin(OBLIQUITY)]
    )


def projected_sun(time: Array, ra: float, dec: float) -> tuple[Array, Array]:
    """Project the Sun's position on the sky: north and east in AU, each of the shape of `time`."""
    a, d = np.radians(ra), np.radians(dec)
    east = np.array([-np.sin(a), np.cos(a), 0.0])
    north = np.array([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
    position = sun_position(time)
    return np.tensordot(north, position, axes=1), np.tensordot(east, position, axes=1)


def parallax_offsets(
    time: Array, frame_time: Array, north: Array, east: Array, ra: float, dec: float
) -> tuple[Array, Array]:
    """Return what parallax adds to the path, in a frame that moves with the Earth (Gould 2004).

    delta_tau = pi_N s_N + pi_E s_E and delta_beta = pi_N s_E - pi_E s_N, where s(t) is the Sun's
    projected position minus its tangent at `frame_time`.

    Args:
        time: Days, shape (n, T).
        frame_time: When the frame is at rest with the Earth, usually t_0, in days, shape (n, 1).
        north: pi_E,N, shape (n, 1).
        east: pi_E,E, shape (n, 1).
        ra: Of the field in degrees.
        dec: Of the field in degrees.

    Returns:
        delta_tau and delta_beta in Einstein radii, shape (n, T).
    """
    here = projected_sun(time, ra, dec)
    at_rest = projected_sun(frame_time, ra, dec)
    later, earlier = (
        projected_sun(frame_time + 0.5, ra, dec),
        projected_sun(frame_time - 0.5, ra, dec),
    )
    s_north, s_east = (
        s - s0 - (s1 - s2) * (time - frame_time)
        for s, s0, s1, s2 in zip(here, at_rest, later, earlier, strict=True)
    )
    return north * s_north + east * s_east, north * s_east - east * s_north
