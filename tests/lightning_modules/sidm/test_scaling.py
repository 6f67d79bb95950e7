import math

import pytest
import torch

from lightning_modules.nn.rings import ring_index
from lightning_modules.sidm.coordinate import PaperCoordinate
from lightning_modules.sidm.dihedral import random_dihedral, transformed
from lightning_modules.sidm.scaling import MapScaling, Scaling
from tests.lightning_modules.sidm.maps import SIZE, cluster_maps, statistics


def test_rings_of_the_training_maps_have_mean_0_and_variance_1() -> None:
    batch = cluster_maps(40)
    scaling = MapScaling("radial", 1, SIZE)
    scaling.assign(statistics(batch))
    x, fraction, norms = scaling(batch["map"], batch["good"])
    ring = ring_index(SIZE, SIZE)
    for number in range(int(ring.max()) + 1):
        values = x[:, 0, ring == number][batch["good"][:, ring == number]]
        torch.testing.assert_close(values.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
        torch.testing.assert_close(values.std(), torch.tensor(1.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(norms.std(dim=0), torch.ones(1))
    assert fraction.amax(dim=(1, 2, 3)).tolist() == [1.0] * 40


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("max", [0.0, 0.25, 1.0]),
        ("radial", [0.0, 0.5, 1.0]),
        ("log", [(math.log10(x + 1e-3) + 1.8) / 0.6 for x in (0.0, 0.25, 1.0)]),
        ("asinh", [math.asinh(x / 0.03) / math.asinh(1 / 0.03) for x in (0.0, 0.25, 1.0)]),
    ],
)
def test_scalings_are_those_of_the_formulas(scaling: Scaling, expected: list[float]) -> None:
    maps = torch.tensor([[[[0.0, 1.0, 4.0]] * 3]])
    found, _, _ = MapScaling(scaling, 1, 3)(maps, torch.ones(1, 3, 3).bool())
    torch.testing.assert_close(found[0, 0, 0], torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scaling", ["radial", "max", "log", "asinh"])
def test_what_is_not_good_is_0_whatever_it_holds(scaling: Scaling) -> None:
    batch = cluster_maps(4)
    layer = MapScaling(scaling, 1, SIZE)
    layer.assign(statistics(cluster_maps(40)))
    expected = layer(batch["map"], batch["good"])
    assert (expected[0][~batch["good"][:, None]] == 0).all()
    filled = torch.where(batch["good"][:, None], batch["map"], 1e20)
    for a, b in zip(layer(filled, batch["good"]), expected, strict=True):
        assert torch.equal(a, b)


def test_statistics_that_are_not_finite_are_refused() -> None:
    found = statistics(cluster_maps(40))
    found["ring_mean"][0, 2] = torch.nan
    with pytest.raises(ValueError, match="ring_mean of the training split is not finite"):
        MapScaling("radial", 1, SIZE).assign(found)


def test_the_papers_coordinate() -> None:
    coordinate = PaperCoordinate(0.01)
    labels = torch.tensor([1.0, 0.0, 0.1, 0.3])
    coordinate.assign(labels)
    y = coordinate(labels)
    torch.testing.assert_close(y, torch.tensor([1.0, 0.0, 0.5, 0.7386]), atol=1e-4, rtol=0)
    torch.testing.assert_close(coordinate.inverse(y), torch.tensor([1.0, 0.01, 0.1, 0.3]))
    assert coordinate(torch.tensor(torch.nan)).isnan()


@pytest.mark.parametrize(
    ("effective", "labels", "message"),
    [
        (0.0, [0.0], "effective_cdm=0.0 cm.2/g must be positive"),
        (0.1, [0.0, 0.1, 1.0], "effective_cdm=0.1 cm.2/g must be below the smallest"),
        (0.01, [-1.0, 1.0], r"must be one or more numbers >= 0"),
    ],
)
def test_cross_sections_without_order_are_refused(
    effective: float, labels: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PaperCoordinate(effective).assign(torch.tensor(labels))


def test_the_symmetries_of_a_square_are_eight() -> None:
    square = torch.arange(9).view(3, 3)
    found = {tuple(transformed(square, element).flatten().tolist()) for element in range(8)}
    assert len(found) == 8
    assert torch.equal(transformed(square, 5), torch.rot90(square))


def test_maps_and_good_pixels_turn_together() -> None:
    maps = torch.rand(64, 2, 5, 5)
    torch.manual_seed(0)
    found, good = random_dihedral(maps, maps[:, 0] > 0.5)
    assert torch.equal(good, found[:, 0] > 0.5)
    kinds = [
        next(e for e in range(8) if torch.equal(transformed(before, e), after))
        for before, after in zip(maps, found, strict=True)
    ]
    assert set(kinds) == set(range(8))
    torch.manual_seed(0)
    assert torch.equal(random_dihedral(maps)[0], found)


def test_maps_that_are_not_square_are_only_flipped() -> None:
    maps = torch.rand(32, 1, 2, 3)
    (found,) = random_dihedral(maps)
    for before, after in zip(maps, found, strict=True):
        assert any(torch.equal(transformed(before, e), after) for e in range(4))
