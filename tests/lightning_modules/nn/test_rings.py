import math

import pytest
import torch

from lightning_modules.nn.rings import (
    max_normalised,
    most_profile_rings,
    num_rings,
    profile_rings,
    radial_profile,
    radius,
    ring_index,
    texture_profile,
)


def test_rings_begin_at_the_radii_of_the_docstring() -> None:
    row = ring_index(1, 201)[0, 100:]  # radii 0, 1, ... 100
    edges = [*range(12), *range(12, 30, 2), *range(30, 101, 5)]
    expected = [sum(edge <= r for edge in edges) - 1 for r in range(101)]
    assert row.tolist() == expected
    assert num_rings(1, 201) == len(edges)


def test_rings_of_an_even_map_are_symmetric_and_complete() -> None:
    rings = ring_index(100, 100)
    assert torch.equal(rings, rings.mT)
    assert torch.equal(rings, rings.flip(0))
    assert torch.bincount(rings.flatten(), minlength=num_rings(100, 100)).min() > 0
    assert rings[49:51, 49:51].unique().tolist() == [0]
    assert num_rings(100, 100) == 30


def test_maps_are_divided_by_the_maximum_of_good_pixels() -> None:
    maps = torch.tensor([[2.0, 8.0], [-4.0, torch.nan]]).expand(2, 1, 2, 2).clone()
    good = torch.tensor([[[True, True], [True, True]], [[True, False], [True, True]]])
    scaled, log_max = max_normalised(maps, good)
    torch.testing.assert_close(scaled[0, 0], torch.tensor([[0.25, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(scaled[1, 0], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(log_max, torch.tensor([[math.log10(8)], [math.log10(2)]]))


def test_the_scale_of_a_map_is_in_its_norm_alone() -> None:
    maps, good = torch.rand(3, 2, 6, 6), torch.ones(3, 6, 6, dtype=torch.bool)
    pairs = zip(max_normalised(1e9 * maps, good), max_normalised(maps, good), strict=True)
    for (a, b), shift in zip(pairs, (0, 9), strict=True):
        torch.testing.assert_close(a, b + shift)


def test_a_map_without_light_has_no_norm() -> None:
    scaled, log_max = max_normalised(torch.zeros(1, 1, 3, 3), torch.ones(1, 3, 3).bool())
    assert (scaled == 0).all()
    assert log_max.isnan().all()


def test_a_profile_is_the_mean_and_scatter_of_its_rings() -> None:
    torch.manual_seed(0)
    rings = profile_rings(20, 20, 4)
    assert rings.sum(dim=1).max() == 1
    assert torch.equal(rings.sum(dim=1) > 0, (radius(20, 20) < 10).flatten())
    value = torch.rand(1, 1, 20, 20)
    good = torch.rand(1, 20, 20) > 0.3
    found = radial_profile(torch.where(good[:, None], value, 0.0), good, rings)[0]
    for number, ring in enumerate(rings.mT.bool()):
        logs = (value.flatten()[ring & good.flatten()] + 1e-4).log10()
        expected = torch.stack([logs.mean(), logs.std(correction=0)])
        torch.testing.assert_close(found[[number, number + 4]], expected, rtol=1e-4, atol=1e-4)


def test_a_ring_without_good_pixels_has_no_profile() -> None:
    rings = profile_rings(20, 20, 4)
    good = ~rings[:, 1].bool().view(1, 20, 20)
    found = radial_profile(torch.rand(1, 2, 20, 20), good, rings)[0]
    assert found.view(2, 2, 4).isfinite()[:, 0].tolist() == 2 * [[True, False, True, True]]


def test_too_many_rings_are_refused() -> None:
    with pytest.raises(ValueError, match="40 rings are too many for maps of 20 x 20 pixels"):
        profile_rings(20, 20, 40)


def test_the_texture_of_a_ramp_and_of_a_bowl_are_their_slope_and_curvature() -> None:
    rings = profile_rings(20, 20, 4)
    row, column = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    maps = torch.stack([0.3 * row + 0.4 * column, 0.5 * (row**2 + column**2)])[:, None]
    good = torch.ones(2, 20, 20, dtype=torch.bool)
    good[0, 10, 10] = False  # what is not good, or next to it, counts nowhere
    maps[0, 0, 10, 10] = 1e6
    ramp, bowl = texture_profile(maps.double(), good, rings.double())
    torch.testing.assert_close(ramp[:4], torch.full((4,), math.log10(0.25)).double())
    assert (ramp[4:] < -11).all()
    torch.testing.assert_close(bowl[4:], torch.full((4,), math.log10(4.0)).double())


@pytest.mark.parametrize("size", [16, 32, 33, 64, 100])
def test_the_most_rings_are_full_and_one_more_would_not_be(size: int) -> None:
    most = most_profile_rings(size, size, 99)
    assert profile_rings(size, size, most).any(dim=0).all()
    with pytest.raises(ValueError, match="too many"):
        profile_rings(size, size, most + 1)
    assert most_profile_rings(size, size, 3) == 3
