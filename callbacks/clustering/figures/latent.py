"""Figures of the latent space: principal components, t-SNE and, where it is installed, UMAP."""

from importlib.util import find_spec
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from callbacks.clustering.figures.charts import Panels, scatter
from callbacks.report.bootstrap import subsample

Array = NDArray[Any]


def latent_figures(latent: Array, panels: Panels, max_objects: int) -> dict[str, Figure]:
    """Return the latent space by PCA (all objects), by t-SNE and by UMAP (a subsample).

    Args:
        latent: Shape (n, d).
        panels: What the objects are coloured by.
        max_objects: Objects of the subsample at most.
    """
    latent = latent.astype(np.float64)
    if latent.shape[1] < 2:
        latent = np.pad(latent, ((0, 0), (0, 2 - latent.shape[1])))
    pca = PCA(2).fit(latent)
    shares = pca.explained_variance_ratio_ * 100
    names = [f"principal component {i + 1} ({share:.0f} %)" for i, share in enumerate(shares)]
    figures = {"latent_pca": scatter(pca.transform(latent), panels, names, 0.1)}
    rows = subsample(len(latent), max_objects, seed=0)
    some = [panel.take(rows) for panel in panels]
    for name, points in embeddings(latent[rows]).items():
        axes = [f"{name} {i} ({len(rows)} of {len(latent)} objects)" for i in (1, 2)]
        figures[f"latent_{name.replace('-', '').lower()}"] = scatter(points, some, axes, 0.1)
    return figures


def embeddings(latent: Array) -> dict[str, Array]:
    """Return the objects in the plane, shape (n, 2), by the name of the method.

    UMAP (McInnes, Healy & Melville 2018) is there if the extra `umap` is installed.

    Args:
        latent: Shape (n, d).
    """
    tsne = TSNE(2, init="pca", perplexity=min(30.0, (len(latent) - 1) / 3), random_state=0)
    found = {"t-SNE": tsne.fit_transform(latent)}
    if has_umap():
        from umap import UMAP  # two seconds, and ten more to compile

        neighbours = min(15, len(latent) - 1)
        umap = UMAP(n_neighbors=neighbours, init="pca", random_state=0, n_jobs=1)
        found["UMAP"] = umap.fit_transform(latent)
    return found


def has_umap() -> bool:
    """Return whether the extra `umap` is installed."""
    return find_spec("umap") is not None
