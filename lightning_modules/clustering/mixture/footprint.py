"""The sky that was looked at: an occupancy grid, and what of a profile falls outside of it."""

import math
from functools import cached_property
from typing import NamedTuple

import torch
from scipy import ndimage
from torch import Tensor

SIDE = 48
"""Cells a side at most."""
MARGIN = 6
"""Cells about the grid that are summed; what is beyond is integrated along rays."""
RAYS = 180


class Grid(NamedTuple):
    """Cells of a rectangular grid.

    Attributes:
        occupied: Which cells hold sky, (SIDE, SIDE) bool; cells beyond a smaller grid are empty.
        corner: Lower left corner in degrees, (2,).
        cell: Width and height of a cell in degrees, (2,).
    """

    occupied: Tensor
    corner: Tensor
    cell: Tensor

    @classmethod
    def empty(cls) -> "Grid":
        """Return a grid without sky."""
        return cls(
            torch.zeros(SIDE, SIDE, dtype=torch.bool),
            torch.zeros(2, dtype=torch.float64),
            torch.ones(2, dtype=torch.float64),
        )

    @classmethod
    def of_stars(cls, position: Tensor) -> "Grid":
        """Return the cells of a histogram that hold stars, closed and filled.

        It has about sqrt(n / 6) cells a side, between 12 and `SIDE`.

        Args:
            position: x and y in degrees, (n, 2) float64.
        """
        low, high = position.amin(0), position.amax(0)
        side = int(min(SIDE, max(12.0, (len(position) / 6) ** 0.5)))
        cell = ((high - low) / side).clamp_min(1e-9)
        where = ((position - low) / cell).long().clamp(0, side - 1)
        counts = torch.zeros(side + 4, side + 4, dtype=torch.bool)
        counts[where[:, 0] + 2, where[:, 1] + 2] = True  # a margin, else closing stops at the edge
        closed = ndimage.binary_closing(counts.numpy(), iterations=2)[2:-2, 2:-2]
        filled = ndimage.binary_fill_holes(closed | counts[2:-2, 2:-2].numpy())
        empty = cls.empty()
        empty.occupied[:side, :side] = torch.from_numpy(filled)
        return cls(empty.occupied, low, cell)


class Footprint:
    """Integrals over the cells of a grid and over the rest of the plane.

    Args:
        grid: At least one cell is occupied.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.cells = grid.corner + (torch.nonzero(grid.occupied) + 0.5) * grid.cell  # (g, 2)
        self.log_cell = math.log(float(grid.cell.prod()))
        self.centre = self.cells.mean(0)
        self.radius = float((self.cells - self.centre).norm(dim=1).max())

    @cached_property
    def outside(self) -> tuple[Tensor, Tensor]:
        """Quarters of cells off the sky, their centres (p, 2), and the box they fill, (2, 2)."""
        side = int(torch.nonzero(self.grid.occupied).max()) + 1
        steps = torch.arange(-2 * MARGIN, 2 * (side + MARGIN), device=self.cells.device)
        quarter = torch.cartesian_prod(steps, steps)
        where = quarter.div(2, rounding_mode="floor")
        inside = ((where >= 0) & (where < SIDE)).all(1)
        held = self.grid.occupied[tuple(where.clamp(0, SIDE - 1).T)] & inside
        points = self.grid.corner + (quarter[~held] + 0.5) * 0.5 * self.grid.cell
        ends = steps.new_tensor([[-MARGIN], [side + MARGIN]])
        return points, self.grid.corner + ends * self.grid.cell

    def log_share(self, centre: Tensor, shape: Tensor, degrees: Tensor) -> Tensor:
        """Return the log of the share of each profile that is inside, (K,), at least log 0.05.

        Args:
            centre: (K, 2) in degrees.
            shape: (K, 3): entries xx, xy and yy of the shape matrix in square degrees.
            degrees: Degrees of freedom of the Student-t, (K,).
        """
        points, box = self.outside
        squared, log_determinant = radius_squared(points, centre, shape)
        near = log_profile(squared, log_determinant, degrees).exp().sum(0)
        near = near * 0.25 * self.grid.cell.prod()
        far = share_beyond(box, centre, shape, degrees)
        return (1.0 - near - far).clamp(0.05, 1.0).log()

    def log_integral(self, slope: Tensor) -> Tensor:
        """Return the log of the integral of exp(slope · x) over the sky.

        Args:
            slope: (2,) per degree; 0 gives the log of the area in square degrees.
        """
        return torch.logsumexp(self.cells @ slope, 0) + self.log_cell


def radius_squared(position: Tensor, centre: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Return r² = (x - c)ᵀ A⁻¹ (x - c), (n, K), and log |A|.

    Args:
        position: (n, 2) in degrees.
        centre: (K, 2), or (n, K, 2) where each star has its own copy.
        shape: Entries xx, xy, yy of A in square degrees, (K, 3) or (n, K, 3).
    """
    dx, dy = (position[:, None, i] - centre[..., i] for i in (0, 1))
    xx, xy, yy = shape.unbind(-1)
    determinant = xx * yy - xy * xy
    squared = (yy * dx * dx - 2.0 * xy * dx * dy + xx * dy * dy) / determinant
    return squared, determinant.log()


def log_profile(squared: Tensor, log_determinant: Tensor, degrees: Tensor) -> Tensor:
    """Return the log density per square degree of the bivariate Student-t, as `squared` is shaped.

    S = (1 + r²/ν)^(-(ν + 2)/2) / (2π √|A|): ν = 2 is Plummer's profile with a² = ν √|A|.

    Args:
        squared: r², see `radius_squared`.
        log_determinant: log |A|.
        degrees: ν.
    """
    power = 0.5 * degrees + 1.0
    return -power * torch.log1p(squared / degrees) - 0.5 * log_determinant - math.log(2 * math.pi)


def share_beyond(box: Tensor, centre: Tensor, shape: Tensor, degrees: Tensor) -> Tensor:
    """Return the share of each Student-t profile outside of a box, (K,).

    Along a ray at angle θ from the centre to the wall, at distance R, the integral beyond is
    (1 + R² q/ν)^(-ν/2) / (q √|A|), with q = uᵀ A⁻¹ u for the ray's unit vector u; their mean over
    the angles is the share.

    Args:
        box: Lower left and upper right corner in degrees, (2, 2).
        centre: (K, 2) in degrees.
        shape: (K, 3): entries xx, xy and yy of A in square degrees.
        degrees: ν, (K,).
    """
    angle = (torch.arange(RAYS, dtype=torch.float64, device=box.device) + 0.5) * math.tau / RAYS
    unit = torch.stack([angle.cos(), angle.sin()], 1)
    wall = torch.where(unit > 0, box[1] - centre[:, None], box[0] - centre[:, None]) / unit
    distance = wall.amin(2).clamp_min(0.0).T  # (rays, K)
    q, log_determinant = radius_squared(unit, torch.zeros_like(centre), shape)
    beyond = (1.0 + distance.square() * q / degrees) ** (-0.5 * degrees)
    return (beyond / (q * (0.5 * log_determinant).exp())).mean(0)
