"""The figures of the clustering report: charts, latent space, reliability, thresholds, scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from callbacks.clustering.alignment import Clustering, StarSample, Subset, event
from callbacks.clustering.physics import find_groups
from callbacks.clustering.scores import rates
from callbacks.report.base import TestRun
from callbacks.report.bootstrap import subsample
from callbacks.report.figures import FIELD_COLOUR, class_colours, new_figure
from callbacks.report.plots import GREY, diagonal, reliability, side_by_side, subject_colours
from callbacks.report.scope import NUM_BINS
from callbacks.report.table import Report

Array = NDArray[Any]
# Title to (class of each object, how sure in 0..1); class 0 is drawn in the field's colour.
Panels = Mapping[str, tuple[Array, Array]]
Curves = dict[str, tuple[Array, Array]]  # subject to (probability, outcome)


def clustering_figures(
    run: TestRun,
    sample: StarSample,
    subsets: Sequence[Subset],
    answers: Mapping[str, Sequence[Clustering]],
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


def colourings(sample: StarSample, answers: Sequence[Clustering]) -> Panels:
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


def classes_of(answer: Clustering, sample: StarSample) -> tuple[Array, Array]:
    """Return class and strength of each object; without labels, groups in order of their column.

    Args:
        answer: A subject's.
        sample: The objects.
    """
    if answer.alignment is not None:
        left_over, shift = (0, 0) if sample.has_field else (-1, 1)
        names = np.where(answer.alignment >= 0, answer.alignment + shift, left_over)
    elif sample.astrometry is not None:
        groups, _ = find_groups(answer, sample.astrometry)
        names = np.zeros(answer.num_columns, dtype=np.int64)
        names[groups] = np.arange(1, len(groups) + 1)
    else:
        names = np.arange(1, answer.num_columns + 1)
    return names[answer.assignment], answer.strength


def star_figures(sample: StarSample, panels: Panels) -> dict[str, Figure]:
    """Return sky, proper-motion and (with photometry) colour-magnitude diagrams.

    East is to the left and bright stars are on top.

    Args:
        sample: The stars.
        panels: What they are coloured by, one panel each.
    """
    assert sample.astrometry is not None
    place, motion = sample.astrometry[:, :2], sample.astrometry[:, 3:]
    small = np.percentile(np.linalg.norm(np.nan_to_num(place), axis=1), 99) < 1.0
    scale, unit = (60.0, "arcmin") if small else (1.0, "deg")
    sky = f"x, east of the centre [{unit}]", f"y, north of the centre [{unit}]"
    speed = r"proper motion $\mu_{}$ ({}) [mas yr$^{{-1}}$]".format
    moving = speed("x", "east"), speed("y", "north")
    charts: dict[str, tuple[Array, Sequence[str], float, dict[str, str]]] = {
        "sky": (place * scale, sky, 0.0, {"flipped": "x", "aspect": "equal"}),
        "proper_motion": (motion, moving, 1.0, {"aspect": "equal"}),
    }
    if sample.magnitude is not None and sample.colour is not None:
        diagram = np.stack([sample.colour, sample.magnitude], 1)
        bands = "$G_{BP} - G_{RP}$ [mag]", "$G$ [mag]"
        charts["colour_magnitude"] = (diagram, bands, 0.1, {"flipped": "y"})
    return {
        name: _scatter(points, panels, axes, trim, **settings)
        for name, (points, axes, trim, settings) in charts.items()
        if np.isfinite(points).all(1).any()
    }


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
        "latent_pca": _scatter(pca.transform(latent), panels, names, 0.1),
        "latent_tsne": _scatter(tsne.fit_transform(latent[rows]), some, axes, 0.1),
    }


def probability_figures(
    sample: StarSample,
    subset: Subset,
    answers: Sequence[Clustering],
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
    soft: Curves = {}
    for answer in answers:
        if answer.alignment is not None and answer.probability is not None:
            found = answer.take(rows), sample.label[rows], answer.alignment
            soft[answer.subject] = event(*found, sample.has_field)
    if not soft:
        return {}
    what = "membership" if sample.has_field else "most likely class"
    title = f"reliability of {what} ({subset.split.replace('_', ' ')})"
    figures = {"reliability": reliability_figure(soft, title, colours)}
    if sample.has_field:
        figures["thresholds"] = threshold_figure(soft, colours)
    return figures


def reliability_figure(curves: Curves, title: str, colours: Mapping[str, str]) -> Figure:
    """Return a reliability diagram over a histogram of the probabilities.

    Args:
        curves: Subject to probability and outcome, shape (n,) each.
        title: What the event is.
        colours: Of the subjects.
    """
    figure, (top, bottom) = new_figure(2, 1, panel=(5.2, 3.1), heights=(3, 1))
    diagonal(top, "calibrated")
    bins = np.linspace(0, 1, NUM_BINS + 1).tolist()
    for subject, (p, y) in curves.items():
        colour = colours[subject]
        reliability(top, p, y, colour, subject)
        bottom.hist(p, bins, histtype="step", linewidth=1.6, color=colour)
    top.set(ylabel="true frequency", title=title)
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    bottom.set(xlabel="stated probability", ylabel="objects", xlim=(-0.02, 1.02), yscale="log")
    return figure


def threshold_figure(curves: Curves, colours: Mapping[str, str]) -> Figure:
    """Return completeness and contamination against the membership threshold.

    Args:
        curves: Subject to membership probability and whether the star is a member.
        colours: Of the subjects.
    """
    figure, axes = new_figure(1, 2)
    thresholds = np.linspace(0.01, 0.99, 99)
    for subject, (p, y) in curves.items():
        for panel, values in zip(axes, rates(p, y, thresholds), strict=True):
            panel.plot(thresholds, values, color=colours[subject], label=subject)
    for panel, name in zip(axes, ("completeness", "contamination"), strict=True):
        panel.set(xlabel="threshold on the membership probability", title=name)
        panel.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axes[0].set_ylabel("share of true members selected")
    axes[1].set_ylabel("share of field stars among selected")
    axes[1].legend(loc="upper right")
    return figure


def score_figure(report: Report, metrics: Sequence[str], splits: Sequence[str]) -> Figure:
    """Return scores of all subjects side by side, one panel a split.

    Args:
        report: Where the numbers are.
        metrics: Metrics to show.
        splits: Splits to show.
    """
    figure, axes = new_figure(1, len(splits), panel=(4.4, 3.4))
    places = {metric: float(place) for place, metric in enumerate(metrics)}
    colours = subject_colours(report)
    for panel, split in zip(axes, splits, strict=True):
        rows = [row for row in report.rows if row.slice == f"split={split}"]
        side_by_side(panel, rows, places, colours, by="metric", width=0.52, fmt="o")
        panel.set_xticks(range(len(metrics)), list(metrics))
        panel.set(title=f"split: {split.replace('_', ' ')}", xlim=(-0.5, len(metrics) - 0.5))
        panel.set_ylim(min(-0.05, panel.get_ylim()[0]), 1.05)
        panel.axhline(0, color=GREY, linewidth=0.8)
    axes[0].set_ylabel("score (1 is perfect)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _scatter(
    points: Array,
    panels: Panels,
    names: Sequence[str],
    trim: float,
    flipped: str = "",
    **settings: Any,
) -> Figure:
    """Return one scatter chart for each colouring, on the same axes.

    Args:
        points: Shape (n, 2).
        panels: What the objects are coloured by.
        names: Labels of the axes.
        trim: Percent of the objects left out of view at each end (all are in the numbers).
        flipped: `x` or `y`, the axis that points the other way.
        settings: Of the panels.
    """
    figure, axes = new_figure(1, len(panels), panel=(4.6, 4.2))
    shown = np.isfinite(points).all(1)
    low, high = np.percentile(points[shown], [trim, 100 - trim], axis=0)
    margin = np.where(high > low, 0.04 * (high - low), 1.0)
    (left, bottom), (right, top) = low - margin, high + margin
    size = float(np.clip(20000 / max(shown.sum(), 1), 1.5, 16))
    for panel, (title, (classes, strength)) in zip(axes, panels.items(), strict=True):
        order = np.flatnonzero(shown)
        order = order[np.argsort(np.where(classes > 0, strength, -1)[order], kind="stable")]
        colours = blend(classes, strength)[order]
        x, y = points[order].T
        panel.scatter(x, y, s=size, c=colours, linewidths=0, rasterized=True)
        panel.set(title=title, xlabel=names[0], xlim=(left, right), ylim=(bottom, top))
        panel.set(**settings)
        panel.xaxis.set_inverted(flipped == "x")
        panel.yaxis.set_inverted(flipped == "y")
        entries = [_legend_entry(classes, k) for k in np.unique(classes[shown])]
        where: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14)}
        panel.legend(handles=entries, ncols=min(3, len(entries)), handletextpad=0.1, **where)
    axes[0].set_ylabel(names[1])
    return figure


def blend(classes: Array, strength: Array) -> Array:
    """Return colours from the field's grey (strength 0) to the class's own (1), shape (n, 3)."""
    hues = np.array([to_rgb(colour) for colour in _palette(classes)])
    weight = np.clip(strength, 0, 1)[:, None]
    return (1 - weight) * hues[0] + weight * hues[np.maximum(classes, 0)]


def _palette(classes: Array) -> list[str]:
    """Return the colours of the field and of the classes."""
    return [FIELD_COLOUR, *class_colours(max(1, int(classes.max(initial=0))))]


def _legend_entry(classes: Array, which: int) -> Line2D:
    """Return a legend entry with the number of objects of one class."""
    name = {-1: "unknown", 0: "field"}.get(int(which), f"cluster {which}")
    label, colour = f"{name} ({(classes == which).sum()})", _palette(classes)[max(0, which)]
    return Line2D([], [], linestyle="", marker="o", markersize=6, color=colour, label=label)
