"""What every source of spectra writes: one row a spectrum on one of APOGEE's grids."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from datamodules.source import Source
from datamodules.spectra.continuum import Continuum
from datamodules.spectra.grid import Grid
from datamodules.spectra.schema import CHUNK_BYTES, SCHEMA, VERSION
from datamodules.spectra.selection import Selection
from datamodules.store import RowStore

Columns = dict[str, NDArray[Any]]


class SpectraSource(Source):
    """A source of spectra.

    Its store has a row a spectrum of P pixels:

    * `name`: id of the star (APOGEE_ID). Rows of one star share it, and the split is by it.
    * `flux` (N, P) float32 over the continuum; `flux_error` (N, P) float32 in the same unit, as
      measured (no floor; NaN, infinite or huge where unknown); `pixel_mask` (N, P) int32, the bits
      of APOGEE_PIXMASK. Values of unusable pixels are as they come.
    * (N,) float32, NaN where unknown: `teff` (K), `logg`, `fe_h` (dex) and `<label>_error`,
      `snr`; where there are any, `alpha_m` and `<x>_fe` for the `ELEMENTS` with
      `<...>_error`.
    * `starflag` and `aspcapflag` (N,) int64, 0 where unknown.
    * Simulated spectra only: `true_flux` (N, P) float32 without noise, and `true_<factor>` (N,)
      float32: labels, abundances and nuisances.

    It has the shared array `wavelength` (P,), vacuum A, and the attributes `grid` (P), `counts`
    (of every cut, a dict), `defaults` (a list of sentences) and what made it. Where the source has
    normalised the spectra itself it has the shared array `continuum_mask` (P,) bool and the
    attribute `continuum_degree`.

    Attributes:
        selection: Cuts on the rows, set by the datamodule; None keeps all rows, as in a prediction.
        selects: Whether `prepare` applies the cuts, so that rows which fail never enter memory.
            The datamodule applies them when it loads in any case.
        continuum: How the source normalises spectra; None if they come normalised.
    """

    selects: ClassVar[bool] = False
    selection: Selection | None = None
    continuum: Continuum | None = None

    def describe(self, grid: Grid) -> tuple[dict[str, Any], Columns]:
        """Return the attributes and the shared arrays of a store of spectra on a grid."""
        attributes = {"grid": grid.num_pixels, "source": self.parameters()}
        shared: Columns = {"wavelength": grid.wavelength}
        if self.continuum is not None:
            attributes["continuum_degree"] = self.continuum.degree
            shared["continuum_mask"] = self.continuum.pixels
        return attributes, shared

    def write(
        self,
        path: Path,
        grid: Grid,
        blocks: Iterable[Columns],
        counts: Mapping[str, int],
        defaults: Iterable[str],
    ) -> None:
        """Write blocks of rows to a store.

        Args:
            path: The store.
            grid: The pixels.
            blocks: Columns, each (n, ...).
            counts: Rows by cut.
            defaults: Sentences on what was assumed; those that come with the blocks count too.
        """
        attributes, shared = self.describe(grid)
        header = (SCHEMA, VERSION, attributes, shared, CHUNK_BYTES)
        with RowStore.writer(path, *header) as writer:
            for block in blocks:
                writer.append(block)
            writer.attributes.update(counts=dict(counts), defaults=sorted(set(defaults)))
