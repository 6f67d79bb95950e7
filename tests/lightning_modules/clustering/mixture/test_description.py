"""Physical parameters of clusters and their errors by the chain rule."""

import math

import pytest
import torch
from torch import Tensor

from lightning_modules.clustering.mixture.coordinates import coordinates, parameters_at
from lightning_modules.clustering.mixture.description import QUANTITIES, lines, rows
from lightning_modules.clustering.mixture.likelihood import Parameters
from tests.lightning_modules.clustering.mixture.drawing import mixture, tensor

APART = torch.arange(2)
NONE = torch.zeros(0, 0)


def share(p: Parameters) -> Tensor:
    return p.weight[: p.num_clusters]


def test_an_ellipse_has_axes_and_an_angle_from_north_to_east() -> None:
    angle, long, short = math.radians(30.0), 0.2, 0.15
    along, across = tensor(math.sin(angle), math.cos(angle)), tensor(math.cos(angle), -0.5)
    matrix = long**2 * torch.outer(along, along) + short**2 * torch.outer(across, across)
    shape = torch.stack([matrix[0, 0], matrix[0, 1], matrix[1, 1]])[None]
    p = mixture(1)._replace(shape=shape)
    (row,) = rows(p, torch.eye(len(coordinates(p))).double(), APART[:1], share, NONE)
    assert row["cluster"] == 1
    assert row["ellipticity"] == pytest.approx(0.25)
    assert row["position_angle"] == pytest.approx(30.0)
    assert row["radius"] == pytest.approx(math.sqrt(2.0 * long * short))
    assert (row["parallax"], row["pmra"], row["pmdec"]) == pytest.approx((0.4, -3.0, 1.0))
    assert row["pmra_error"] == pytest.approx(1.0)
    assert row["dispersion_error"] == pytest.approx(row["dispersion"])  # of a logarithm


def values(theta: Tensor) -> Tensor:
    """Return the quantities of both clusters, one after the other."""
    nothing = torch.zeros(len(theta), len(theta), dtype=torch.float64)
    found = rows(parameters_at(theta, 2, 2), nothing, APART, share, NONE)
    return tensor(*[row[name] for row in found for name in QUANTITIES])


def test_errors_are_those_of_finite_differences() -> None:
    p = mixture()
    theta = coordinates(p._replace(shape=p.shape + tensor(1e-4, 1e-4, 0.0)))
    generator = torch.Generator().manual_seed(0)
    factor = 1e-3 * torch.randn(len(theta), len(theta), generator=generator, dtype=torch.float64)
    covariance = factor @ factor.T + 1e-6 * torch.eye(len(theta), dtype=torch.float64)
    step = 1e-5 * torch.eye(len(theta), dtype=torch.float64)
    slope = torch.stack([(values(theta + d) - values(theta - d)) / 2e-5 for d in step], 1)
    expected = (slope @ covariance @ slope.T).diagonal().sqrt().tolist()
    found = rows(parameters_at(theta, 2, 2), torch.linalg.inv(covariance), APART, share, NONE)
    errors = [row[f"{name}_error"] for row in found for name in QUANTITIES]
    assert errors == pytest.approx(expected, rel=1e-4)


def test_the_correlation_is_that_of_the_mean_proper_motion() -> None:
    p = mixture(1)
    covariance = torch.eye(len(coordinates(p))).double()
    where = [i for i, v in enumerate(coordinates(p).tolist()) if v in (-3.0, 1.0)][:2]
    covariance[where[0], where[1]] = covariance[where[1], where[0]] = 0.4
    (row,) = rows(p, torch.linalg.inv(covariance), APART[:1], share, NONE)
    assert row["pmra_pmdec_corr"] == pytest.approx(0.4)


def test_a_tail_adds_its_stars_to_its_cluster() -> None:
    p = mixture()
    (row,) = rows(p, torch.eye(len(coordinates(p))).double(), torch.tensor([1, 1]), share, NONE)
    assert row["weight"] == pytest.approx(float(p.weight[:2].sum()))
    assert row["pmra"] == pytest.approx(2.0)


def test_a_field_without_clusters_has_a_line_and_no_rows() -> None:
    p = mixture(0)
    found = rows(p, torch.eye(len(coordinates(p))).double(), APART[:0], share, NONE)
    assert found == []
    assert lines(found, 1.0, 1.2) == ["0 cluster(s), field 100.0% of the stars, errors x 1.20"]
