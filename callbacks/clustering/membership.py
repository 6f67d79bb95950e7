"""Membership tables: who is in which cluster, beside the catalogue, as astronomers' files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from astropy.table import Column
from lightning.pytorch import LightningModule, Trainer

from callbacks.clustering.alignment import FieldModule
from callbacks.clustering.parameters import frame_centre, parameter_table, parameters_of
from callbacks.predictions.base import CatalogueData, MergedRows
from callbacks.predictions.tables import Format, PredictionWriter, select
from callbacks.report.gather import Rows

PLAIN = {
    "tail": ("Part of the membership that is due to astrometric tails", "stat.probability"),
    "aleatoric": ("Entropy of the members' probabilities in nats", "stat.error"),
    "epistemic": ("What the members' disagreement adds to it in nats", "stat.error"),
    "reconstruction_error": ("Mean squared error in scaled units", "stat.error"),
    "latent": ("Latent axis", ""),
}
"""Keys of the predictions that become columns as they are, to description and UCD1+."""
SPREADS = {"std": "over models", "error": "over refits to resampled stars"}
"""Ending of the predictions' deviations of probabilities, `probability_<ending>`, to their kind."""
KEYS = ("assignment", "probability", *(f"probability_{ending}" for ending in SPREADS), *PLAIN)
"""Keys of the predictions that become columns."""

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
    """Writes who is in which cluster, beside the catalogue, at the end of `predict`.

    The star's id comes first, under the catalogue's own name. What the model says follows:

    * `membership`: the probability to belong to any cluster, and `cluster`: the most likely one, 0
      for the field, of models that know the field (`field_column`); of others `cluster` is the
      number of the column, for none of their columns is known to be the field;
    * `probability_0`...: the probability of each cluster, 0 the field; they sum to 1;
    * `tail`: the part of the membership that is due to astrometric tails, if there is any;
    * `probability_0_error`... of a mixture with refits (`num_bootstrap`);
    * `probability_0_std`..., `aleatoric` and `epistemic`, of an `Ensemble`;
    * `reconstruction_error` and, if asked for, `latent_0`..., of models that have them.

    The columns of the input (`datamodule.catalogue(index)`) are `input_<name>`, with their units: a
    published membership or label is no answer of the model. The header says which model,
    checkpoint, seed, version and data made the table and, of models that know it, centre and motion
    of each cluster. Files are `membership.fits`, `.vot`, `.ecsv` (TOPCAT opens all three), `.csv`
    and `.h5`.

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
        self.field_column: int | None = None
        self.clusters: dict[int, str] = {}

    def columns(self, outputs: Any, batch: Any) -> Rows:
        """Return the predictions that become columns."""
        wanted = [key for key in KEYS if key in outputs and (self.latent or key != "latent")]
        return select(outputs, ["index", *wanted])

    def facts(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        """Return what made the table, and a line for each cluster; keep what the columns need."""
        self.field_column = module.field_column if isinstance(module, FieldModule) else None
        self.clusters = describe_clusters(module, self.data)
        lines = [
            f"cluster {number} (probability_{number}): {text}"
            for number, text in self.clusters.items()
        ]
        return super().facts(trainer, module) | ({"clusters": lines} if lines else {})

    def table(self, rows: Rows) -> Iterator[Column]:
        """Yield the id, the answer and the input's columns, with UCDs."""
        known, *others = self.data.catalogue(rows["index"]).itercols()
        known.meta |= {"ucd": UCDS.get(known.name, "meta.id;meta.main")}
        yield known
        yield from self._answer(rows)
        for column in others:
            column.meta |= {"ucd": UCDS[column.name]} if column.name in UCDS else {}
            column.name = f"input_{column.name}"
            yield column

    def title(self, rows: MergedRows) -> str:
        """Return how many objects there are, and whether they are in clusters."""
        what = "membership" if "assignment" in rows.keys else "no membership (no clusters yet)"
        return f"{what} of {len(rows.index)} objects"

    def _answer(self, rows: Mapping[str, np.ndarray]) -> Iterator[Column]:
        """Yield the columns of what the model says."""
        if "assignment" in rows:
            yield from self._clusters(rows)
        for key, (text, ucd) in PLAIN.items():
            if key in rows:
                yield described(rows[key], key, text, ucd)

    def _clusters(self, rows: Mapping[str, np.ndarray]) -> Iterator[Column]:
        """Yield the membership, the cluster and the probability of each, the field as number 0."""
        soft, cluster = rows.get("probability"), rows["assignment"]
        text = "Column of the model, none of which is known to be the field"
        if self.field_column is not None:
            text = "Most likely cluster, 0 for the field"
            cluster = np.where(cluster < self.field_column, cluster + 1, cluster)
            cluster[rows["assignment"] == self.field_column] = 0
        if self.field_column is not None and soft is not None:
            soft = field_first(soft, self.field_column)
            what = "Probability to belong to any cluster"
            yield described(1.0 - soft[:, 0], "membership", what, "stat.probability")
        yield described(cluster, "cluster", text, "meta.code.class")
        for k, values in enumerate([] if soft is None else soft.T):
            what = "the field" if k == 0 and self.field_column is not None else f"cluster {k}"
            about = f": {self.clusters[k]}" if k in self.clusters else ""
            text = f"Probability of {what}{about}"
            yield described(values, f"probability_{k}", text, "stat.probability")
        for ending, kind in SPREADS.items():
            if (found := rows.get(f"probability_{ending}")) is not None:
                yield from self._deviations(found, ending, kind)

    def _deviations(self, spread: np.ndarray, ending: str, kind: str) -> Iterator[Column]:
        """Yield the deviations of the probabilities, (n, K), the field as number 0."""
        ordered = spread if self.field_column is None else field_first(spread, self.field_column)
        for k, values in enumerate(ordered.T):
            text = f"Standard deviation of probability_{k} {kind}"
            yield described(values, f"probability_{k}_{ending}", text, "stat.stdev")


def field_first(values: np.ndarray, field: int) -> np.ndarray:
    """Return columns with that of the field first, shape (n, K).

    Args:
        values: Shape (n, K).
        field: Number of its column.
    """
    return np.column_stack([values[:, field], np.delete(values, field, 1)])


def described(values: np.ndarray, name: str, text: str, ucd: str) -> Column:
    """Return a column with description and UCD1+, none if that is empty.

    Args:
        values: First axis the objects.
        name: Of the column.
        text: What it holds.
        ucd: Its kind.
    """
    return Column(values, name, description=text, meta={"ucd": ucd} if ucd else {}, copy=False)


def describe_clusters(module: object, data: object) -> dict[int, str]:
    """Return where each cluster of a module is and how it moves, by number; nothing if unknown.

    Args:
        module: May be a `ParametricModule`.
        data: The datamodule, which may know the frame.
    """
    rows = parameters_of(module)
    if not rows:
        return {}
    said = {}
    for row in parameter_table(rows, frame_centre(data)):
        place = ("ra", "dec") if "ra" in row.colnames else ("x", "y")
        first, second = (f"{float(row[name]):.5f}" for name in place)
        said[int(row["cluster"])] = (
            f"{', '.join(place)} = {first}, {second} deg; parallax {row['parallax']:.4f} mas; "
            f"pm = {row['pmra']:.4f}, {row['pmdec']:.4f} mas/yr"
        )
    return said
