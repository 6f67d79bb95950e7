"""What can be told from the latents: labels, abundances and the simulator's true factors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from threadpoolctl import threadpool_limits

from callbacks.metrics.disentanglement import (
    NUM_BINS,
    binned_information,
    dci,
    modularity,
    mutual_information_gap,
    separated_attribute_predictability,
)
from callbacks.report.base import TestRun
from callbacks.report.bootstrap import subsample
from callbacks.report.scope import Scope
from callbacks.spectra.predictions import Predictions

Array = NDArray[Any]
Columns = Mapping[str, Array]
NOT_FACTORS = ("true_sky_velocity",)
"""Moves masks only: the spectra do not know it."""

MIN_STARS = 50
QUADRATIC = "latents+label_products"
MAX_FACTOR_STARS = 3000
PENALTIES = np.logspace(-2, 4, 13)


@dataclass(frozen=True)
class RecoveryTargets:
    """What is to be told, of the stars fitted and of those scored.

    Args:
        fitted: Name to values, shape (m,), NaN where unknown.
        scored: The same names, shape (n,).
        label: Names of the labels that the model is given.
        fitted_label: Their values, shape (m, L).
        scored_label: Shape (n, L).
    """

    fitted: Columns
    scored: Columns
    label: Sequence[str]
    fitted_label: Array
    scored_label: Array

    @property
    def abundances(self) -> list[str]:
        """Abundances relative to iron and alpha enhancement: true ones where simulated."""
        found = [name for name in self.fitted if is_abundance(name)]
        true = [name for name in found if name.startswith("true_")]
        return true or found

    @property
    def factors(self) -> list[str]:
        """True factors of the simulator, nuisances among them."""
        true = [name for name in self.fitted if name.startswith("true_")]
        return [name for name in true if name not in NOT_FACTORS]


def is_abundance(name: str) -> bool:
    """Return whether a column is [X/Fe] or [alpha/M]."""
    plain = name.removeprefix("true_")
    return plain == "alpha_m" or (plain.endswith("_fe") and plain != "x_fe")


def find_targets(
    run: TestRun, fitted: Mapping[str, Array], index: Array, label: Array, known: Sequence[int]
) -> RecoveryTargets | None:
    """Return what can be told of the stars, or None with a note if nothing can be fitted.

    Args:
        run: Its datamodule's catalogue is a table of one value a star and column.
        fitted: Stars of the training split that regressions are fitted on.
        index: Of the held-out stars.
        label: Theirs, shape (n, L).
        known: Labels that enough stars have.
    """
    report, data = run.report, run.datamodule
    if not fitted:
        report.note("no training split: baselines, recovery of labels and abundances are left out")
        return None
    targets = make_targets(
        data.catalogue(fitted["index"]).columns,
        data.catalogue(index).columns,
        [data.labels[place] for place in known],
        (fitted["label"][:, known], label[:, known]),
    )
    if not targets.abundances:
        report.note(f"no abundance is known of {MIN_STARS} stars: their recovery is left out")
    if not targets.factors:
        report.note(f"no true factor is known of {MIN_STARS} stars: scores against it are left out")
    if targets.scored:
        report.note(
            f"R^2 on {len(index)} held-out stars of regressions on {len(fitted['index'])} training "
            "stars (trees on fewer); MIG with 20 equal-count bins (fewer below 2000 stars), DCI "
            "with boosted trees"
        )
    return targets


def make_targets(
    fitted: Columns, scored: Columns, label: Sequence[str], labels: tuple[Array, Array]
) -> RecoveryTargets:
    """Return the columns of a catalogue that enough stars have and that differ among them.

    Args:
        fitted: Catalogue of the stars fitted.
        scored: Catalogue of the stars scored.
        label: Names of the labels given.
        labels: Their values, of the stars fitted and of those scored.
    """
    names = [name for name in sorted(fitted) if name in scored and _usable(fitted, scored, name)]
    kept = [n for n in names if n.startswith("true_") or is_abundance(n)]
    first, second = ({n: np.asarray(x[n], np.float64) for n in kept} for x in (fitted, scored))
    for column, name in enumerate(label):
        first[name], second[name] = (x[:, column].astype(np.float64) for x in labels)
    return RecoveryTargets(first, second, tuple(label), *labels)


def _usable(fitted: Columns, scored: Columns, name: str) -> bool:
    """Return whether a column is a number that enough stars have and that differs among them."""
    for columns in (fitted, scored):
        values = np.asarray(columns[name])
        if values.ndim != 1 or values.dtype.kind not in "fiu":
            return False
        finite = values[np.isfinite(values)]
        if len(finite) < MIN_STARS or finite.std() == 0:
            return False
    return True


REGRESSIONS: dict[str, Callable[[int], Any]] = {
    "ridge": lambda seed: make_pipeline(StandardScaler(), RidgeCV(PENALTIES)),
    "boosting": lambda seed: HistGradientBoostingRegressor(
        max_iter=80, max_leaf_nodes=15, random_state=seed
    ),
}
"""Name to maker, from a seed: linear with a penalty chosen on the stars fitted, boosted trees."""


def regress(
    regression: Any, fitted: tuple[Array, Array], scored: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return the values told of the stars scored and which of these have all that is needed.

    Args:
        regression: Of scikit-learn.
        fitted: Inputs and values; stars with unknown ones are left out.
        scored: The same of other stars.

    Returns:
        Values of the stars that are known, shape (k,), and their mask, shape (n,).
    """
    (x, y), new_x = fitted, scored[0]
    known, asked = (np.isfinite(b) & np.isfinite(a).all(1) for a, b in (fitted, scored))
    # Threads of OpenMP on small tables, on a busy machine, cost hundreds of times what they gain.
    with threadpool_limits(limits=1, user_api="openmp"):
        return regression.fit(x[known], y[known]).predict(new_x[asked]), asked


