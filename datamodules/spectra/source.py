"""What every source of spectra writes: one row a spectrum on one of APOGEE's grids."""

from typing import ClassVar

from datamodules.source import Source
from datamodules.spectra.selection import Selection


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
