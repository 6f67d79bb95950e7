"""A quadratic model of real giants' spectra (the Cannon, Ness et al. 2015) as the simulator's base.

The files are those of jobovy/apogee (`apogee/spec/cannon`): a polynomial of second degree in Teff,
logg, [Fe/H] and [alpha/M] for each of 7214 pixels, fitted to real APOGEE DR10 spectra.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri

from datamodules.spectra.grid import GRIDS, Grid
from datamodules.spectra.simulate.line_formation import (
    REFERENCE_WIDTH,
    LineFormation,
    broadening_width,
    without_excess,
)
from datamodules.spectra.simulate.line_table import Array, line_table

NAME = "trained_apokasc_gc_ind_feh_fix"
TRAINING_NAME = "training_apokasc_gc_ind_feh_fix.txt"
FILES = (f"{NAME}.txt", f"{NAME}_baseline_labels.txt", f"{NAME}_scatter.txt", TRAINING_NAME)
"""All that is read."""

EMULATED = ("teff", "logg", "fe_h", "alpha_m")
"""Labels of the polynomial, in this order."""

NUM_TERMS = 15
"""1, four labels, and the ten products in the order 11, 12, 13, 14, 22, 23, ..., 44."""

JITTER = 0.2
"""Standard deviation of the smoothing of the real labels, over that of the labels."""

LIMITS = {"teff": (4000.0, 5500.0), "logg": (0.3, 3.5)}
"""Real stars outside are not drawn."""


class CannonEmulator:
    """The polynomial.

    Args:
        coefficients: Shape (15, 7214).
        baseline: Labels at which the polynomial is expanded, shape (4,).

    Raises:
        ValueError: The shapes are others.
    """

    def __init__(self, coefficients: Array, baseline: Array) -> None:
        if coefficients.shape != (NUM_TERMS, 7214) or baseline.shape != (len(EMULATED),):
            raise ValueError(
                f"an emulator needs coefficients of shape (15, 7214) and 4 baseline labels, not "
                f"{coefficients.shape} and {baseline.shape}; take the files of jobovy/apogee"
            )
        self.coefficients = coefficients
        self.baseline = baseline

    def flux(self, labels: Array) -> Array:
        """Evaluate the polynomial: labels (n, 4) in K and dex to normalised flux (n, 7214)."""
        x = labels - self.baseline
        first, second = np.triu_indices(len(EMULATED))
        terms = np.concatenate([np.ones((len(x), 1)), x, x[:, first] * x[:, second]], axis=1)
        return np.asarray(terms.astype(np.float32) @ self.coefficients.astype(np.float32))


class EmulatorSpectrum:
    """Spectra of the emulator; abundances that differ from the mean change the lines of the table.

    Args:
        folder: Where the emulator's files are.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        coefficients, baseline = (_table(self.folder / name) for name in FILES[:2])
        self.emulator = CannonEmulator(coefficients, baseline.ravel())
        kinds = [("file", "U99"), ("labels", np.float64, len(EMULATED))]
        what = "a file name and four labels"
        self.real_labels = _table(self.folder / TRAINING_NAME, kinds, what)["labels"]
        self.width = float(broadening_width(0.95, 3.0))
        self.formation = LineFormation(line_table(), REFERENCE_WIDTH, broadening=0.0)

    def labels(self, uniform: Array) -> dict[str, Array]:
        """Draw real stars, and smooth their labels by 20 % of their scatter."""
        limited = self.real_labels[:, [EMULATED.index(name) for name in LIMITS]]
        low, high = np.transpose(list(LIMITS.values()))
        real = self.real_labels[((limited > low) & (limited < high)).all(axis=1)]
        drawn = real[(uniform[:, 0] * len(real)).astype(np.int64)]
        spread = np.linalg.cholesky(np.cov(real.T))
        drawn = drawn + JITTER * ndtri(uniform[:, 1:5]) @ spread.T
        return {name: drawn[:, place] for place, name in enumerate(EMULATED)}

    def absorption(self, factors: Mapping[str, Array]) -> tuple[Array, float]:
        """Return one minus the flux, (n, 8575), at the narrowest broadening of the survey."""
        flux = self.emulator.flux(np.stack([factors[name] for name in EMULATED], axis=1))
        flux = GRIDS[7214].embed(flux, 1.0)
        depth = self.formation.optical_depth(factors)
        depth -= self.formation.optical_depth(without_excess(factors))
        return 1.0 - flux * np.exp(-depth), self.width

    def scatter(self, grid: Grid) -> Array:
        """Return the emulator's own scatter of each pixel, its median where it has none, (P,)."""
        values = _table(self.folder / FILES[2]).ravel()
        return grid.take(GRIDS[7214].embed(values, float(np.median(values))))


def _table(path: Path, kinds: Any = np.float64, what: str = "numbers") -> Array:
    """Read a text file of the emulator, with `what` in every line.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file of the emulator; data.source.emulator_path must be a folder "
            f"with {', '.join(FILES)}, or null for the line table"
        )
    try:
        return np.loadtxt(path, kinds)
    except ValueError as error:
        raise ValueError(f"{path}: not {what} in every line ({error})") from error
