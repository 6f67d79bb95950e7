"""Best-fit spectra and latents of every star as one FITS file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
from astropy.io import fits
from astropy.table import Table
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray

from callbacks.predictions.base import ShardWriter
from callbacks.predictions.fits import as_text, header
from callbacks.predictions.tables import to_array
from callbacks.report.paths import unused_stem
from datamodules.files import atomic_path

Array = NDArray[Any]
IMAGES = {
    "flux": ("FLUX", "observed flux over the continuum"),
    "error": ("ERROR", "its error with the floor, NaN where not usable"),
    "good": ("GOOD", "1 where usable"),
    "reconstruction": ("RECONSTRUCTION", "flux of the model"),
}
"""Dataset of a shard to extension and what it holds."""

STARS = ("chi2", "num_good", "outlier_score", "label", "label_missing", "latent", "latent_std")
DESCRIPTIONS = {
    "index": "row of the prepared data",
    "name": "star",
    "chi2": "chi^2 per good pixel",
    "num_good": "good pixels",
    "outlier_score": "how unusual the star is",
    "latent": "mean of the latents",
    "latent_std": "deviation of the latents",
}
UNITS = {"teff": "K"}
"""FITS knows no dex: other labels are in dex and say so."""

BLOCK = 256


class SpectrumWriter(ShardWriter):
    """Writes `spectra.fits` at the end of `predict`, one row a spectrum, sorted by index.

    Extensions: WAVELENGTH, in vacuum, in A, shape (P,); FLUX, ERROR, GOOD, RECONSTRUCTION, shape
    (N, P); and STARS, a table with index, name, chi^2 per good pixel, outlier score, labels as
    used (missing ones are marked) and latents. Headers say which model, checkpoint, seed, version
    and data made it. Shards are merged block by block. An earlier file is kept, the new one is
    `spectra_1.fits`.
    """

    stem: ClassVar[str] = "spectra"

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this process's shard; refuse data without wavelengths."""
        datamodule = getattr(trainer, "datamodule", None)
        if not hasattr(datamodule, "wavelength"):
            raise ValueError(
                f"SpectrumWriter needs a datamodule with wavelength; {type(datamodule).__name__} "
                "has none: use PredictionWriter"
            )
        super().on_predict_start(trainer, pl_module)

    def columns(self, outputs: Any, batch: Any) -> dict[str, Array]:
        """Return observed and predicted flux, and what is said of each star."""
        columns = {name: to_array(batch[name]) for name in ("index", "flux", "flux_ivar", "good")}
        good, ivar = columns["good"], columns.pop("flux_ivar")
        columns["error"] = np.where(good, np.where(good, ivar, 1) ** -0.5, np.nan)
        columns["good"] = good.astype(np.uint8)
        columns["reconstruction"] = to_array(outputs["reconstruction"])
        columns |= {name: to_array(outputs[name]) for name in STARS if name in outputs}
        for name in ("flux", "error", "reconstruction"):
            columns[name] = columns[name].astype(np.float32)
        return columns

    def merge(self, trainer: Trainer, module: LightningModule, shards: Sequence[Path]) -> None:
        """Write the file block by block."""
        datamodule: Any = getattr(trainer, "datamodule", None)
        path = self._folder / f"{unused_stem(self._folder, self.stem, ['fits'])}.fits"
        with ExitStack() as stack:
            files = [stack.enter_context(h5py.File(shard, "r")) for shard in shards]
            files = [file for file in files if "index" in file]
            if not files:
                raise ValueError(f"{self._folder}: nothing was predicted")
            with atomic_path(path) as temporary:
                write_spectra(temporary, files, datamodule, header(trainer, module))
        print(f"spectra: {path}")


