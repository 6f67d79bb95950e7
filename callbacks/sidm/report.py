"""The report of the sidm method: σ/m of populations, its coverage, and whether to trust it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn

from callbacks.report.base import Mask, ReportCallback, TestRun
from callbacks.report.bootstrap import subsample
from callbacks.report.gather import Rows
from callbacks.sidm.baselines import profile_features
from callbacks.sidm.figures.assemble import sidm_figures
from callbacks.sidm.figures.look import Findings
from callbacks.sidm.members import member_latents, members_of
from callbacks.sidm.populations import Array, Population
from callbacks.sidm.scores import (
    add_classes,
    add_confidence,
    add_coverage,
    add_posteriors,
    add_rejection,
    add_single_maps,
    add_table,
    add_widths,
)
from callbacks.sidm.subjects import Measured, Populations
from lightning_modules.physics.cross_sections import merged

MIN_HALOS = 2
"""Halos of a population below which its mean has no error."""


@runtime_checkable
class SIDMData(Protocol):
    """A datamodule that knows its simulations."""

    simulations: list[str]
    """Names, in the order of a batch's `simulation`."""
    roles: dict[str, str]
    """Name to `known`, `hidden`, `calibration` or `foreign`."""


class SIDMReport(ReportCallback):
    """Writes `report.json`, `report.csv` and `figures/*.png` at the end of `test`.

    Every number is of held-out halos: those of the test split and of simulations that took no part
    in training. The unit of inference is a population, the maps of one simulation. Subjects are
    `model`; `baseline/radial_profile`, log-mean and log-scatter of map/max in ten rings, with
    discriminants fitted on training maps and otherwise the same posterior; `baseline/texture`, the
    same with gradient and Laplacian in the rings, too; and `model_<name>` for each other trained
    run (`--beside.<name>`), such as a `CrossSectionRegressor`.

    | key | meaning |
    |---|---|
    | `cross_section` (`_q05 _q16 _q84 _q95`) `/simulation=` | posterior of σ/m in cm^2/g |
    | `std_halos`, `std_interpolation`, `std_members`, `map_spread` | its parts, cm^2/g |
    | `left_out/simulation=` | median σ/m of a known simulation by the path of the others |
    | `map_median/simulation=` | median over maps of what the network says of each alone |
    | `overlap/simulation=/known=`, `confidence/simulation=` | the paper's overlap, its p-value |
    | `two_sample_auc`, `_limit` `/simulation=` | against the known simulations nearest in σ/m |
    | `ood_auc/domain=/score=` | single foreign maps against known ones |
    | `coverage/level=`, `median_width`, `median_error` | over hidden populations |
    | `interval_width/num_maps=` | median over hidden populations cut to that size, cm^2/g |
    | `accuracy`, `confusion/true=/predicted=` | of known maps, by cross-section |

    Intervals are scaled by split-conformal factors where there are calibration simulations. True
    values of hidden simulations serve to score, never to fit.

    Args:
        baselines: Whether to fit the baseline.
        num_resamples: Bootstrap resamples.
        max_fit: Training maps that the baseline is fitted on at most.
        seed: Fixes subsamples and resamples.
    """

    method: ClassVar[str] = "sidm"
    outputs: ClassVar[tuple[str, ...]] = (
        "latent", "profile", "probability", "cross_section", "energy"
    )  # fmt: skip
    inputs: ClassVar[tuple[str, ...]] = ("simulation", "label", "true_label", "halo", "split")
    shown: ClassVar[tuple[str, ...]] = ("", "level=0.68", "level=0.95")
    shows_beside: ClassVar[bool] = True
    own_subjects: ClassVar[tuple[str, ...]] = ("radial_profile", "texture")

    def reduce(self, batch: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what is kept of each map: profile and texture in rings, not its pixels."""
        rings = profile_features(batch["map"], batch["good"])
        return super().reduce(batch, outputs) | {"rings": rings}

    def evaluate(self, run: TestRun) -> dict[str, Figure]:
        """Fill the report and return the figures."""
        if not isinstance(run.datamodule, SIDMData):
            run.report.note("populations are known to a SIDMDataModule alone: nothing is measured")
            return {}
        held_out = run.held_out()
        _impute(run.rows["rings"], run.split("train"))
        found = _select(run, member_latents(run.module, run.rows["latent"]), held_out)
        _note_left_out(run, found)
        if len({one.cross_section for one in found.known}) < 2:
            run.report.note("a path needs held-out maps of known simulations of two cross-sections")
            return {}
        subjects, classes = [], []
        for measured, module, rows in self._subjects(run, held_out):
            classes.append(self._classes(run, measured, module, rows, held_out))
            subjects.append(measured)
            add_posteriors(run, measured)
            add_coverage(run, measured)
            add_widths(run, measured)
            add_confidence(run, measured)
            add_rejection(run, measured, self._per_map(run, held_out, rows, "energy"))
            if classes[-1]:
                add_classes(run, measured, classes[-1])
            maps = self._per_map(run, held_out, rows, "cross_section")
            medians = {name: float(np.median(values)) for name, values in maps.items()}
            add_single_maps(run, measured.subject, medians)
        add_table(run, subjects[0])
        profiles = _select(run, run.rows["rings"][:, None], held_out)
        return self.draw(Findings(run, held_out, subjects, profiles, classes[0]))

    def draw(self, findings: Findings) -> dict[str, Figure]:
        """Return the figures by name; override for others, or none."""
        return sidm_figures(findings)

    def _subjects(
        self, run: TestRun, held_out: Array
    ) -> Iterator[tuple[Measured, nn.Module | None, Rows]]:
        """Yield what each subject says of the populations, the subject and its rows."""
        models = {"model": (run.module, run.rows)}
        models |= {f"model_{name}": (self.beside[name], rows) for name, rows in run.beside.items()}
        for subject, (module, rows) in models.items():
            latent = member_latents(module, rows["latent"])
            populations = _select(run, latent, held_out, rows.get("profile"))
            yield Measured(subject, populations, self.seed), module, rows
        rings = run.rows["rings"][:, None]
        baselines = {"radial_profile": rings[..., : rings.shape[2] // 2], "texture": rings}
        for name, latent in baselines.items() if run.use_baselines else ():
            populations = _select(run, latent, held_out)
            training = np.flatnonzero(run.split("train"))
            training = training[subsample(len(training), self.max_fit, self.seed)]
            populations.training = _select(run, latent, training).known
            yield Measured(f"baseline/{name}", populations, self.seed), None, {}

    def _per_map(self, run: TestRun, held_out: Array, rows: Rows, key: str) -> dict[str, Array]:
        """Return one number a map by the name of its simulation; empty without the key."""
        if key not in rows:
            return {}
        values = rows[key].reshape(len(held_out), 1, -1)
        found = _select(run, values, held_out)
        return {x.name: x.latent[:, 0, 0] for x in (*found.known, *found.measured)}

    def _classes(
        self,
        run: TestRun,
        measured: Measured,
        module: nn.Module | None,
        rows: Rows,
        held_out: Array,
    ) -> dict[str, Array]:
        """Return the class of each known map; none if nothing but these maps could tell."""
        if measured.populations.training is not None:
            return measured.classes()
        if module is None or "probability" not in rows:
            return {}
        best = rows["probability"].argmax(1)
        labels = np.asarray(members_of(module)[0].known_label.cpu())
        values = sorted({one.cross_section for one in measured.populations.known})
        place = [values.index(x) if x in values else -1 for x in labels.tolist()]
        found = _select(run, np.array(place)[best].reshape(-1, 1, 1), held_out)
        return {one.name: one.latent[:, 0, 0] for one in found.known}


def _impute(features: Array, training: Mask) -> None:
    """Put the mean over training maps where a map has no feature, in place.

    Args:
        features: NaN where unknown, shape (n, D).
        training: Which maps are of the training, shape (n,); all if none is.
    """
    rows = training if training.any() else np.ones(len(features), bool)
    known = np.isfinite(features[rows])
    sums = np.where(known, features[rows], 0.0).sum(0)
    means = np.broadcast_to(sums / np.maximum(known.sum(0), 1), features.shape)
    unknown = ~np.isfinite(features)
    features[unknown] = means[unknown]


def _note_left_out(run: TestRun, found: Populations) -> None:
    """Name the simulations that are not measured, for want of held-out halos."""
    taken = {one.name for one in (*found.known, *found.measured, *found.calibration)}
    missing = [name for name in run.datamodule.simulations if name not in taken]
    if missing:
        run.report.note(f"left out for want of {MIN_HALOS} held-out halos: {', '.join(missing)}")


def _select(run: TestRun, latent: Array, rows: Array, profile: Array | None = None) -> Populations:
    """Return the populations of some rows by role; known ones of one class have one σ/m.

    Args:
        run: Of the test.
        latent: Of all rows, shape (n, R, Z).
        rows: Mask or positions.
        profile: Of all rows, shape (n, F), if the subject has one.
    """
    kept = run.select(rows)
    code, values, halo = kept["simulation"], latent[rows], kept["halo"]
    found: dict[str, list[Population]] = {
        "known": [],
        "hidden": [],
        "calibration": [],
        "foreign": [],
    }
    for number, name in enumerate(run.datamodule.simulations):
        own = code == number
        if len(np.unique(halo[own])) >= MIN_HALOS:
            value = float(kept["true_label"][own][0])
            role = run.datamodule.roles[name]
            beside = None if profile is None else profile[rows][own]
            found[role].append(Population(name, values[own], halo[own], value, beside))
    merged_values = merged([one.cross_section for one in found["known"]])
    pairs = zip(found["known"], merged_values, strict=True)
    known = [replace(one, cross_section=value) for one, value in pairs]
    hidden = [one.name for one in found["hidden"]]
    measured = [*found["hidden"], *found["foreign"]]
    return Populations(known, measured, found["calibration"], hidden)
