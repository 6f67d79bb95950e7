"""Coordinates of the cross-section: of the prior, and in which its effect grows (numpy)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from callbacks.sidm.populations import Array
from lightning_modules.physics.isothermal_jeans import typical_core_radius

Interpolation = Literal["core", "log"]
BEYOND = 1.6
"""The prior ends at so many times the largest known cross-section."""


@dataclass(frozen=True)
class Coordinate:
    """The coordinate u = log10(1 + σ/σ0), in which CDM is 0, and a grid on it.

    Args:
        largest: Largest known σ/m in cm^2/g; the prior ends at 1.6 times that.
        interpolation: Coordinate of the path: `core`, r1 of a typical cluster, or `log`, u.
        softening: σ0 in cm^2/g.
        num_points: Of the grid.
    """

    largest: float
    interpolation: Interpolation = "core"
    softening: float = 0.1
    num_points: int = 400

    def of(self, cross_section: Array | float) -> Array:
        """Return u of σ/m in cm^2/g."""
        return np.log10(1.0 + np.asarray(cross_section, np.float64) / self.softening)

    def inverse(self, u: Array | float) -> Array:
        """Return σ/m in cm^2/g of u."""
        return self.softening * (10.0 ** np.asarray(u, np.float64) - 1.0)

    def along(self, cross_section: Array) -> Array:
        """Return the coordinate of the path, 0 for CDM and 1 for the largest known σ/m, (n,).

        Args:
            cross_section: σ/m in cm^2/g, shape (n,).
        """
        effect = self.of if self.interpolation == "log" else typical_core_radius
        both = effect(np.append(cross_section, self.largest))
        return np.asarray(both[:-1] / both[-1])

    @cached_property
    def grid(self) -> Array:
        """Points of u from CDM to the end of the prior, which is flat in u, shape (G,)."""
        return np.linspace(0.0, float(self.of(BEYOND * self.largest)), self.num_points)

    @cached_property
    def places(self) -> Array:
        """The grid in the coordinate of the path, shape (G,)."""
        return self.along(self.inverse(self.grid))