def write_spectra(
    path: Path, files: Sequence[h5py.File], datamodule: Any, facts: Mapping[str, Any]
) -> None:
    """Write the FITS file, its images block by block.

    Args:
        path: The file.
        files: Open shards, none of them empty.
        datamodule: Gives wavelengths, names of labels and stars.
        facts: What made the file.
    """
    index = np.unique(np.concatenate([file["index"][:] for file in files]))
    primary = fits.PrimaryHDU()
    for key in ("software", "model", "seed"):
        primary.header[key.upper()] = facts[key]
    primary.header["AIRORVAC"] = ("vac", "wavelengths are in vacuum")
    for key in ("checkpoint", "run_record", "provenance"):
        primary.header.add_history(f"{key}: {as_text(facts[key])}")
    wavelength = fits.ImageHDU(np.asarray(datamodule.wavelength, np.float64), name="WAVELENGTH")
    wavelength.header["BUNIT"] = ("Angstrom", "in vacuum")
    wavelength.header["AIRORVAC"] = "vac"
    fits.HDUList([primary, wavelength]).writeto(path)
    for key, (name, text) in IMAGES.items():
        _append_image(path, name, text, _blocks(files, key, index), len(index))
    hdu = fits.table_to_hdu(star_table(files, index, datamodule))
    hdu.name = "STARS"
    with fits.open(path, mode="append") as target:
        target.append(hdu)


def star_table(files: Sequence[h5py.File], index: Array, datamodule: Any) -> Table:
    """Return what is known of each star, in the order of `index`.

    Args:
        files: Open shards.
        index: Rows to take.
        datamodule: Gives names of labels and stars.
    """
    values = {
        key: np.concatenate([*_blocks(files, key, index)]) for key in STARS if key in files[0]
    }
    label = values.pop("label", np.zeros((len(index), 0)))  # a model may have none
    missing = values.pop("label_missing", np.zeros(label.shape, bool))
    columns: dict[str, Array] = {"name": np.asarray(datamodule.names(index)), "index": index}
    columns |= {key: values.pop(key) for key in ("chi2", "num_good", "outlier_score")
                if key in values}  # fmt: skip
    table = Table({**columns})
    for place, name in enumerate(datamodule.labels if label.shape[1] else ()):
        table[name] = label[:, place]
        table[name].unit = UNITS.get(name)
        unit = UNITS.get(name, "dex")
        table[name].description = f"label as used [{unit}], the default where missing"
        table[f"{name}_missing"] = missing[:, place].astype(bool)
    for key, own in values.items():
        table[key] = own
    for key in table.colnames:
        if key in DESCRIPTIONS:
            table[key].description = DESCRIPTIONS[key]
    return table


def _append_image(path: Path, name: str, text: str, blocks: Iterator[Array], num_rows: int) -> None:
    """Append an image extension without holding it in memory."""
    first = next(blocks)
    head = fits.ImageHDU(first[:0].reshape(0, *first.shape[1:]), name=name).header
    head["NAXIS"], head["NAXIS1"], head["NAXIS2"] = 2, first.shape[1], num_rows
    head["BITPIX"] = 8 if first.dtype == np.uint8 else -32
    head["CONTENT"] = text
    # As text: of a Path astropy looks at the last part only.
    stream = fits.StreamingHDU(str(path), head)
    try:
        stream.write(first)
        for block in blocks:
            stream.write(block)
    finally:
        stream.close()


def _blocks(files: Sequence[h5py.File], key: str, index: Array) -> Iterator[Array]:
    """Yield rows of a dataset in the order of `index`, each once, from shards sorted by index."""
    owned = [file["index"][:] for file in files]
    orders = [np.argsort(own, kind="stable") for own in owned]
    for start in range(0, len(index), BLOCK):
        wanted = index[start : start + BLOCK]
        block: Array | None = None
        for file, own, order in zip(files, owned, orders, strict=True):
            place = np.searchsorted(own, wanted, sorter=order)
            rows = order[np.minimum(place, len(own) - 1)]
            found = own[rows] == wanted
            if not found.any():
                continue
            low, high = int(rows[found].min()), int(rows[found].max()) + 1
            values = file[key][low:high]
            if block is None:
                block = np.empty((len(wanted), *values.shape[1:]), values.dtype)
            block[found] = values[rows[found] - low]
        assert block is not None
        yield block
