"""Membership checked with stars drawn from the model's own clusters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from callbacks.clustering.alignment import FieldModule
from callbacks.clustering.parameters import error_scale, fitted_cluster
from callbacks.clustering.sample import ASTROMETRY, feature_names
from callbacks.clustering.structure import Cluster, Footprint
from callbacks.report.base import TestRun
from callbacks.report.gather import Rows
from callbacks.report.scope import NUM_BINS

Array = NDArray[Any]
INPUTS = ("index", "features", "covariance", "magnitude", "colour")
"""Of the batch, what an injected star takes from a real one."""


def add_injection(run: TestRun, parameters: Sequence[dict[str, float]], count: int) -> None:
    """Report whether stars injected into the field get the membership that real stars have.

    Stars are drawn from the fitted clusters, each with the errors and the photometry of a random
    real star drawn with weight p, and put through the module. They say how many members a bin of p
    should hold, and the real stars' Σ p says how many it is stated to hold: `ece` is the sum of the
    differences over the number of stars, as for labels (`consistency`); `completeness` is the share
    of the injected stars above 0.5.

    This tests whether the real stars scatter as the model says, not whether the model is true: a
    group of the field that is taken for a cluster is as consistent as a cluster.

    Args:
        run: With `covariance` in the rows.
        parameters: Of the clusters, at least one.
        count: Stars to inject.
    """
    module, rows = run.module, run.rows
    if not isinstance(module, FieldModule) or module.field_column is None:
        run.report.note("no stars were injected: the model does not know which column is the field")
        return
    rng = np.random.default_rng(run.bootstrap.seed)
    inside = 1.0 - rows["probability"][:, module.field_column].astype(np.float64)
    whole = np.isfinite(rows["features"]).all(1) & np.isfinite(rows["covariance"]).all((1, 2))
    weight = np.array([row["weight"] for row in parameters])
    drawn = []
    for row, number in zip(parameters, rng.multinomial(count, weight / weight.sum()), strict=True):
        own = np.where(whole, rows["probability"][:, int(row["cluster"])], 0.0).astype(np.float64)
        donors = rng.choice(len(own), number, p=own / own.sum())
        drawn.append(inject(run, row, donors, rng))
    p = membership_of(module, {key: np.concatenate([x[key] for x in drawn]) for key in drawn[0]})
    error, std = consistency(p, inside[whole], run.bootstrap.num_resamples, rng)
    scope = run.scope("model", split="injected")
    scope.add("ece", error, std, count)
    scope.share("completeness", p > 0.5)
    run.report.note(
        f"split=injected: {count} stars drawn from the fitted clusters with errors of real members;"
        " tests consistency of memberships with the model, not the model's truth"
    )


def inject(run: TestRun, row: dict[str, float], donors: Array, rng: np.random.Generator) -> Rows:
    """Return stars of a cluster as rows of a batch.

    Args:
        run: With the real stars.
        row: Parameters of the cluster.
        donors: Real stars whose errors and photometry are taken, shape (m,).
        rng: Of the draws.
    """
    rows = {name: run.rows[name][donors].copy() for name in INPUTS if name in run.rows}
    columns = [list(feature_names(run)).index(name) for name in ASTROMETRY]
    sky = Footprint.of_stars(run.rows["features"][:, columns[:2]])
    cluster = fitted_cluster(run.module, row, np.zeros(0))
    assert cluster.scatter is not None
    place = draw_places(cluster, sky, len(donors), rng)
    errors = rows["covariance"][:, 2:, 2:].astype(np.float64) * error_scale(run.module) ** 2
    total = errors + cluster.scatter(place)
    mean = np.array([row["parallax"], row["pmra"], row["pmdec"]])
    noise = np.linalg.cholesky(total) @ rng.standard_normal((len(donors), 3, 1))
    values = np.column_stack([place, mean + noise[..., 0]])
    rows["features"][:, columns] = values
    return rows


def draw_places(cluster: Cluster, sky: Footprint, count: int, rng: np.random.Generator) -> Array:
    """Return x, y [deg] drawn from a cluster's fitted profile inside the footprint, (count, 2).

    Args:
        cluster: With its slope ν.
        sky: What was looked at.
        count: Stars.
        rng: Of the draws.
    """
    assert cluster.nu is not None
    found = np.zeros((0, 2))
    while len(found) < count:
        # The share beyond R is (1 + R²/a²)^(-ν/2).
        beyond, angles = rng.uniform(size=2 * count), rng.uniform(0, 2 * np.pi, 2 * count)
        radius = cluster.radius * np.sqrt(beyond ** (-2.0 / cluster.nu) - 1.0)
        points = cluster.places(radius, angles)
        found = np.concatenate([found, points[sky.holds(points)]])
    return found[:count]


@torch.no_grad()
def membership_of(module: Any, rows: Rows) -> Array:
    """Return what a module says of stars: their membership, shape (n,).

    Args:
        module: With a field column.
        rows: As a batch has them.
    """
    batch = {name: torch.from_numpy(x).to(module.device) for name, x in rows.items()}
    batch["good"] = batch["features"].isfinite()
    soft = module.predict_step(batch)["probability"].cpu().numpy().astype(np.float64)
    return 1.0 - np.asarray(soft[:, module.field_column])


def consistency(
    injected: Array, real: Array, num_resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the calibration error of memberships by injected stars, and its deviation.

    Σ_b |M s_b - Σ_{i in b} p_i| / n over bins of equal width in p, M = Σ p of the n real stars and
    s_b the share of the injected stars in bin b: M s_b of its stars should be members. The
    deviation is that of resampled injected stars and of as many members as expected (Poisson).

    Args:
        injected: Membership of stars drawn from the clusters, shape (m,).
        real: That of real stars, shape (n,).
        num_resamples: Resamples.
        rng: Of the resamples.
    """
    edges = np.linspace(0.0, 1.0, NUM_BINS + 1)
    shares = np.histogram(injected, edges)[0] / len(injected)
    stated = np.histogram(real, edges, weights=real)[0]
    drawn = rng.multinomial(len(injected), shares, size=num_resamples) / len(injected)
    members = rng.poisson(stated, size=(num_resamples, NUM_BINS))
    resampled = np.abs(real.sum() * drawn - members).sum(1) / len(real)
    error = np.abs(real.sum() * shares - stated).sum() / len(real)
    return float(error), float(resampled.std())
