"""Best-fit spectra and latents of every star as one FITS file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from astropy.io import fits
from astropy.table import Column, Table
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray

from callbacks.predictions.base import MergedRows, ShardWriter
from callbacks.predictions.fits import add_facts, append_image, header
from callbacks.predictions.tables import select
from callbacks.report.base import NamedData
from callbacks.report.gather import Rows

IMAGES = {
    "flux": "observed flux over the continuum",
    "error": "its error with the floor, NaN where not usable",
    "good": "1 where usable",
    "reconstruction": "flux of the model",
}
"""Column of a shard, in capitals its extension, to what it holds."""

STARS = {
    "index": "row of the prepared data",
    "chi2": "chi^2 per good pixel",
    "num_good": "good pixels",
    "outlier_score": "how unusual the star is",
    "label": "label as used [{unit}], the default where missing",
    "label_missing": "",
    "latent": "mean of the latents",
    "latent_std": "deviation of the latents",
}
"""Column of a shard to what it says of a star."""

UNITS = {"teff": "K"}
"""FITS knows no dex: other labels are in dex and say so."""


@runtime_checkable
class SpectrumData(NamedData, Protocol):
    """A datamodule of spectra on one grid."""

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """Vacuum wavelength in A, shape (P,)."""

    @property
    def labels(self) -> Sequence[str]:
        """Names of the L labels."""


class SpectrumWriter(ShardWriter):
    """Writes `spectra.fits` at the end of `predict`, one row a spectrum, sorted by index.

    Extensions: WAVELENGTH, in vacuum, in A, shape (P,); FLUX, ERROR, GOOD, RECONSTRUCTION, shape
    (N, P), written block by block; and STARS, a table with index, name, chi^2 per good pixel,
    outlier score, labels as used (missing ones are marked) and latents. Headers say which model,
    checkpoint, seed, version and data made it. An earlier file is kept, the new one is
    `spectra_1.fits`.
    """

    stem: ClassVar[str] = "spectra"
    needs: ClassVar[type] = SpectrumData
    suffixes = ("fits",)
    data: SpectrumData

    def columns(self, outputs: Any, batch: Any) -> Rows:
        """Return observed and predicted flux, and what is said of each star."""
        columns = select(batch, ["index", "flux", "flux_ivar", "good"])
        good, ivar = columns["good"], columns.pop("flux_ivar")
        columns["error"] = np.where(good, np.where(good, ivar, 1) ** -0.5, np.nan)
        found = [key for key in ("reconstruction", *STARS) if key in outputs]
        columns |= select(outputs, ["index", *found])
        for key in IMAGES:
            columns[key] = columns[key].astype(np.uint8 if key == "good" else np.float32)
        return columns

    def write(
        self, paths: Sequence[Path], rows: MergedRows, trainer: Trainer, module: LightningModule
    ) -> None:
        """Write the file, its images block by block."""
        primary = fits.PrimaryHDU()
        primary.header["AIRORVAC"] = ("vac", "wavelengths are in vacuum")
        add_facts(primary.header, header(trainer, module))
        wavelength = fits.ImageHDU(np.asarray(self.data.wavelength, np.float64), name="WAVELENGTH")
        wavelength.header["BUNIT"] = ("Angstrom", "in vacuum")
        wavelength.header["AIRORVAC"] = "vac"
        fits.HDUList([primary, wavelength]).writeto(paths[0])
        for key, text in IMAGES.items():
            images = (block[key] for block in rows.blocks([key]))
            append_image(paths[0], key.upper(), text, images, len(rows.index))
        stars = Table([*self.stars(rows.read([key for key in STARS if key in rows.keys]))])
        hdu = fits.table_to_hdu(stars)
        hdu.name = "STARS"
        with fits.open(paths[0], mode="append") as file:
            file.append(hdu)

    def stars(self, rows: Rows) -> Iterator[Column]:
        """Yield what is known of each star; a model may have no labels."""
        yield Column(self.data.names(rows["index"]), "name", description="star")
        for key, text in STARS.items():
            if key == "label" and key in rows:
                for name, label, missing in zip(
                    self.data.labels, rows[key].T, rows["label_missing"].T, strict=True
                ):
                    what = text.format(unit=UNITS.get(name, "dex"))
                    yield Column(label, name, unit=UNITS.get(name), description=what)
                    yield Column(missing, f"{name}_missing")
            elif key in rows and key != "label_missing":
                yield Column(rows[key], key, description=text)