def add_recovery(
    scope: Scope, found: Predictions, targets: RecoveryTargets, max_boosting: int
) -> None:
    """Add how well labels and abundances follow from latents, and from latents and labels.

    R^2 as `r2_ridge` and `r2_boosting`, errors in K and dex as `rmse_ridge` and `rmse_boosting`. In
    short: `label_<r2>_max`, the largest of the labels from the latents, which separability
    wants to be 0, and `abundance_<r2>_mean`, of the abundances from latents and labels.

    Args:
        scope: Of the subject on the held-out stars.
        found: Its latents; without any (the emulator of labels) from labels alone.
        targets: What is to be told.
        max_boosting: Stars that trees are fitted on at most; 0 leaves them out.
    """
    seed, short = scope.bootstrap.seed, dict[str, list[float]]()
    for inputs, fitted, scored in _inputs(found, targets):
        for target in _asked(inputs, targets):
            known, true = targets.fitted[target], targets.scored[target]
            for kind, make in REGRESSIONS.items():
                few = kind == "boosting"
                if few and not (max_boosting and _boosted(inputs, target, targets)):
                    continue
                rows = subsample(len(fitted), max_boosting if few else len(fitted), seed)
                told, asked = regress(make(seed), (fitted[rows], known[rows]), (scored, true))
                own = scope.of(asked).where(target=target, inputs=inputs)
                value = own.regression(told, true[asked], f"_{kind}")
                if target in targets.label:
                    short.setdefault(f"label_r2_{kind}_max", []).append(value)
                elif target in targets.abundances and inputs in ("labels", "latents+labels"):
                    short.setdefault(f"abundance_r2_{kind}_mean", []).append(value)
    for name, values in short.items():
        summary = max if name.endswith("max") else np.mean
        scope.add(name, summary(values), n=len(targets.scored_label))


def add_factors(scope: Scope, latent: Array, targets: RecoveryTargets, trees: bool) -> None:
    """Add MIG, SAP, modularity and DCI of the latents on the simulator's true factors.

    Args:
        scope: Of the subject on the held-out stars.
        latent: Means of the latents, shape (n, D).
        targets: With true factors.
        trees: Whether to fit boosted trees for DCI.
    """
    names, seed = targets.factors, scope.bootstrap.seed
    factor = np.stack([targets.scored[name] for name in names], 1)
    known = np.flatnonzero(np.isfinite(factor).all(1))
    known = known[subsample(len(known), MAX_FACTOR_STARS, seed)]
    if len(names) < 2 or latent.shape[1] < 2 or len(known) < MIN_STARS:
        return
    factor, latent, count = factor[known], latent[known].astype(np.float64), len(known)
    # Twenty bins from 2000 stars on; with fewer, cells would hold too few to tell anything.
    num_bins = int(np.clip(np.sqrt(count / 5), 3, NUM_BINS))
    information = binned_information(latent, factor, num_bins)
    gaps = mutual_information_gap(information, factor, num_bins)
    saps = separated_attribute_predictability(latent, factor)
    scope.add("mig", gaps.mean(), n=count)
    scope.add("sap", saps.mean(), n=count)
    scope.add("modularity", modularity(information), n=count)
    if trees:
        scores = dci(latent, factor, np.arange(count) % 2 == 0, seed)
        for metric, value in scores._asdict().items():
            scope.add(f"dci_{metric}", value, n=count)
    for name, gap, sap in zip(names, gaps, saps, strict=True):
        scope.where(factor=name).add("mig", gap, n=count)
        scope.where(factor=name).add("sap", sap, n=count)


def _inputs(found: Predictions, targets: RecoveryTargets) -> Iterator[tuple[str, Array, Array]]:
    """Yield name and values of what a target is told from; missing labels become the mean.

    The last are latents with labels and their products, for latents without a trend with the labels
    cannot tell what abundances have of it, and a linear regression on the labels only its line.
    """
    mean = np.nanmean(targets.fitted_label, 0)
    both = targets.fitted_label, targets.scored_label
    first, second = (np.where(np.isfinite(x), x, mean) for x in both)
    if found.latent is None or found.fitted is None:
        yield "labels", first, second
        return
    yield "latents", found.fitted, found.latent
    yield "latents+labels", np.hstack([found.fitted, first]), np.hstack([found.latent, second])
    if first.shape[1]:
        mean, std = first.mean(0), first.std(0)
        terms = PolynomialFeatures(2, include_bias=False)
        first, second = (
            terms.fit_transform((x - mean) / np.where(std > 0, std, 1.0)) for x in (first, second)
        )
        yield QUADRATIC, np.hstack([found.fitted, first]), np.hstack([found.latent, second])


def _asked(inputs: str, targets: RecoveryTargets) -> list[str]:
    """Return what is told from some inputs: no label from itself."""
    labels = [name for name in targets.label if inputs == "latents"]
    true = [f"true_{name}" for name in targets.label]
    return [*labels, *(name for name in true if name in targets.fitted), *targets.abundances]


def _boosted(inputs: str, target: str, targets: RecoveryTargets) -> bool:
    """Return whether trees are asked too: for labels from latents, abundances from all."""
    return inputs != QUADRATIC and (
        target in targets.label if inputs == "latents" else target in targets.abundances
    )
