"""Simulated spectra: known profiles, factors that act where they should, honest noise and masks."""

import numpy as np
import pytest

from datamodules.spectra.grid import GRIDS, LOG_START, LOG_STEP, NUM_PIXELS
from datamodules.spectra.schema import ELEMENTS
from datamodules.spectra.simulate.line_formation import (
    PIXEL_VELOCITY,
    REFERENCE_WIDTH,
    SPEED_OF_LIGHT,
    LineFormation,
)
from datamodules.spectra.simulate.line_table import (
    REFERENCE,
    SPECIES,
    LineTable,
    line_table,
)
from datamodules.spectra.simulate.nuisances import Foreground, broaden
from datamodules.spectra.simulate.observation import BROKEN
from datamodules.spectra.simulate.spectra import Simulation, draw_factors, simulate_block, true_flux

GOOD_BITS = sum(1 << bit for bit in (*range(8), 12))
NUM_ROWS = 192


@pytest.fixture(scope="module")
def block() -> dict[str, np.ndarray]:
    return simulate_block(Simulation(NUM_ROWS), np.arange(NUM_ROWS), 3)


def reference_star(**changes: float) -> dict[str, np.ndarray]:
    plain = {**REFERENCE, **{f"{x}_fe": 0.0 for x in ELEMENTS}, **changes}
    return {name: np.array([value]) for name, value in plain.items()}


def lines_of(table: LineTable, element: str) -> np.ndarray:
    """Give the wavelengths of all lines that answer to an element."""
    names = [name for name, kind in SPECIES.items() if element in kind.elements]
    return table.wavelength[np.isin(table.species, names)]


def one_line(depth: float, species: str = "Fe I") -> LineTable:
    wavelength = 10 ** (LOG_START + LOG_STEP * 4000)
    return LineTable(np.array([wavelength]), np.array([depth]), (species,))


def test_all_elements_and_the_listed_lines_are_in_the_table() -> None:
    table = line_table()
    assert all(len(lines_of(table, element)) for element in ELEMENTS)
    silicon = table.rows("Si I")
    assert table.depth[silicon][table.wavelength[silicon] == 15892.8] == 0.48
    again = line_table()
    np.testing.assert_array_equal(table.wavelength, again.wavelength)


@pytest.mark.parametrize("depth", [0.02, 0.2, 0.48])
def test_a_line_of_the_table_has_its_depth_after_broadening(depth: float) -> None:
    formation = LineFormation(one_line(depth))
    absorption = -np.expm1(-formation.optical_depth(reference_star()))
    width = np.array([REFERENCE_WIDTH])
    line = broaden(absorption, width, np.zeros(1))[0]
    assert line.max() == pytest.approx(depth, rel=5e-3)
    assert line.argmax() == 4000


@pytest.mark.parametrize(("depth", "change"), [(0.05, 0.2), (0.4, 0.2), (0.4, -0.3)])
def test_strong_lines_saturate(depth: float, change: float) -> None:
    formation = LineFormation(one_line(depth, "Mg I"))
    changed = formation.depths(reference_star(mg_fe=change))[0, 0]
    assert changed == pytest.approx(depth * 10 ** (0.8 / (1 + 1.5 * depth) * change))


def test_species_answer_to_the_temperature_and_to_their_elements() -> None:
    table = line_table()
    formation = LineFormation(table)

    def depth(species: str, **changes: float) -> float:
        return float(formation.depths(reference_star(**changes))[0, table.rows(species)].sum())

    molecules = ("OH", "CO", "CN")
    assert all(depth(name, teff=4300.0) > depth(name) for name in (*molecules, "Ti I", "Fe I"))
    assert depth("H I", teff=5300.0) > 2 * depth("H I")
    assert depth("CO", c_fe=0.3) == depth("CO")  # oxygen is the scarcer then
    assert depth("CO", c_fe=0.3, o_fe=0.3) > depth("CO")
    assert depth("CN", c_fe=0.1, n_fe=-0.1) == pytest.approx(depth("CN"))
    assert depth("CN", logg=1.0) > depth("CN")
    assert depth("Fe I", fe_h=0.3) > depth("Fe I")


