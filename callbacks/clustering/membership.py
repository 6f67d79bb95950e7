"""Membership tables: the catalogue's own columns with probabilities, as astronomers' files."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from astropy.table import Column

from callbacks.predictions.base import CatalogueData, MergedRows
from callbacks.predictions.tables import Format, PredictionWriter, select
from callbacks.report.gather import Rows

ERROR = "Mean squared reconstruction error in scaled units"
COLUMNS: dict[str, tuple[str, str, str | None]] = {
    "probability": ("probability", "Soft membership in cluster", "stat.probability"),
    "latent": ("latent", "Latent axis", None),
    "assignment": ("cluster", "Cluster, named by the model's column", "meta.code.class"),
    "reconstruction_error": ("reconstruction_error", ERROR, "stat.error"),
}
"""Key of the predictions to name, description and UCD1+ of the column."""

UCDS = {
    "source_id": "meta.id;meta.main",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "parallax": "pos.parallax.trig",
    "pmra": "pos.pm;pos.eq.ra",
    "pmdec": "pos.pm;pos.eq.dec",
    "phot_g_mean_mag": "phot.mag;em.opt",
    "bp_rp": "phot.color;em.opt.B;em.opt.R",
}
"""UCD1+ of Gaia's columns that the input may carry (IVOA, "The UCD1+ controlled vocabulary")."""


class MembershipTable(PredictionWriter):
    """Writes the catalogue with membership columns at the end of `predict`.

    The columns of the input (`datamodule.catalogue(index)`) come first, with their units; then
    `probability_0`..., soft membership in each of the model's clusters (they sum to 1), `cluster`,
    the cluster of each star, `reconstruction_error` and, if asked for, `latent_0`... The header
    says which model, checkpoint, seed, version and data made the table. Files are
    `membership.fits`, `.vot`, `.ecsv` (TOPCAT opens all three), `.csv` and `.h5`.

    Args:
        formats: Files to write.
        latent: Whether to add the latent coordinates.
    """

    stem: ClassVar[str] = "membership"
    needs: ClassVar[type] = CatalogueData
    data: CatalogueData

    def __init__(self, formats: Sequence[Format] = ("fits",), latent: bool = False) -> None:
        super().__init__(formats)
        self.latent = latent

    def columns(self, outputs: Any, batch: Any) -> Rows:
        """Return the predictions that become columns."""
        wanted = [key for key in COLUMNS if key in outputs and (self.latent or key != "latent")]
        return select(outputs, ["index", *wanted])

    def table(self, rows: Rows) -> Iterator[Column]:
        """Yield the input's columns and those of the predictions, with UCDs."""
        for column in self.data.catalogue(rows["index"]).itercols():
            column.meta |= {"ucd": UCDS[column.name]} if column.name in UCDS else {}
            yield column
        for key, (name, description, ucd) in COLUMNS.items():
            if key in rows:
                meta = {"ucd": ucd} if ucd else {}
                yield Column(rows[key], name, description=description, meta=meta)

    def title(self, rows: MergedRows) -> str:
        """Return how many objects there are, and whether they are in clusters."""
        what = "membership" if "assignment" in rows.keys else "no membership (no clusters yet)"
        return f"{what} of {len(rows.index)} objects"
