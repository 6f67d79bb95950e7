import numpy as np

from datamodules.spectra.grid import GRIDS
from datamodules.spectra.schema import ELEMENTS
from datamodules.spectra.simulate.line_formation import LineFormation
from datamodules.spectra.simulate.line_table import REFERENCE, element_windows, line_table


def test_windows_are_in_order_and_on_the_grid() -> None:
    windows = element_windows()
    assert {"Fe", "Mg", "Al", "Si", "C", "N", "O", "Mn", "Ni"} <= set(windows)
    assert "H" not in windows
    wavelength = GRIDS[7514].wavelength
    for element, spans in windows.items():
        edges = np.array(spans)
        assert (edges[:, 1] - edges[:, 0] > 1.5).all()
        assert (edges[1:, 0] > edges[:-1, 1]).all(), element
        assert any(((wavelength > low) & (wavelength < high)).any() for low, high in spans)


def test_lines_that_touch_share_a_window() -> None:
    assert len(element_windows(0.8)["Mg"]) == 7
    spans = element_windows(4.0)["Mg"]
    assert (15883.9 - 4.0, 15893.9 + 4.0) in spans


def test_an_element_changes_its_windows_most() -> None:
    factors = {name: np.array([value, value]) for name, value in REFERENCE.items()}
    factors |= {f"{name}_fe": np.zeros(2) for name in ELEMENTS}
    factors |= {"vmacro": np.full(2, 5.0)}
    factors["mg_fe"] = np.array([0.0, 0.3])
    flux = np.exp(-LineFormation(line_table()).optical_depth(factors))
    change = np.abs(flux[1] - flux[0])
    wavelength = 10 ** (4.179 + 6e-6 * np.arange(len(change)))
    inside = np.zeros(len(change), bool)
    for low, high in element_windows()["Mg"]:
        inside |= (wavelength > low) & (wavelength < high)
    assert change[inside].sum() > 0.8 * change.sum()