def test_broadening_adds_in_quadrature_and_keeps_the_equivalent_width() -> None:
    pixels = np.arange(NUM_PIXELS)
    narrow = np.exp(-0.5 * ((pixels - 4000) / 1.5) ** 2)[None]
    wide = broaden(narrow, np.array([2.0 * PIXEL_VELOCITY]), np.array([3.0 * PIXEL_VELOCITY]))[0]
    sigma = np.hypot(1.5, 2.0)
    expected = 1.5 / sigma * np.exp(-0.5 * ((pixels - 4003) / sigma) ** 2)
    np.testing.assert_allclose(wide, expected, atol=2e-6)
    assert wide.sum() == pytest.approx(narrow.sum(), rel=1e-5)


@pytest.mark.parametrize("element", ELEMENTS)
def test_an_abundance_changes_only_its_own_lines(element: str) -> None:
    simulation = Simulation(4)
    factors, _ = draw_factors(simulation, np.arange(4), 0)
    before = true_flux(simulation, factors)
    after = true_flux(simulation, {**factors, f"{element}_fe": factors[f"{element}_fe"] + 0.2})
    lines = lines_of(line_table(), element)
    away = np.abs(np.log(simulation.grid.wavelength[:, None] / lines)) * SPEED_OF_LIGHT
    window = (away < 55.0).any(1)  # km/s: five Doppler widths and five of the broadening
    change = after - before
    assert np.abs(change[:, ~window]).max(initial=0) < 2e-6
    assert change[:, window].min() < -1e-3
    assert change.max() < 2e-6


def test_nuisances_act_where_they_should() -> None:
    simulation = Simulation(1)
    factors, _ = draw_factors(simulation, np.arange(1), 0)
    names = ("dib_depth", "telluric", *(f"continuum_{k}" for k in range(9)))
    factors |= dict.fromkeys(names, np.zeros(1))
    foreground, flat = Foreground(simulation.grid), np.ones((1, 7514), np.float32)
    np.testing.assert_array_equal(foreground.apply(flat, factors), flat)
    shifted = {**factors, "dib_depth": np.array([0.02]), "dib_velocity": np.array([60.0])}
    band = foreground.apply(flat, shifted)[0]
    assert band.min() == pytest.approx(0.98, abs=1e-4)
    assert simulation.grid.wavelength[band.argmin()] == pytest.approx(15275.46, abs=0.2)
    green = foreground.apply(flat, {**factors, "continuum_4": np.array([0.01])})[0]
    chips = simulation.grid.chips
    assert np.ptp(green[chips[0]]) == np.ptp(green[chips[2]]) == 0
    np.testing.assert_allclose(green[chips[1]][[0, -1]], [0.99, 1.01], rtol=1e-6)


def test_the_truth_has_a_chi2_of_one_per_good_pixel(block: dict[str, np.ndarray]) -> None:
    good = (block["pixel_mask"] & GOOD_BITS) == 0
    pull = (block["flux"] - block["true_flux"]) / block["flux_error"]
    assert np.square(pull[good]).mean() == pytest.approx(1.0, abs=0.01)
    assert pull[good].mean() == pytest.approx(0.0, abs=0.01)
    assert block["flux_error"].min() == np.float32(0.005)
    assert (block["true_flux"] > 0).all()
    assert (block["true_flux"] < 1.1).all()


def test_masks_lose_what_real_ones_do(block: dict[str, np.ndarray]) -> None:
    mask = block["pixel_mask"]
    assert ((mask & GOOD_BITS) != 0).mean() == pytest.approx(0.074, abs=0.003)
    shares = {bit: ((mask >> bit) & 1).mean() for bit in range(31)}
    assert {bit for bit, share in shares.items() if share} == {0, 1, 9, 12, 13, 14}
    assert shares[0] == pytest.approx(60 / 7514)
    assert shares[1] == pytest.approx(40 / 7514, rel=0.05)
    persistent = (mask >> 9) & 1
    assert set(persistent.sum(1)) == {0, 800}
    assert persistent[:, 3028:].sum() == 0
    assert 0.05 < persistent.any(1).mean() < 0.2
    assert (block["flux"][(mask & 1) != 0] == 0).all()
    struck = ((mask & 2) != 0) & ((mask & ~2) == 0)
    assert (block["flux"] - block["true_flux"])[struck].mean() == pytest.approx(0.3, rel=0.1)


