"""The quadratic emulator: a pixel by hand, the real files against a real star, real labels."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.spectra.grid import GRIDS
from datamodules.spectra.schema import ELEMENTS
from datamodules.spectra.simulate.emulator import FILES, CannonEmulator, EmulatorSpectrum
from datamodules.spectra.simulate.line_table import line_table
from datamodules.spectra.simulate.spectra import Simulation, draw_factors, true_flux
from datamodules.spectra.simulate.synthetic import SyntheticSpectra

BASELINE = np.array([4500.0, 2.0, -0.3, 0.05])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write an emulator of our own: flux 0.9, a little deeper in metal-rich stars."""
    coefficients = np.zeros((15, 7214))
    coefficients[0], coefficients[3] = 0.9, -0.05
    rng = np.random.default_rng(0)
    labels = BASELINE + rng.normal(size=(40, 4)) * (150, 0.4, 0.2, 0.05)
    lines = [f"star{n}.fits " + " ".join(map(str, row)) for n, row in enumerate(labels)]
    arrays = (coefficients, BASELINE, np.full(7214, 0.006))
    for name, values in zip(FILES, arrays, strict=False):
        np.savetxt(tmp_path / name, values)
    (tmp_path / FILES[3]).write_text("\n".join([*lines, "far.fits 3600 0.1 0 0"]) + "\n")
    return tmp_path


@pytest.fixture(scope="module")
def real(shared_data: Path) -> EmulatorSpectrum:
    return EmulatorSpectrum(shared_data / "spectra" / "cannon_dr10_emulator")


def test_a_pixel_by_hand() -> None:
    coefficients = np.zeros((15, 7214))
    coefficients[:, 7] = np.arange(1, 16)
    t, g, m, a = 0.5, -0.2, 0.1, 0.03
    by_hand = (
        (1 + 2 * t + 3 * g + 4 * m + 5 * a)
        + (6 * t * t + 7 * t * g + 8 * t * m + 9 * t * a)
        + (10 * g * g + 11 * g * m + 12 * g * a)
        + (13 * m * m + 14 * m * a + 15 * a * a)
    )
    flux = CannonEmulator(coefficients, BASELINE).flux(BASELINE + np.array([[t, g, m, a]]))
    assert flux.shape == (1, 7214)
    assert flux[0, 7] == pytest.approx(by_hand, rel=1e-6)
    assert flux[0, 8] == 0


def test_wrong_shapes_and_missing_files_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"15, 7214"):
        CannonEmulator(np.zeros((15, 7000)), BASELINE)
    (folder / FILES[3]).write_text("a.fits 4500 2.0\n")
    with pytest.raises(
        ValueError, match=r"training_apokasc.*not a file name and four labels .*row 1"
    ):
        EmulatorSpectrum(folder)
    (folder / FILES[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"baseline_labels.*emulator_path must be a folder"):
        SyntheticSpectra(emulator_path=str(folder)).parameters()


def test_the_source_is_keyed_by_the_content_of_the_files(folder: Path) -> None:
    before = SyntheticSpectra(emulator_path=str(folder)).parameters()
    assert str(folder) not in str(before)
    np.savetxt(folder / FILES[2], np.full(7214, 0.007))
    assert SyntheticSpectra(emulator_path=str(folder)).parameters() != before
    assert SyntheticSpectra().parameters()["emulator"] is None


def test_edges_of_the_larger_grid_are_continuum(folder: Path) -> None:
    base = EmulatorSpectrum(folder)
    factors, _ = draw_factors(Simulation(3, emulator_path=str(folder)), np.arange(3), 0)
    factors |= {f"{x}_fe": np.zeros(3) for x in ELEMENTS} | {"alpha_m": np.zeros(3)}
    absorption, width = base.absorption(factors)
    grid = GRIDS[7514]
    inner = grid.positions_of(GRIDS[7214])
    on_grid = grid.take(absorption)
    assert (np.delete(on_grid, inner, axis=1) == 0).all()
    expected = 0.1 + 0.05 * (factors["fe_h"] + 0.3)
    np.testing.assert_allclose(on_grid[:, inner], expected[:, None] * np.ones(7214), rtol=1e-5)
    assert width == pytest.approx(np.hypot(0.95 * 13.3241, 3.0) / 2.35482, rel=1e-4)
    scatter = base.scatter(grid)
    np.testing.assert_allclose(scatter, 0.006)


def test_an_abundance_above_the_mean_deepens_its_own_lines(folder: Path) -> None:
    simulation = Simulation(2, emulator_path=str(folder))
    factors, _ = draw_factors(simulation, np.arange(2), 0)
    before = true_flux(simulation, factors)
    after = true_flux(simulation, {**factors, "al_fe": factors["al_fe"] + 0.2})
    table = line_table()
    wavelength = simulation.grid.wavelength[:, None]
    near = (np.abs(wavelength / table.wavelength[table.rows("Al I")] - 1) < 3e-4).any(1)
    assert np.abs((after - before)[:, ~near]).max() < 2e-6
    assert (after - before)[:, near].min() < -0.01


def test_drawn_labels_are_those_of_real_stars_a_little_smoothed(folder: Path) -> None:
    base = EmulatorSpectrum(folder)
    labels = base.labels(np.random.default_rng(1).random((500, 8)))
    assert len(base.real_labels) == 41
    assert labels["teff"].min() > 3850  # the star at 3600 K is outside the range
    assert labels["fe_h"].std() == pytest.approx(base.real_labels[:40, 2].std(), rel=0.15)
    drawn = np.stack([labels[name] for name in ("teff", "logg", "fe_h", "alpha_m")], 1)
    nearest = np.abs(drawn[:, None, 0] - base.real_labels[None, :, 0]).min(1)
    assert np.median(nearest) < 30


def test_the_real_emulator_predicts_a_real_giant(real: EmulatorSpectrum, shared_data: Path) -> None:
    path = shared_data / "spectra" / "apogee_dr14_star" / "apogee_dr14_example.npz"
    star = np.load(path, allow_pickle=False)
    inner = GRIDS[7514].positions_of(GRIDS[7214])
    flux, good = star["normalized_flux"][inner], star["good_pixel_mask"][inner]
    predicted = real.emulator.flux(np.array([[4858.5, 2.427, -0.326, 0.253]]))[0]
    residual = (flux - predicted)[good]
    assert residual.std() < 0.014
    assert np.corrcoef(flux[good], predicted[good])[0, 1] > 0.96
    hotter = real.emulator.flux(np.array([[5000.0, 2.427, -0.326, 0.253]]))[0]
    assert (hotter - predicted).mean() > 0  # lines weaken


def test_the_real_emulator_is_sane_at_real_labels(real: EmulatorSpectrum) -> None:
    labels = real.labels(np.random.default_rng(0).random((300, 8)))
    flux = real.emulator.flux(np.stack(list(labels.values()), axis=1))
    assert real.real_labels.shape == (1801, 4)
    assert 0.2 < flux.min() < flux.max() < 1.25
    assert flux.mean() == pytest.approx(0.96, abs=0.02)
    depth = 1 - flux.mean(0)
    wavelength = GRIDS[7214].wavelength
    for line, least in {15892.8: 0.3, 16755.2: 0.3, 15770.1: 0.3}.items():
        assert depth[np.abs(wavelength - line) < 0.6].max() > least
    assert 0.002 < np.median(real.scatter(GRIDS[7514])) < 0.017
