"""Maps of clusters: known masses, noise of particles, twins that differ by their physics alone."""

from dataclasses import replace

import numpy as np
import pytest

from datamodules.sidm.simulate.components import (
    dark_matter_profile,
    substructure,
    surface_densities,
)
from datamodules.sidm.simulate.domains import DOMAINS, FIDUCIAL, Domain, Simulation, domain_of
from datamodules.sidm.simulate.halos import (
    Halo,
    View,
    draw_structure,
    draw_view,
    make_halo,
    sky_shape,
    subhaloes,
)
from datamodules.sidm.simulate.maps import (
    PHYSICAL,
    MapKey,
    add_particle_noise,
    simulate_map,
    stream,
)
from datamodules.sidm.simulate.projection import RADII, Grid
from lightning_modules.physics.arrays import Array

GRID = Grid(100, 20.0)


def cluster(
    number: int = 0, cross_section: float = 0.3, domain: Domain = FIDUCIAL, **uniform: float
) -> tuple[Halo, View]:
    """Draw a cluster without a merger, and a line of sight to it."""
    rng = np.random.default_rng(number)
    structure = draw_structure(rng)
    structure = replace(structure, uniform={**structure.uniform, "merger": 1.0, **uniform})
    return make_halo(structure, 0.2, cross_section, domain), draw_view(rng)


def masses(maps: dict[str, Array]) -> dict[str, float]:
    """Return the mass, or luminosity, in each map."""
    return {name: float(values.sum() * GRID.area) for name, values in maps.items()}


@pytest.mark.parametrize("cross_section", [0.0, 0.1, 1.0])
def test_a_map_has_the_projected_mass_of_its_halo(cross_section: float) -> None:
    halo, view = cluster(3, cross_section, replace(FIDUCIAL, subhaloes=0.0))
    dark = surface_densities(halo, view, GRID)["dark"]
    profile = dark_matter_profile(halo)
    x, y = np.meshgrid(GRID.coordinate, GRID.coordinate)
    near = np.hypot(x, y) < 900
    edges = np.geomspace(1, 900, 4000)
    shells = 2 * np.pi * edges**2 * np.exp(np.interp(np.log(edges), np.log(RADII), np.log(profile)))
    expected = np.trapezoid(shells, np.log(edges))
    # An ellipse that a circle cuts loses a few per cent of its mass.
    assert dark[near].sum() * GRID.area == pytest.approx(expected, rel=0.04)


def test_scattering_moves_mass_out_of_the_core_alone() -> None:
    collisionless, tiny, strong = (
        dark_matter_profile(cluster(1, sigma)[0]) for sigma in (0.0, 1e-3, 1.0)
    )
    np.testing.assert_allclose(tiny, collisionless, rtol=1e-3)
    edge = cluster(1, 1.0)[0].core.outer_radius
    np.testing.assert_allclose(strong[edge < RADII], collisionless[edge < RADII], rtol=1e-9)
    assert (strong[RADII < 10] < 0.6 * collisionless[RADII < 10]).all()


def test_the_luminosity_of_a_cluster_is_that_of_its_mass() -> None:
    light = []
    for number in range(40):
        halo, view = cluster(number, mass=0.9)
        scaled = masses(surface_densities(halo, view, GRID))["xray"] * (halo.mass / 5e14) ** (
            -4 / 3
        )
        light.append(scaled * 1e40)
    assert 2e44 < np.median(light) < 2e45


def test_gas_does_not_know_of_the_cross_section() -> None:
    one, other = (surface_densities(*cluster(2, sigma), GRID) for sigma in (0.0, 1.0))
    for name in ("gas", "xray"):
        np.testing.assert_array_equal(one[name], other[name])


def test_a_merger_adds_its_share_of_mass() -> None:
    single = masses(surface_densities(*cluster(4, merger=0.9), GRID))
    near = {"merger_distance": 0.0, "merger_mass": 1.0}
    double = masses(surface_densities(*cluster(4, merger=0.1, **near), GRID))
    assert double["gas"] / single["gas"] == pytest.approx(1.3, rel=0.02)
    assert double["xray"] / single["xray"] == pytest.approx(1.3, rel=0.02)


def test_subhaloes_have_their_mass_function_and_evaporate() -> None:
    halo, _ = cluster(5, 0.0, mass=0.95)
    twin, _ = cluster(5, 1.0, mass=0.95)
    mass, position = subhaloes(halo)
    left, where = subhaloes(twin)
    assert 0 < len(left) < len(mass)
    np.testing.assert_array_equal(left, mass[: len(left)])
    np.testing.assert_array_equal(where, position[: len(left)])
    assert (np.linalg.norm(position, axis=1) <= halo.radius).all()
    many = np.concatenate([subhaloes(cluster(k, 0.0)[0])[0] for k in range(200)])
    assert many.min() >= 5e10
    share = (many > 5e11).mean()
    assert share == pytest.approx(10**-0.9, rel=0.1)


def test_spots_have_the_masses_and_places_of_their_subhaloes() -> None:
    halo, view = cluster(5, 0.0, mass=0.95)
    mass, position = subhaloes(halo)
    wide, centre = Grid(300, 20.0), np.array([5.0, -9.0])
    image = substructure(halo, view, wide, centre)
    assert image.sum() * wide.area == pytest.approx(mass.sum())
    x, y = np.meshgrid(wide.coordinate, wide.coordinate)
    middle = np.array([(x * image).sum(), (y * image).sum()]) / image.sum()
    expected = view.sky @ (mass @ position) / mass.sum() + centre
    np.testing.assert_allclose(middle, expected, atol=2)
    part = substructure(halo, view, GRID, centre)  # the same clipped at the edges
    np.testing.assert_allclose(part, image[100:200, 100:200], rtol=1e-9)