def test_sky_lines_are_noisier_and_their_errors_say_so(block: dict[str, np.ndarray]) -> None:
    sky = (block["pixel_mask"] & GOOD_BITS) == 1 << 12
    residual = (block["flux"] - block["true_flux"])[sky]
    assert residual.std() > 0.029
    assert (residual / block["flux_error"][sky]).std() == pytest.approx(1.0, abs=0.02)


def test_labels_scatter_by_their_errors(block: dict[str, np.ndarray]) -> None:
    for label, (least, largest) in {"teff": (80, 110), "logg": (0.03, 0.07)}.items():
        error = block[f"{label}_error"]
        assert least <= error.min() <= error.max() <= largest
        pull = (block[label] - block[f"true_{label}"]) / error
        assert pull.std() == pytest.approx(1.0, abs=0.2)
    excess = block["true_mg_fe"] - block["true_alpha_m"]
    assert excess.std() == pytest.approx(0.03, abs=0.006)
    assert ((block["snr"] >= 200) & (block["snr"] <= 1500)).all()


def test_the_seed_and_the_row_decide(block: dict[str, np.ndarray]) -> None:
    simulation = Simulation(NUM_ROWS)
    rows = np.arange(64, 128)
    again, other = simulate_block(simulation, rows, 3), simulate_block(simulation, rows, 4)
    for name, values in again.items():
        if name in ("name", "pixel_mask", "broken"):
            np.testing.assert_array_equal(values, block[name][rows])
        else:
            np.testing.assert_allclose(values, block[name][rows], rtol=1e-5, atol=1e-5)
    assert not np.allclose(other["flux"], again["flux"], atol=0.1)


def test_a_star_observed_twice_is_the_same_star_under_new_noise() -> None:
    simulation = Simulation(30, repeat_fraction=0.5)
    block = simulate_block(simulation, np.arange(30), 0)
    assert simulation.num_stars == 20
    for name in ("name", "teff", "mg_fe", "true_teff", "true_vmacro", "true_dib_depth"):
        np.testing.assert_array_equal(block[name][20:], block[name][:10])
    for name in ("snr", "true_rv", "true_lsf", "true_continuum_3", "true_sky_velocity"):
        assert (block[name][20:] != block[name][:10]).all()
    assert len(set(block["name"])) == 20


def test_broken_rows_are_there_and_named() -> None:
    fractions = dict.fromkeys(BROKEN, 0.3)
    block = simulate_block(Simulation(64, broken_fractions=fractions), np.arange(64), 0)
    has = {name: (block["broken"] & bit) != 0 for name, bit in BROKEN.items()}
    assert all(5 < rows.sum() < 35 for rows in has.values())
    zero = has["zero_flux"]
    np.testing.assert_array_equal((block["flux"] == 0).all(1), zero)
    assert (block["flux_error"][zero] == 0).all()
    assert (block["pixel_mask"][zero] == 0).all()
    np.testing.assert_array_equal(np.isnan(block["flux"]).any(1), has["nan_pixels"] & ~zero)
    huge = (block["flux_error"] == np.float32(1e10)).any(1)
    np.testing.assert_array_equal(huge, has["huge_errors"] & ~zero)
    np.testing.assert_array_equal(np.isnan(block["teff"]), has["missing_labels"])
    np.testing.assert_array_equal(np.isnan(block["mg_fe_error"]), has["missing_labels"])
    np.testing.assert_array_equal(block["aspcapflag"] == 1 << 23, has["flagged"])


def test_unmodelled_scatter_adds_to_the_noise() -> None:
    simulation = Simulation(64, scatter=1.0)
    block = simulate_block(simulation, np.arange(64), 0)
    good = (block["pixel_mask"] & GOOD_BITS) == 0
    residual = block["flux"] - block["true_flux"]
    scatter = np.broadcast_to(simulation.base.scatter(simulation.grid), residual.shape)
    pull = residual / np.hypot(block["flux_error"], scatter)
    assert np.square(pull[good]).mean() == pytest.approx(1.0, abs=0.01)


def test_the_old_grid_is_a_part_of_the_new_one() -> None:
    factors, _ = draw_factors(Simulation(5), np.arange(5), 0)
    factors |= {f"continuum_{k}": np.zeros(5) for k in range(9)}
    new = true_flux(Simulation(5), factors)
    old = true_flux(Simulation(5, grid_pixels=7214), factors)
    np.testing.assert_allclose(new[:, GRIDS[7514].positions_of(GRIDS[7214])], old, atol=1e-6)
