"""σ/m of the populations among one's own maps, and what each map says, as tables."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from astropy.table import Column, Table
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from callbacks.predictions.base import MergedRows, ShardWriter
from callbacks.predictions.fits import header
from callbacks.predictions.tables import select, to_table, write_csv, write_ecsv, write_fits
from callbacks.report.base import NamedData
from callbacks.report.gather import Rows
from callbacks.sidm.confidence import MIN_P_VALUE
from callbacks.sidm.members import member_latents, members_of
from callbacks.sidm.populations import Array, Population
from callbacks.sidm.rejection import MapScores
from callbacks.sidm.scores import UNIT
from callbacks.sidm.subjects import Measured, Populations

UNNAMED = "maps"
"""Population of maps that come from no simulation."""
KEYS = ("cross_section", "probability", "energy", "latent", "profile")
QUANTILES = {"q05": (0.9, 0), "q16": (0.68, 0), "q84": (0.68, 1), "q95": (0.9, 1)}
"""Name of a quantile to the interval and its end."""
PARTS = ("std_halos", "std_interpolation", "std_members", "map_spread")


@runtime_checkable
class MapData(NamedData, Protocol):
    """A datamodule of maps of simulations."""

    simulations: list[str]
    """Names, in the order of a batch's `simulation`."""
    roles: dict[str, str]
    """Name to `known`, `hidden`, `calibration` or `foreign`."""

    def groups(self, index: Array) -> Array:
        """Return the halo of each map, shape (n,)."""


