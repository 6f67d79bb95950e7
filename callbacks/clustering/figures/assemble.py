"""All figures of the clustering report, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks.clustering.alignment import Clustering
from callbacks.clustering.contrasts import MIN_STARS
from callbacks.clustering.figures.charts import colour_numbers, colourings, star_figures
from callbacks.clustering.figures.clusters import Drawn, cluster_figure
from callbacks.clustering.figures.latent import latent_figures
from callbacks.clustering.figures.profiles import profile_figure
from callbacks.clustering.figures.scores import probability_figures, score_figure
from callbacks.clustering.parameters import error_scale, fitted_cluster
from callbacks.clustering.sample import StarSample, Subset
from callbacks.clustering.structure import Cluster
from callbacks.report.base import TestRun
from callbacks.report.plots import subject_colours

Array = NDArray[Any]
MAX_DRAWN = 6
"""Clusters shown side by side at most, those of most stars."""


def clustering_figures(
    run: TestRun,
    sample: StarSample,
    subsets: Sequence[Subset],
    answers: Mapping[str, Sequence[Clustering]],
    parameters: Sequence[dict[str, float]],
    max_tsne: int,
) -> dict[str, Figure]:
    """Return all figures that the data allow, by name.

    Charts show all objects; calibration and thresholds the last subset (held out, if there is one).

    Args:
        run: With the filled report and the latent space, if there is one.
        sample: What is known of the objects.
        subsets: The subsets scored.
        answers: Split to the subjects' answers.
        parameters: Of the model's clusters, if it knows them.
        max_tsne: Objects of t-SNE and UMAP at most.
    """
    every = answers[subsets[0].split]
    beside = {f"baseline/{name}" for name in run.beside}
    panels, latent = colourings(sample, every, beside), run.rows.get("latent")
    figures = {}
    if sample.astrometry is not None and panels:
        figures.update(star_figures(sample, panels))
    if sample.motion_covariance is not None and every and every[0].subject == "model":
        errors = sample.motion_covariance * error_scale(run.module) ** 2
        if drawn := drawn_clusters(run.module, every[0], sample, parameters):
            figures["clusters"] = cluster_figure(drawn, sample, errors)
            figures["profiles"] = profile_figure(drawn, sample, errors)
    if latent is not None and panels:
        figures.update(latent_figures(latent.reshape(len(latent), -1), panels, max_tsne))
    if sample.label is not None:
        splits = [subset.split for subset in subsets]
        names = ("ari", "accuracy", "f1", "auc") if sample.has_field else ("ari", "nmi", "accuracy")
        figures["scores"] = score_figure(run.report, names, splits)
        colours = subject_colours(run.report)
        figures.update(probability_figures(sample, subsets[-1], answers[splits[-1]], colours))
    return figures


def drawn_clusters(
    module: object,
    answer: Clustering,
    sample: StarSample,
    parameters: Sequence[dict[str, float]],
) -> list[Drawn]:
    """Return the clusters of an answer that have enough members to be drawn, in order.

    Args:
        module: The model.
        answer: What it says.
        sample: The stars.
        parameters: Of the clusters that the model knows; others are described by their members.
    """
    assert sample.astrometry is not None
    known = {int(row["cluster"]): row for row in parameters}
    numbers = colour_numbers(answer, sample)
    sizes = np.bincount(answer.assignment, minlength=answer.num_columns)
    groups = np.flatnonzero((numbers > 0) & (sizes >= MIN_STARS)).tolist()
    drawn = []
    for column in sorted(sorted(groups, key=lambda k: -sizes[k])[:MAX_DRAWN]):
        p = answer.probability_of(column)
        place, motion = sample.astrometry[:, :2], sample.astrometry[:, 3:]
        found = (
            fitted_cluster(module, known[column], p)
            if column in known
            else Cluster.of_members(p, place, motion)
        )
        if found is not None:
            drawn.append(Drawn(found, f"cluster {column}", int(numbers[column])))
    return drawn
