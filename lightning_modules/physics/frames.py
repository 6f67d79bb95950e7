"""The sky near a cluster as a plane: positions and proper motions in one frame.

Angles are in degrees, computed in float64. The frame is the tangent plane at a centre
(alpha_0, delta_0), x to the east and y to the north.
"""

import numpy as np

from lightning_modules.physics.arrays import Array


def tangent_plane(ra: Array, dec: Array, centre: Array) -> tuple[Array, Array]:
    """Project positions gnomonically (Calabretta & Greisen 2002, eq. 54).

    Args:
        ra: Right ascension in degrees, any branch, shape (n,).
        dec: Declination in degrees, shape (n,).
        centre: Tangent point (ra, dec) in degrees.

    Returns:
        x and y in degrees.

    Raises:
        ValueError: A star is 90 degrees or more from the centre.
    """
    east, north, depth = _direction_cosines(ra, dec, centre)
    far = int(np.sum(depth <= 1e-6))
    if far:
        raise ValueError(
            f"{far} stars lie 90 degrees or more from the centre {np.round(centre, 4).tolist()}; "
            "set data.centre or choose a smaller field"
        )
    return np.degrees(east / depth), np.degrees(north / depth)


def inverse_tangent_plane(x: Array, y: Array, centre: Array) -> tuple[Array, Array]:
    """Find the right ascension in [0, 360) and declination of points of the plane, in degrees."""
    ra0, dec0 = np.radians(centre)
    xi, eta = np.radians(x), np.radians(y)
    depth = np.cos(dec0) - eta * np.sin(dec0)
    ra = ra0 + np.arctan2(xi, depth)
    dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, depth))
    return np.mod(np.degrees(ra), 360.0), np.degrees(dec)


def _direction_cosines(ra: Array, dec: Array, centre: Array) -> tuple[Array, Array, Array]:
    """Resolve unit vectors along the centre's east, north and line of sight."""
    ra0, dec0 = np.radians(centre)
    delta, dec = np.radians(ra) - ra0, np.radians(dec)
    east = np.cos(dec) * np.sin(delta)
    north = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(delta)
    depth = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(delta)
    return east, north, depth


def frame_jacobian(ra: Array, dec: Array, centre: Array) -> Array:
    """Return the matrices that turn (mu_alpha*, mu_delta) into components along the centre's axes.

    The axes are fixed, so that stars which move together in space have equal components wherever
    they are in the field (to first order in the distance; orthographic Jacobian as in Vasiliev &
    Baumgardt 2021). The determinant is the cosine of the angle to the centre.

    Returns:
        Shape (n, 2, 2).
    """
    ra0, dec0 = np.radians(centre)
    delta, dec = np.radians(ra) - ra0, np.radians(dec)
    jacobian = np.empty((len(delta), 2, 2))
    jacobian[:, 0, 0] = np.cos(delta)
    jacobian[:, 0, 1] = -np.sin(dec) * np.sin(delta)
    jacobian[:, 1, 0] = np.sin(dec0) * np.sin(delta)
    jacobian[:, 1, 1] = np.cos(dec) * np.cos(dec0) + np.sin(dec) * np.sin(dec0) * np.cos(delta)
    return jacobian


def rotate_proper_motions(pmra: Array, pmdec: Array, jacobian: Array) -> tuple[Array, Array]:
    """Turn proper motions into the frame of the centre; units unchanged."""
    rotated = np.einsum("nij,nj->ni", jacobian, np.stack([pmra, pmdec], axis=1))
    return rotated[:, 0], rotated[:, 1]


def centre_of(ra: Array, dec: Array) -> Array:
    """Find the middle of a field: the median in the tangent plane at the mean direction.

    Safe where right ascension wraps and at the poles.

    Returns:
        (ra, dec) in degrees, shape (2,).

    Raises:
        ValueError: The stars are spread so evenly over the sky that they have no middle.
    """
    alpha, delta = np.radians(ra), np.radians(dec)
    vector = np.stack(
        [np.cos(delta) * np.cos(alpha), np.cos(delta) * np.sin(alpha), np.sin(delta)]
    ).mean(axis=1)
    if np.linalg.norm(vector) < 1e-3:
        raise ValueError("the stars cover the whole sky and have no centre; set data.centre")
    mean = np.degrees(
        [np.arctan2(vector[1], vector[0]), np.arctan2(vector[2], np.hypot(*vector[:2]))]
    )
    x, y = tangent_plane(ra, dec, mean)
    return np.array(inverse_tangent_plane(np.median(x), np.median(y), mean))