class CrossSectionTable(ShardWriter):
    """Writes σ/m of each population of the input at the end of `predict`, and prints it.

    A population is the maps of one `simulation`; maps of none are the population `maps`; those of
    known simulations are measured only if there are no others. Files are
    `cross_section.ecsv` and `.csv`, a row a population, in cm^2/g: median, `_q05 _q16 _q84 _q95`
    and parts of the error as the report has them, `num_maps`, `num_halos`, the largest `overlap`
    with a known simulation with its p-value `confidence`, `two_sample_auc` and whether it is
    `beyond` the known simulations or `foreign`, so that its value means nothing. Intervals are as
    the posterior gives them, not calibrated. A population of one halo has no error and so no value.

    `cross_section.maps.fits` has a row a map: what the network says of it alone, and its distance
    from the known maps.

    The known simulations are those of the checkpoint, by the validation maps that it keeps; the
    members of an `Ensemble` must have kept the same ones.
    """

    stem: ClassVar[str] = "cross_section"
    needs: ClassVar[type] = MapData
    suffixes = ("ecsv", "csv", "maps.fits")
    data: MapData

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a model without known maps before any work is done."""
        self._known = reference_populations(pl_module)
        self._lines: list[str] = []
        super().on_predict_start(trainer, pl_module)

    def columns(self, outputs: Any, batch: Any) -> Rows:
        """Return what the model says of each map, and the code of its simulation."""
        kept = select(outputs, ["index", *(key for key in KEYS if key in outputs)])
        return kept | select(batch, ["simulation", "index"])

    def write(
        self, paths: Sequence[Path], rows: MergedRows, trainer: Trainer, module: LightningModule
    ) -> None:
        """Write the tables of populations and of maps."""
        whole = rows.read()
        latent = member_latents(module, whole["latent"])
        names = np.array([*self.data.simulations, UNNAMED])[whole["simulation"]]
        given = np.asarray(self.data.groups(whole["index"]))
        halo = strangers(given, self._known)
        profile = whole.get("profile", np.zeros((len(latent), 0)))  # of no width without rings
        maps = Population(UNNAMED, latent, halo, profile=profile)
        present = list(dict.fromkeys(names))
        asked = [name for name in present if self.data.roles.get(name) != "known"] or present
        found = [replace(maps.take(names == name), name=str(name)) for name in asked]
        table = population_table(self._known, found)
        self._lines = [sentence(row) for row in table]
        facts = header(trainer, module)
        write_ecsv(paths[0], [table], facts, self.stem)
        write_csv(paths[1], [table], facts, self.stem)
        scores = MapScores().fit(self._known)
        columns = [
            Column(self.data.names(whole["index"]), "name"),
            Column(names, "simulation"),
            Column(given, "halo"),
            *map_columns(whole, np.asarray(members_of(module)[0].known_label.cpu())),
            Column(scores.mahalanobis(maps), "mahalanobis", description="Squared distance"),
            Column(scores.nearest_neighbours(maps), "nearest_neighbours"),
        ]
        write_fits(paths[2], [to_table(columns, split=True)], facts, "maps")

    def title(self, rows: MergedRows) -> str:
        """Return a line for each population, and how many maps there are."""
        return "\n".join([*self._lines, f"cross-section of {len(rows.index)} maps"])


def strangers(halo: Array, known: Sequence[Population]) -> Array:
    """Return halo ids that no known map has: equal ids of two surveys do not mean one halo.

    Args:
        halo: Given ids, shape (n,).
        known: Of the checkpoint.
    """
    _, number = np.unique(halo, return_inverse=True)
    return np.asarray(number + 1 + max(int(one.halo.max()) for one in known))


def reference_populations(module: nn.Module) -> list[Population]:
    """Return the known maps that a checkpoint keeps, one population for each cross-section.

    Args:
        module: A `CompactClustering`, or an `Ensemble` of some.

    Raises:
        ValueError: If it keeps too few, of earlier weights, or members keep different ones.
    """
    tables = _reference_tables(members_of(module))
    if age := int(np.max(tables["reference_age"])):
        raise ValueError(
            f"the checkpoint keeps known maps as its network saw them {age} training batches "
            "before it was saved; give one that was saved right after a validation, such as "
            "best.ckpt"
        )
    halos, label = tables["reference_halo"][0], tables["known_label"][0]
    latent = np.stack(tables["reference_latent"], 2)  # (C, R, members, Z)
    profile = np.mean(tables["reference_profile"], 0)
    kept = np.isfinite(latent).all((2, 3)) & np.isfinite(label)[:, None]
    found = [
        Population(
            f"{value:g}", latent[k][kept[k]], halos[k][kept[k]], float(value), profile[k][kept[k]]
        )
        for k, value in enumerate(label)
        if kept[k].any()
    ]
    sizes = [len(np.unique(one.halo)) for one in found]
    if len(found) < 2 or min(sizes) < 2:
        raise ValueError(
            f"the checkpoint keeps known maps of {sizes or 'no'} halos, by which new ones are "
            "measured; two cross-sections need several each: train with a larger data.val_fraction"
        )
    return found


def _reference_tables(members: Sequence[Any]) -> dict[str, list[Array]]:
    """Return what each member keeps of known maps, which must be the same maps."""
    if any(not hasattr(one, "reference_latent") for one in members):
        raise ValueError(
            f"CrossSectionTable needs the known maps that a CompactClustering keeps, which "
            f"{type(members[0]).__name__} does not: use PredictionWriter"
        )
    names = ["known_label", *(f"reference_{x}" for x in ("latent", "profile", "halo", "age"))]
    tables = {n: [getattr(one, n).detach().cpu().numpy() for one in members] for n in names}
    for key in ("reference_halo", "known_label"):
        if not all(np.array_equal(x, tables[key][0], equal_nan=True) for x in tables[key]):
            raise ValueError(
                f"members of the ensemble differ in {key}: train them with the same data, "
                "data.seed and data.known"
            )
    return tables


def population_table(known: Sequence[Population], found: Sequence[Population]) -> Table:
    """Return what is measured of each population, a row each; NaN what cannot be.

    Args:
        known: Of the checkpoint.
        found: Among the input.
    """
    several = [one for one in found if len(np.unique(one.halo)) > 1]
    parts = Populations(list(known), several, [], [one.name for one in several])
    measured = Measured("model", parts)
    table = Table(rows=[_row(measured, one) for one in found])
    for name in table.colnames:
        if name.startswith(("cross_section", "std_", "map_spread")):
            table[name].unit = UNIT
    return table


def _row(measured: Measured, one: Population) -> dict[str, Any]:
    """Return the numbers of one population."""
    sizes = {"num_maps": one.num_maps, "num_halos": len(np.unique(one.halo))}
    numbers = ("cross_section", *(f"cross_section_{q}" for q in QUANTILES), *PARTS)
    keys = "overlap", "confidence", "two_sample_auc", "two_sample_limit"
    trust = dict.fromkeys(keys, np.nan)
    if one.name not in measured.posteriors:
        values = dict.fromkeys(numbers, np.nan)
        flags = {"beyond": False, "foreign": False}
        return {"simulation": one.name, **values, **sizes, **trust, **flags}
    posterior, intervals = measured.posteriors[one.name], measured.intervals[one.name]
    ends = [intervals[level][end] for level, end in QUANTILES.values()]
    found = [posterior.median, *ends, *(getattr(posterior, part) for part in PARTS)]
    overlaps = measured.overlaps(one)
    trust["overlap"], trust["confidence"] = (
        max(overlaps.values()),
        measured.confidence(overlaps, one),
    )
    if (test := measured.two_sample(one)) is not None:
        trust["two_sample_auc"], trust["two_sample_limit"] = test
    unlike = trust["two_sample_auc"] > trust["two_sample_limit"]
    foreign = unlike or trust["confidence"] < MIN_P_VALUE
    values = dict(zip(numbers, found, strict=True))
    beyond = posterior.median > max(x.cross_section for x in measured.anchors)
    flags = {"beyond": bool(beyond), "foreign": bool(foreign)}
    return {"simulation": one.name, **values, **sizes, **trust, **flags}


def sentence(row: Any) -> str:
    """Return what a row of `population_table` says, and whether to believe it."""
    size = f"{row['num_maps']} maps of {row['num_halos']} halos"
    if row["num_halos"] < 2:
        return f"{row['simulation']}: {size}; with one halo its error is unknown: no value"
    low, high = row["cross_section_q16"], row["cross_section_q84"]
    value = f"sigma/m = {row['cross_section']:.3f} cm^2/g (68 %: {low:.3f} to {high:.3f}), {size}"
    auc = row["two_sample_auc"]
    said = f"overlap {row['overlap']:.2f} (p = {row['confidence']:.2f})"
    said += f", two-sample AUC {auc:.2f}" if np.isfinite(auc) else ""
    verdict = ": it looks foreign, so its value means nothing" if row["foreign"] else ""
    beyond = "; beyond the known simulations, so extrapolated" if row["beyond"] else ""
    return f"{row['simulation']}: {value}, {said}{beyond}{verdict}"


def map_columns(rows: Rows, labels: Array) -> Iterator[Column]:
    """Yield what the model says of single maps.

    Args:
        rows: Of predictions.
        labels: σ/m of the classes in cm^2/g, NaN for hidden ones, shape (C,).
    """
    text = "Of this map alone"
    yield Column(rows["cross_section"], "cross_section", unit=UNIT, description=text)
    for number, (values, label) in enumerate(zip(rows["probability"].T, labels, strict=True)):
        what = f"of {label:g} cm2/g" if np.isfinite(label) else "of a hidden simulation"
        yield Column(values, f"probability_{number}", description=f"Probability {what}")
    yield Column(rows["energy"], "energy", description="-ln sum exp of the logits")
    yield Column(rows["latent"], "latent", description="Latent")