def test_the_sky_shape_of_a_halo_seen_along_its_axes_is_that_of_the_others() -> None:
    halo, _ = cluster(6)
    structure = halo.structure
    minor = np.clip(0.58 + 0.05 * structure.normal["axis_ratio"], 0.35, 0.95)
    middle = minor + structure.uniform["middle_axis"] * (1 - minor)
    axes = np.eye(3)
    for first, second, ratio in ((0, 1, middle), (0, 2, minor), (1, 2, minor / middle)):
        found, angle = sky_shape(halo, View(axes[[first, second]], np.zeros(2)))
        assert found == pytest.approx(ratio)
        assert abs(np.cos(angle)) == pytest.approx(1)
    ratios = [sky_shape(*cluster(k))[0] for k in range(400)]
    assert np.mean(ratios) == pytest.approx(0.72, abs=0.02)
    assert np.std(ratios) == pytest.approx(0.1, abs=0.03)


def test_the_noise_of_particles_is_poissons() -> None:
    density = np.full((200, 200), 3e7)
    grid, plain = Grid(200, 20.0), replace(FIDUCIAL, smoothing=1e-3)
    smooth = {"dark": density, "gas": 0.1 * density, "stars": 0 * density, "xray": density}
    rng = np.random.default_rng(0)
    maps = add_particle_noise(rng, smooth, plain, grid)
    expected = density[0, 0] * (plain.particle_mass + 0.1 * plain.baryon_mass) / grid.area
    assert maps["total"].var() == pytest.approx(expected, rel=0.03)
    assert maps["total"].mean() == pytest.approx(1.1 * density[0, 0], rel=0.01)
    counts = 0.1 * density[0, 0] * grid.area / plain.baryon_mass
    assert maps["xray"].std() / density[0, 0] == pytest.approx(counts**-0.5, rel=0.03)
    assert not maps["stars"].any()
    smoothed = add_particle_noise(rng, smooth, FIDUCIAL, grid)["total"]
    # A Gaussian kernel of one pixel leaves 1/(4 pi) of the variance.
    assert smoothed.var() == pytest.approx(expected / (4 * np.pi), rel=0.1)


def test_twins_differ_by_their_physics_alone() -> None:
    def seen(sigma: float, domain: str = "fiducial", **key: int) -> tuple[Array, dict[str, float]]:
        key = {"halo": 5, "snapshot": 1, "projection": 2, **key}
        run = Simulation("any", sigma, domain, halo_set=key.pop("halo_set", 0))  # type: ignore[arg-type]
        maps, numbers = simulate_map(MapKey(run, **key), 7, GRID, 1.0)
        return maps["total"], numbers

    image, numbers = seen(0.1)
    again, _ = seen(0.1)
    np.testing.assert_array_equal(image, again)
    twin, other = seen(1.0)
    same = [name for name in PHYSICAL if numbers[name] == other[name]]
    assert same == ["redshift", "log_mass", "concentration", "cool_core", "age"]
    x, y = np.meshgrid(GRID.coordinate, GRID.coordinate)
    outside = np.hypot(x, y) > 600
    assert np.corrcoef(image[outside], twin[outside])[0, 1] > 0.75
    for key in ("halo", "halo_set"):
        assert seen(0.1, **{key: 9})[1]["log_mass"] != numbers["log_mass"]
    assert seen(0.1, snapshot=2)[1]["redshift"] != numbers["redshift"]
    turned, there = seen(0.1, projection=0)
    assert there["log_mass"] == numbers["log_mass"]
    assert np.corrcoef(image[outside], turned[outside])[0, 1] < 0.75
    feedback, weaker = seen(0.1, "agn_weak")
    assert weaker["log_mass"] == numbers["log_mass"]
    assert not np.array_equal(feedback, image)


def test_the_snapshots_of_a_halo_have_each_redshift_once() -> None:
    found = sorted(draw_structure(stream(0, 0, 0, 3)).redshifts)
    assert found == [0.0, 0.125, 0.25, 0.375]


def test_domains_are_what_they_say() -> None:
    run = Simulation("dark", 0.3, "dark_matter_only")
    maps, _ = simulate_map(MapKey(run, 0, 0, 0), 0, GRID, 1.0)
    assert not maps["xray"].any()
    assert not maps["stars"].any()
    assert maps["total"].min() > 0
    noise, numbers = simulate_map(MapKey(Simulation("n", domain="noise"), 0, 0, 0), 0, GRID, 1.0)
    assert noise["total"].mean() == pytest.approx(0.5, abs=0.02)
    assert noise["total"].var() == pytest.approx(1 / 12, rel=0.05)
    assert np.isnan(list(numbers.values())).all()


def test_the_gap_leads_from_the_fiducial_domain_to_the_foreign_one() -> None:
    assert domain_of("foreign", 0.0) == FIDUCIAL
    assert domain_of("foreign", 1.0) == DOMAINS["foreign"]
    half = domain_of("foreign", 0.5)
    assert half.particle_mass == pytest.approx(np.sqrt(5.5e9 * 6.9e7))
    assert half.subhaloes == pytest.approx(1.25)
    assert domain_of("agn_weak", 0.5) == DOMAINS["agn_weak"]
    heavy = [np.log10(cluster(k, domain=DOMAINS["foreign"])[0].mass) for k in range(50)]
    assert 14.7 < min(heavy) < max(heavy) < 15.2
