"""How a lens magnifies: single lenses in numpy, binary lenses by VBMicrolensing.

Conventions (those of VBMicrolensing; Bozza 2010, MNRAS 408 2188): lengths are in Einstein radii
of the total mass, the origin is the centre of mass, lens A of mass 1 / (1 + q) is at
x = -q s / (1 + q) and lens B of mass q / (1 + q) at x = s / (1 + q). With tau = (t - t_0) / t_E
the source is at

    y_1 = u sin(alpha) - tau cos(alpha),    y_2 = -u cos(alpha) - tau sin(alpha),

u = u_0 without parallax: alpha is the angle of the source's motion to the lens axis, less pi.
t_0 and u_0 refer to the centre of mass. One function gives the path for single lenses and binaries.
"""

from collections.abc import Mapping
from itertools import repeat

import numpy as np
from VBMicrolensing import VBMicrolensing

from datamodules.microlensing.simulate.outer_images import is_outer, outer_magnification
from datamodules.microlensing.simulate.parallax import parallax_offsets
from lightning_modules.physics.arrays import Array
from lightning_modules.physics.point_lens import pspl

POINT_SOURCE = 1e-5
"""Radius of a source that has none, in Einstein radii."""

SPIKE = 2.0
"""An epoch this many times above both its neighbours is computed again, more exactly."""


