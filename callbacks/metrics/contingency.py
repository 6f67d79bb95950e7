"""Scores of a clustering from its contingency table (numpy and scipy; no Lightning).

A table may carry leading batch axes, so that a bootstrap over objects, which is a multinomial draw
of the table's cells, is scored in one call.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import xlogy

Table = NDArray[np.int64]
Scores = NDArray[np.float64]


def contingency(
    target: NDArray[np.int64],
    assignment: NDArray[np.int64],
    num_classes: int | None = None,
    num_clusters: int | None = None,
) -> Table:
    """Count objects by class and cluster.

    Args:
        target: True classes 0..C-1, shape (n,); objects with a negative class are left out.
        assignment: Clusters 0..K-1, shape (n,).
        num_classes: C; the largest class plus one by default.
        num_clusters: K; the largest cluster plus one by default.

    Returns:
        Counts, shape (C, K).
    """
    known = target >= 0
    target, assignment = target[known], assignment[known]
    classes = num_classes or int(target.max(initial=0)) + 1
    clusters = num_clusters or int(assignment.max(initial=0)) + 1
    flat = np.bincount(target * clusters + assignment, minlength=classes * clusters)
    return flat.reshape(classes, clusters).astype(np.int64)


def adjusted_rand(table: Table) -> Scores:
    """Return the adjusted Rand index (Hubert & Arabie 1985): 1 for equal partitions, 0 by chance.

    Args:
        table: Counts, shape (..., C, K).
    """
    counts = np.asarray(table, np.float64)
    cells = _pairs(counts).sum((-2, -1))
    rows, columns = _pairs(counts.sum(-1)).sum(-1), _pairs(counts.sum(-2)).sum(-1)
    expected = rows * columns / np.maximum(_pairs(counts.sum((-2, -1))), 1.0)
    largest = 0.5 * (rows + columns)
    same = largest == expected  # both partitions trivial: all in one cluster, or all alone
    return np.where(same, 1.0, (cells - expected) / np.where(same, 1.0, largest - expected))


def normalized_mutual_information(table: Table) -> Scores:
    """Return the mutual information over the mean of the two entropies, in [0, 1].

    Args:
        table: Counts, shape (..., C, K).
    """
    counts = np.asarray(table, np.float64)
    joint = counts / np.maximum(counts.sum((-2, -1), keepdims=True), 1.0)
    of_classes = -xlogy(joint.sum(-1), joint.sum(-1)).sum(-1)
    of_clusters = -xlogy(joint.sum(-2), joint.sum(-2)).sum(-1)
    information = of_classes + of_clusters + xlogy(joint, joint).sum((-2, -1))
    mean = 0.5 * (of_classes + of_clusters)
    return np.where(mean > 0, np.clip(information / np.where(mean > 0, mean, 1.0), 0, 1), 1.0)


def align(table: Table | Scores) -> NDArray[np.int64]:
    """Return the class of each cluster, one to one, that gets most objects right (Hungarian).

    Args:
        table: Counts, or what else is to be summed, shape (C, K).

    Returns:
        Classes, shape (K,); -1 for the clusters left over if K > C.
    """
    classes, clusters = linear_sum_assignment(table, maximize=True)
    alignment = np.full(table.shape[1], -1, dtype=np.int64)
    alignment[clusters] = classes
    return alignment


def align_by_f1(table: Table, field_column: int | None = None) -> NDArray[np.int64]:
    """Return the class of each cluster where class 0 is a field, by the F1 of membership.

    Members are the objects of all other classes. Clusters count as members so that the F1 of
    member or not is largest; a cluster of which more than half are members always does, unless it
    is the field by construction. Each class takes one of these by its own F1, and those left over
    are classes that do not occur (C, C + 1, ...), for their objects are members, if of no known
    class. Of the other clusters that with most of the field is class 0.

    Args:
        table: Counts, shape (C, K); the first row is the field.
        field_column: The cluster that is class 0 whatever it holds; None if there is none, so that
            at least one of the others is.

    Returns:
        Classes, shape (K,): -1 for the further clusters of the field.
    """
    sizes, own = table.sum(0), table.sum(1)
    free = np.arange(len(sizes)) != field_column  # all, if that is None
    chosen = _members_by_f1(np.where(free, table[1:].sum(0), 0), sizes, own[1:].sum())
    score = 2 * table / np.maximum(sizes + own[:, None], 1)
    alignment = np.where(free, -1, 0)
    named = align(score[1:, chosen])
    left_over = (named < 0) | (score[1:, chosen][named, np.arange(len(named))] == 0)
    named[left_over] = len(own) - 1 + np.arange(left_over.sum())
    alignment[chosen] = named + 1
    others = free & ~chosen
    if others.any():
        alignment[np.argmax(np.where(others, table[0], -1))] = 0
    return alignment


def _members_by_f1(right: Table, sizes: Table, members: int) -> NDArray[np.bool_]:
    """Return which clusters, not all, maximise 2 Σ right / (members + Σ sizes) (Dinkelbach), (K,).

    Args:
        right: Members in each cluster that may be chosen, else 0, shape (K,).
        sizes: Objects in each cluster, shape (K,).
        members: In all clusters.
    """
    best, chosen = 0.0, np.zeros(len(sizes), dtype=bool)
    while True:
        gain = 2 * right - best * sizes
        rank = np.argsort(np.argsort(-gain, kind="stable"))
        trial = (gain > 0) & (rank < len(sizes) - 1)
        score = 2 * right[trial].sum() / max(members + sizes[trial].sum(), 1)
        if score <= best:
            return chosen
        best, chosen = score, trial


def accuracy(table: Table, alignment: NDArray[np.int64] | None = None) -> Scores:
    """Return the share of objects whose cluster is aligned with their class.

    Args:
        table: Counts, shape (..., C, K).
        alignment: Class of each cluster, shape (K,), -1 for none; by default that of `align`
            on this table (the usual Hungarian accuracy), which then has no leading axes.
    """
    alignment = align(table) if alignment is None else alignment
    clusters = np.flatnonzero(alignment >= 0)
    right = table[..., alignment[clusters], clusters].sum(-1)
    return right / np.maximum(table.sum((-2, -1)), 1)


def _pairs(counts: Scores) -> Scores:
    """Return the number of pairs among `counts` objects."""
    return counts * (counts - 1) / 2
