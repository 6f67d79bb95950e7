"""The figures of the clustering report: what is shown, and how objects are coloured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from callbacks.clustering.alignment import AlignedClustering, StarSample, Subset, event
from callbacks.clustering.drawings import (
    Panels,
    latent_figure,
    reliability_figure,
    score_figure,
    star_figures,
    threshold_figure,
)
from callbacks.clustering.physics import find_groups
from callbacks.report.base import TestRun
from callbacks.report.bootstrap import subsample
from callbacks.report.plots import subject_colours

Array = NDArray[Any]


def clustering_figures(
    run: TestRun,
    sample: StarSample,
    subsets: Sequence[Subset],
    answers: Mapping[str, Sequence[AlignedClustering]],
    max_tsne: int,
) -> dict[str, Figure]:
    """Return all figures that the data allow, by name.

    Charts show all objects; calibration and thresholds the last subset (held out, if there is one).

    Args:
        run: With the filled report and the latent space, if there is one.
        sample: What is known of the objects.
        subsets: The subsets scored.
        answers: Split to the subjects' answers.
        max_tsne: Objects of the t-SNE at most.
    """
    panels, latent = colourings(sample, answers[subsets[0].split]), run.rows.get("latent")
    figures = {}
    if sample.astrometry is not None and panels:
        figures.update(star_figures(sample, panels))
    if latent is not None and panels:
        figures.update(latent_figures(latent.reshape(len(latent), -1), panels, max_tsne))
    if sample.label is not None:
        splits = [subset.split for subset in subsets]
        figures["scores"] = score_figure(run.report, ("ari", "nmi", "accuracy"), splits)
        colours = subject_colours(run.report)
        figures.update(probability_figures(sample, subsets[-1], answers[splits[-1]], colours))
    return figures


def colourings(sample: StarSample, answers: Sequence[AlignedClustering]) -> Panels:
    """Return what charts are coloured by: the model's answer and, if known, the true classes.

    Args:
        sample: With labels, if they are known.
        answers: The subjects', the model's first if it has one.
    """
    panels = {}
    if answers and answers[0].subject.startswith("model"):
        panels[answers[0].subject.replace("_", " ")] = classes_of(answers[0], sample)
    if sample.label is not None:
        shift = 0 if sample.has_field else 1
        classes = np.where(sample.label >= 0, sample.label + shift, -1)
        panels["labels"] = (classes, np.ones(len(classes)))
    return panels


def classes_of(answer: AlignedClustering, sample: StarSample) -> tuple[Array, Array]:
    """Return class and strength of each object; without labels, groups in order of their column.

    The strength is the probability of the object's own column; 1 for a hard clustering.

    Args:
        answer: A subject's.
        sample: The objects.
    """
    clustering = answer.clustering
    names = np.full(clustering.num_columns, -1)
    if answer.alignment is not None:
        names = answer.alignment.copy()
        names = np.maximum(names, 0) if sample.has_field else np.where(names >= 0, names + 1, -1)
    elif sample.astrometry is not None:
        groups, _ = find_groups(clustering, sample.astrometry)
        names[:] = 0
        names[groups] = np.arange(1, len(groups) + 1)
    else:
        names = np.arange(1, clustering.num_columns + 1)
    strength = np.ones(len(clustering.assignment))
    if clustering.probability is not None:
        rows = clustering.assignment[:, None]
        strength = np.take_along_axis(clustering.probability, rows, 1)[:, 0]
    return names[clustering.assignment], strength


def latent_figures(latent: Array, panels: Panels, max_tsne: int) -> dict[str, Figure]:
    """Return the latent space by PCA (all objects) and by t-SNE (a subsample)."""
    latent = latent.astype(np.float64)
    if latent.shape[1] < 2:
        latent = np.pad(latent, ((0, 0), (0, 2 - latent.shape[1])))
    pca = PCA(2).fit(latent)
    shares = pca.explained_variance_ratio_ * 100
    names = [f"principal component {i + 1} ({share:.0f} %)" for i, share in enumerate(shares)]
    rows = subsample(len(latent), max_tsne, seed=0)
    tsne = TSNE(2, init="pca", perplexity=min(30.0, (len(rows) - 1) / 3), random_state=0)
    some = {title: (classes[rows], strength[rows]) for title, (classes, strength) in panels.items()}
    axes = [f"t-SNE {i} ({len(rows)} of {len(latent)} objects)" for i in (1, 2)]
    return {
        "latent_pca": latent_figure(pca.transform(latent), panels, names),
        "latent_tsne": latent_figure(tsne.fit_transform(latent[rows]), some, axes),
    }


def probability_figures(
    sample: StarSample,
    subset: Subset,
    answers: Sequence[AlignedClustering],
    colours: Mapping[str, str],
) -> dict[str, Figure]:
    """Return the reliability diagram and, for stars, the threshold curves of a subset.

    Args:
        sample: With labels.
        subset: Which objects are shown.
        answers: The subjects'; those without probabilities are left out.
        colours: Of the subjects.
    """
    assert sample.label is not None
    rows = subset.scored & (sample.label >= 0)
    soft: dict[str, tuple[Array, Array]] = {}
    for answer in answers:
        if answer.alignment is not None and answer.clustering.probability is not None:
            clustering = answer.clustering.take(rows)
            curve = event(clustering, sample.label[rows], answer.alignment, sample.has_field)
            soft[answer.subject] = curve
    if not soft:
        return {}
    what = "membership" if sample.has_field else "most likely class"
    title = f"reliability of {what} ({subset.split.replace('_', ' ')})"
    figures = {"reliability": reliability_figure(soft, title, colours)}
    if sample.has_field:
        figures["thresholds"] = threshold_figure(soft, colours)
    return figures
