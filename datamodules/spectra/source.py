"""What every source of spectra writes: one row a spectrum on one of APOGEE's grids."""

from typing import ClassVar

from datamodules.base import Source
from datamodules.spectra.selection import Selection

SCHEMA = "astrolit.spectra"
VERSION = 1
CHUNK_BYTES = 1 << 15
"""One spectrum of one quantity a chunk: training on a large file reads single rows."""

LABELS = ("teff", "logg", "fe_h")
"""What the survey measures of every star: K, log10(cm/s^2), dex."""

ELEMENTS = (
    "c",
    "n",
    "o",
    "na",
    "mg",
    "al",
    "si",
    "s",
    "k",
    "ca",
    "ti",
    "v",
    "cr",
    "mn",
    "ni",
    "ce",
)
"""Elements with abundances `<x>_fe` in dex, where a source knows them."""

SPECTRAL = ("flux", "flux_error", "pixel_mask", "true_flux")
"""Columns of shape (N, P); all others have one value a row."""

MISSING = -9999.0
"""How the survey's tables say that a value is missing (values below `MISSING / 2`)."""


class SpectraSource(Source):
    """A source of spectra.

    Its store has a row a spectrum of P pixels:

    * `name`: id of the star (APOGEE_ID). Rows of one star share it, and the split is by it.
    * `flux` (N, P) float32 over the continuum; `flux_error` (N, P) float32 in the same unit, as
      measured (no floor, infinite or huge where unknown); `pixel_mask` (N, P) int32, the bits of
      APOGEE_PIXMASK. Values of unusable pixels are as they come.
    * (N,) float32, NaN where unknown: `teff` (K), `logg`, `fe_h` (dex) and `<label>_error`,
      `snr`; where there are any, `alpha_m` and `<x>_fe` for the `ELEMENTS` with
      `<...>_error`.
    * `starflag` and `aspcapflag` (N,) int64, 0 where unknown.
    * Simulated spectra only: `true_flux` (N, P) float32 without noise, and `true_<factor>` (N,)
      float32: labels, abundances and nuisances.

    It has the shared array `wavelength` (P,), vacuum A, and the attributes `grid` (P), `counts`
    (of every cut, a dict), `defaults` (a list of sentences) and what made it.

    Attributes:
        selection: Cuts on the rows, set by the datamodule; None keeps all rows, as in a prediction.
        selects: Whether `prepare` applies the cuts, so that rows which fail never enter memory.
            The datamodule applies them when it loads in any case.
    """

    selects: ClassVar[bool] = False
    selection: Selection | None = None
