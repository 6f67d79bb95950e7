"""Membership tables: the catalogue's own columns with probabilities, as astronomers' files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from astropy.io import fits
from astropy.io.votable import from_table
from astropy.io.votable.tree import Info
from astropy.table import Table
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.predictions.fits import as_text, header
from callbacks.report.gather import RowCollector, Rows
from callbacks.report.paths import log_folder, unused_stem
from datamodules.files import atomic_path

KEYS = ("index", "probability", "assignment", "reconstruction_error", "latent")
# UCD1+ of what we add and of the Gaia names that the input may carry (IVOA, "The UCD1+ controlled
# vocabulary").
UCDS = {
    "source_id": "meta.id;meta.main",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "parallax": "pos.parallax.trig",
    "pmra": "pos.pm;pos.eq.ra",
    "pmdec": "pos.pm;pos.eq.dec",
    "phot_g_mean_mag": "phot.mag;em.opt",
    "bp_rp": "phot.color;em.opt.B;em.opt.R",
    "cluster": "meta.code.class",
    "reconstruction_error": "stat.error",
}


class MembershipTable(Callback):
    """Writes the catalogue with membership columns at the end of `predict`.

    The columns of the input (`datamodule.catalogue(index)`) come first, with their units; then
    `probability_0`..., soft membership in each of the model's clusters (they sum to 1), `cluster`,
    the cluster of each star, `reconstruction_error` and, if asked for, `latent_0`... The header
    says which model, checkpoint, seed, version and data made the table. Files are
    `membership.fits`, `.vot` and `.ecsv`; TOPCAT opens all three.

    Args:
        formats: Files to write.
        latent: Whether to add the latent coordinates.
    """

    def __init__(
        self,
        formats: Sequence[Literal["fits", "votable", "ecsv"]] = ("fits",),
        latent: bool = False,
    ) -> None:
        unknown = sorted(set(formats) - set(WRITERS))
        if unknown or not formats:
            raise ValueError(f"formats {unknown or list(formats)}: choose from {list(WRITERS)}")
        self.formats = tuple(dict.fromkeys(formats))
        self.latent = latent
        self._rows = RowCollector()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse data that have no input table before any work is done."""
        self._rows.clear()
        datamodule = getattr(trainer, "datamodule", None)
        if not hasattr(datamodule, "catalogue"):
            raise ValueError(
                f"MembershipTable needs a datamodule with catalogue(index); "
                f"{type(datamodule).__name__} has none: use PredictionWriter"
            )

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep one batch's predictions."""
        keys = KEYS if self.latent else KEYS[:-1]
        self._rows.add({name: outputs[name] for name in keys if name in outputs})

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table on rank 0."""
        rows = self._rows.gather(trainer)
        folder = log_folder(trainer)
        if not trainer.is_global_zero:
            return
        datamodule: Any = getattr(trainer, "datamodule", None)
        table = membership_table(datamodule.catalogue(rows["index"]), rows)
        table.meta = header(trainer, pl_module)
        stem = unused_stem(folder, "membership", [WRITERS[name][0] for name in self.formats])
        for name in self.formats:
            suffix, write = WRITERS[name]
            path = folder / f"{stem}.{suffix}"
            with atomic_path(path) as temporary:
                write(table, temporary)
            what = "membership" if "assignment" in rows else "no membership (no clusters yet)"
            print(f"{what} of {len(table)} objects: {path}")


def membership_table(table: Table, rows: Rows) -> Table:
    """Return the input table with the columns of the predictions.

    Args:
        table: The input's rows in the order of `rows`.
        rows: Predictions, sorted by index.

    Raises:
        ValueError: If the lengths differ, or the input has a column of a name to be added.
    """
    if len(table) != len(rows["index"]):
        raise ValueError(f"the input table has {len(table)} rows, predictions {len(rows['index'])}")
    result = table.copy(copy_data=False)
    for name, (values, description) in prediction_columns(rows).items():
        if name in result.colnames:
            raise ValueError(f"the input has a column {name!r} already: rename it to keep both")
        result[name] = values
        result[name].description = description
    return result


def prediction_columns(rows: Rows) -> dict[str, tuple[Any, str]]:
    """Return name to values and description of the columns to add."""
    columns: dict[str, tuple[Any, str]] = {}
    for key, text in (("probability", "Soft membership in cluster"), ("latent", "Latent axis")):
        for i in range(rows[key].shape[1] if key in rows else 0):
            columns[f"{key}_{i}"] = (rows[key][:, i], f"{text} {i}")
    if "assignment" in rows:
        columns["cluster"] = (rows["assignment"], "Cluster, named by the model's column")
    if "reconstruction_error" in rows:
        text = "Mean squared reconstruction error in scaled units"
        columns["reconstruction_error"] = (rows["reconstruction_error"], text)
    return columns


def write_fits(table: Table, path: Path) -> None:
    """Write a binary table; what made it goes into cards and, where long, into history."""
    plain = table.copy(copy_data=False)
    plain.meta = {}
    hdu = fits.table_to_hdu(plain)
    hdu.name = "MEMBERSHIP"
    for key in ("software", "model", "seed"):
        hdu.header[key.upper()] = table.meta[key]
    for key in ("checkpoint", "run_record", "provenance"):
        hdu.header.add_history(f"{key}: {as_text(table.meta[key])}")
    for name in plain.colnames:
        if name in UCDS:
            hdu.header[f"TUCD{plain.colnames.index(name) + 1}"] = UCDS[name]
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


def write_votable(table: Table, path: Path) -> None:
    """Write a binary VOTable with units, UCDs and what made it as INFO elements."""
    plain = table.copy(copy_data=False)
    plain.meta = {}
    document = from_table(plain)
    first = document.get_first_table()
    for field in first.fields:
        name = "probability" if field.name.startswith("probability_") else field.name
        ucd = {**UCDS, "probability": "stat.probability"}.get(name)
        if ucd is not None:
            field.ucd = ucd
    for key, value in table.meta.items():
        document.infos.append(Info(name=key, value=as_text(value)))
    document.to_xml(str(path), tabledata_format="binary2")


def write_ecsv(table: Table, path: Path) -> None:
    """Write text with units, types and what made it in a YAML header."""
    table.write(path, format="ascii.ecsv", overwrite=True)


WRITERS: dict[str, tuple[str, Callable[[Table, Path], None]]] = {
    "fits": ("fits", write_fits),
    "votable": ("vot", write_votable),
    "ecsv": ("ecsv", write_ecsv),
}