class MagnificationEngine:
    """The magnification engine of one process.

    Args:
        ra: Of the field in degrees, for parallax.
        dec: Of the field in degrees.
        finite_source: Whether sources have a size, in both classes alike.
    """

    def __init__(self, ra: float, dec: float, finite_source: bool) -> None:
        self.ra = ra
        self.dec = dec
        self.finite_source = finite_source
        self.engine = VBMicrolensing()

    def parallax(self, events: Mapping[str, Array], time: Array) -> tuple[Array, Array] | None:
        """Return what parallax adds to tau and u, shape (n, T), or None if no event has any.

        Args:
            events: Parameters, each of shape (n,).
            time: Days, shape (n, T) or (1, T) float64.
        """
        north, east = events["parallax_north"][:, None], events["parallax_east"][:, None]
        if not (north.any() or east.any()):
            return None
        at_rest = events["parallax_time"][:, None]
        return parallax_offsets(time, at_rest, north, east, self.ra, self.dec)

    def magnify(
        self, events: Mapping[str, Array], binary: Array, time: Array, good: Array, tolerance: Array
    ) -> Array:
        """Magnify the sources of a block of events, one lens or two.

        Args:
            events: Parameters, each of shape (n,).
            binary: Whether the lens is two bodies, shape (n,).
            time: Days, shape (n, T) or (1, T).
            good: Epochs to compute, shape (n, T); the others are 1.
            tolerance: Relative, shape (n,).

        Returns:
            Shape (n, T) float32; NaN throughout where the engine failed.
        """
        total = self._source(events, binary, time, good, tolerance)
        two = events["flux_ratio"] > 0
        if two.any():
            some = {name: values[two] for name, values in events.items()}
            second = {
                **some,
                "impact_parameter": some["second_impact_parameter"],
                "peak_time": some["second_peak_time"],
            }
            their_time = np.broadcast_to(time, good.shape)[two]
            other = self._source(second, binary[two], their_time, good[two], tolerance[two])
            ratio = some["flux_ratio"][:, None].astype(np.float32)
            total[two] = (total[two] + ratio * other) / (1 + ratio)
        return total

    def _source(
        self, events: Mapping[str, Array], binary: Array, time: Array, good: Array, tolerance: Array
    ) -> Array:
        """Magnify one source each."""
        tau = (time - events["peak_time"][:, None]) / events["einstein_time"][:, None]
        along, across = self.parallax(events, time) or (0.0, 0.0)
        tau = tau + along
        across = np.broadcast_to(events["impact_parameter"][:, None] + across, tau.shape)
        result = np.ones(good.shape, dtype=np.float32)
        single = np.flatnonzero(~binary)
        distance = np.hypot(tau[single].astype(np.float32), across[single].astype(np.float32))
        result[single] = pspl(distance)
        radius = events["source_radius"] if self.finite_source else None
        if radius is not None:
            reach = np.sqrt(1.25 / tolerance) * radius
            for row, u in zip(single, distance, strict=True):
                near = np.flatnonzero((u < reach[row]) & good[row])
                if len(near):
                    values = map(self.engine.ESPLMag2, u[near].tolist(), repeat(float(radius[row])))
                    result[row, near] = np.fromiter(values, np.float32, len(near))
        rows = np.flatnonzero(binary)
        if len(rows):
            angle = events["angle"][rows, None]
            sine, cosine = np.sin(angle), np.cos(angle)
            result[rows] = self.binary(
                events["separation"][rows],
                events["mass_ratio"][rows],
                np.full(len(rows), POINT_SOURCE) if radius is None else radius[rows],
                across[rows] * sine - tau[rows] * cosine,
                -across[rows] * cosine - tau[rows] * sine,
                good[rows],
                tolerance[rows],
            )
        return np.where(good, result, np.float32(1.0))

    def binary(
        self, s: Array, q: Array, radius: Array, y1: Array, y2: Array, good: Array, tolerance: Array
    ) -> Array:
        """Magnify sources by binary lenses.

        Far from the caustics images are found by iteration (`outer_images`), and
        where the magnification is within a twentieth of the tolerance of 1 it is that of a single
        lens at the centre of mass. VBMicrolensing does the rest.

        Args:
            s: Separation in Einstein radii, shape (n,).
            q: Mass ratio, shape (n,).
            radius: Of the source in Einstein radii, shape (n,).
            y1: Position along the lens axis, shape (n, T).
            y2: Position across it, shape (n, T).
            good: Epochs to compute, shape (n, T).
            tolerance: Relative tolerance, shape (n,).

        Returns:
            Magnification, shape (n, T) float32, 1 where not `good`; NaN where the engine failed.
        """
        column = (slice(None), None)
        outer = good & is_outer(s[column], q[column], radius[column], y1, y2, tolerance[column])
        result = np.ones(good.shape, dtype=np.float32)
        event = np.nonzero(outer)[0]
        result[outer] = outer_magnification(s[event], q[event], y1[outer], y2[outer])
        left = good & (~outer | np.isnan(result))
        for row in range(len(s)):
            epochs = np.flatnonzero(left[row])
            result[row, epochs] = self._inner(
                float(s[row]),
                float(q[row]),
                float(radius[row]),
                y1[row, epochs],
                y2[row, epochs],
                float(tolerance[row]),
            )
        return result

    def _inner(
        self, s: float, q: float, radius: float, y1: Array, y2: Array, tolerance: float
    ) -> Array:
        """Magnify one event's source near the lens or its caustics; shape (T,), NaN on failure."""
        result = pspl(np.hypot(y1, y2))
        far_square = np.sqrt(40.0 / tolerance)  # A - 1 = 2 / u^4 far away
        to_a = (y1 + q * s / (1 + q)) ** 2 + y2**2
        to_b = (y1 - s / (1 + q)) ** 2 + y2**2
        near = np.flatnonzero(np.minimum(to_a, to_b) < far_square)
        result[near] = self._evaluate(s, q, radius, y1[near], y2[near], tolerance)
        if not np.isfinite(result).all() or result.min(initial=1.0) < 1.0 - 1e-3:
            return np.full(len(y1), np.nan)
        around = np.maximum(np.append(result[1:], np.inf), np.append(np.inf, result[:-1]))
        spikes = np.flatnonzero(result > SPIKE * around)
        again = self._evaluate(s, q, radius, y1[spikes], y2[spikes], 0.1 * tolerance)
        if (np.abs(again - result[spikes]) > 5 * tolerance * again).any():
            return np.full(len(y1), np.nan)
        return result

    def _evaluate(
        self, s: float, q: float, radius: float, y1: Array, y2: Array, tolerance: float
    ) -> Array:
        """Call VBMicrolensing at each position."""
        self.engine.Tol = self.engine.RelTol = tolerance
        try:
            values = map(
                self.engine.BinaryMag2,
                repeat(s),
                repeat(q),
                y1.tolist(),
                y2.tolist(),
                repeat(radius),
            )
            return np.fromiter(values, np.float64, len(y1))
        except RuntimeError:
            return np.full(len(y1), np.nan)
