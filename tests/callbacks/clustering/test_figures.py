import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from callbacks.clustering.alignment import Clustering
from callbacks.clustering.figures.charts import (
    FIXED,
    Panel,
    blend,
    colour_numbers,
    colourings,
    star_figures,
)
from callbacks.clustering.figures.clusters import (
    SHARES,
    Drawn,
    cluster_figure,
    convolved_density,
    enclosing_levels,
    intrinsic_ellipse,
)
from callbacks.clustering.figures.latent import latent_figures
from callbacks.clustering.figures.profiles import profile_figure
from callbacks.clustering.sample import StarSample
from callbacks.clustering.structure import Cluster
from callbacks.report.figures import FIELD_COLOUR, class_colours


def stars(scale: float = 1.0, **photometry: Any) -> StarSample:
    rng = np.random.default_rng(0)
    astrometry = scale * rng.normal(size=(50, 5))
    return StarSample(astrometry, astrometry, np.ones(50), **photometry)


def test_axes_point_the_way_astronomers_draw_them() -> None:
    sample = stars(0.01, magnitude=np.linspace(10, 20, 50), colour=np.linspace(0, 2, 50))
    names = {0: "field", 1: "cluster 1", 2: "cluster 2"}
    panels = [
        Panel("model", np.arange(50) % 3, np.ones(50), names),
        Panel("labels", np.zeros(50, int), np.ones(50), FIXED),
    ]
    figures = star_figures(sample, panels)
    assert list(figures) == ["sky", "proper_motion", "colour_magnitude"]
    inverted = {name: (True, False) if name == "sky" else (False, False) for name in figures}
    inverted["colour_magnitude"] = (False, True)
    for name, figure in figures.items():
        assert [axes.get_title() for axes in figure.axes] == ["model", "labels"]
        for axes in figure.axes:
            assert (axes.xaxis.get_inverted(), axes.yaxis.get_inverted()) == inverted[name]
    sky = figures["sky"].axes[0]
    assert sky.get_xlabel() == "x, east of the centre [arcmin]"
    points = np.asarray(sky.collections[0].get_offsets())
    assert sorted(points[:, 1]) == sorted(60 * sample.astrometry[:, 1])  # type: ignore[index]
    assert "(north)" in figures["proper_motion"].axes[0].get_ylabel()
    assert "[mag]" in figures["colour_magnitude"].axes[0].get_ylabel()


def test_charts_of_what_is_absent_are_left_out() -> None:
    sample = stars(magnitude=np.full(50, np.nan), colour=np.zeros(50))
    assert sample.astrometry is not None
    sample.astrometry[:, 0] = np.nan
    panel = Panel("labels", np.zeros(50, int), np.ones(50), FIXED)
    assert list(star_figures(sample, [panel])) == ["proper_motion"]


def test_columns_left_over_are_field_or_unknown() -> None:
    clustering = Clustering(np.array([0, 1, 2]), None, 3, alignment=np.array([1, -1, 0]))
    field, digits = stars(), StarSample(np.zeros((3, 2)))
    assert colour_numbers(clustering, field).tolist() == [1, 0, 0]
    assert colour_numbers(clustering, digits).tolist() == [2, -1, 1]


def test_clusters_of_a_model_that_knows_the_field_keep_their_numbers_as_names() -> None:
    assignment, alignment = np.array([0, 1, 2, 3]), np.array([0, 2, -1, 1])
    answer = Clustering(assignment, None, 4, field_column=0, subject="model", alignment=alignment)
    sample = replace(stars(), label=np.array([0, 2, 0, 1]))
    model, labels = colourings(sample, [answer])
    assert model.colours.tolist() == [0, 2, 3, 1]  # the second has no class: a colour of its own
    assert [model.names[k] for k in model.colours] == [
        "field",
        "cluster 1",
        "cluster 2",
        "cluster 3",
    ]
    twin = replace(answer, subject="baseline/twin", field_column=None)
    titles = [panel.title for panel in colourings(sample, [answer, twin], {"baseline/twin"})]
    assert titles == ["model", "twin", "labels"]
    assert labels.names == {-1: "unknown", 0: "field", 1: "label 1", 2: "label 2"}


def test_colours_fade_to_the_field_with_the_probability() -> None:
    colours = blend(np.array([1, 1, 1, 0, -1]), np.array([0.0, 0.5, 1.0, 1.0, 1.0]))
    grey, blue = np.array(to_rgb(FIELD_COLOUR)), np.array(to_rgb(class_colours(1)[0]))
    np.testing.assert_allclose(colours, [grey, (grey + blue) / 2, blue, grey, grey])


@pytest.fixture(scope="module")
def drawn() -> tuple[Drawn, StarSample, np.ndarray]:
    """A round Plummer cluster of 400 stars with errors of 0.1 mas/yr, which rotates clockwise."""
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 2 * np.pi, 400), 0.05 * (rng.uniform(0, 1, 400) ** -1 - 1) ** 0.5
    unit = np.stack([np.sin(angle), np.cos(angle)], 1)  # position angle: east, north
    motion = 0.3 * unit[:, ::-1] * [1, -1] + 0.1 * rng.normal(size=(400, 2)) + [2.0, -3.0]
    place = radius[:, None] * unit + [0.1, 0.2]
    astrometry = np.column_stack([place, np.full(400, 0.5), motion])
    covariance = np.tile([0.01, 0.0, 0.01], (400, 1))
    photometry = {"magnitude": np.linspace(12, 20, 400), "colour": np.linspace(0.5, 2, 400)}
    sample = StarSample(astrometry, astrometry, np.ones(400), None, **photometry)
    known = {"nu": 2.0, "ellipticity": 0.0, "position_angle": 0.0}
    centre, mean = np.array([0.1, 0.2]), np.array([2.0, -3.0])
    cluster = Cluster(np.ones(400), centre, 0.05, mean, 0.3, **known)
    return Drawn(cluster, "cluster 1", 1), sample, covariance


def test_clusters_are_drawn_as_astronomers_do(drawn: Any) -> None:
    one, sample, covariance = drawn
    sky, motion, colours = cluster_figure([one], sample, covariance).axes
    assert sky.get_xlim()[0] > sky.get_xlim()[1]  # east to the left
    assert colours.get_ylim()[0] > colours.get_ylim()[1]  # bright on top
    ellipse = sky.lines[0].get_xydata()
    np.testing.assert_allclose(np.hypot(*np.asarray(ellipse).T), 3.0)  # arcminutes
    assert motion.get_xlim()[0] < 2.0 < motion.get_xlim()[1]


def test_profiles_show_the_rotation(drawn: Any) -> None:
    one, sample, covariance = drawn
    density, dispersion, rotation = profile_figure([one], sample, covariance).axes
    assert all(axis.get_xscale() == "log" for axis in (density, dispersion, rotation))
    tangential = np.asarray(rotation.containers[0].lines[0].get_ydata())
    np.testing.assert_allclose(tangential, 0.3, atol=0.06)
    assert "a = 3 arcmin" in density.get_legend_handles_labels()[1][1]


def test_contours_enclose_their_share_of_the_model(drawn: Any) -> None:
    one, sample, covariance = drawn
    steps = np.linspace(-2, 2, 201)
    total = covariance + one.cluster.motion_scatter(sample.astrometry[:, :2])
    density = convolved_density(total, steps)
    assert density.sum() * 0.02**2 == pytest.approx(1.0, abs=1e-6)
    for share, level in zip(SHARES, enclosing_levels(density, SHARES), strict=True):
        assert density[density >= level].sum() / density.sum() == pytest.approx(share, abs=0.01)
        sigma = (0.3**2 + 0.1**2) ** 0.5
        edge = np.exp(-0.5 * (-2 * np.log(1 - share))) / (2 * np.pi * sigma**2)
        assert level == pytest.approx(edge, rel=0.03)


def test_the_true_motions_are_an_ellipse_along_the_longest_scatter() -> None:
    matrix = np.array([[0.0, 0.0, 0.0], [0.0, 2.5, 1.5], [0.0, 1.5, 2.5]])  # deviations 2 and 1
    mean = np.array([2.0, -3.0])
    cluster = Cluster(np.ones(1), np.zeros(2), 0.1, mean, 0.3, scatter=lambda _: matrix[None])
    apart = intrinsic_ellipse(cluster) - mean
    length = np.hypot(*apart.T)
    assert (length.max(), length.min()) == pytest.approx((2.0, 1.0), abs=0.01)
    assert np.degrees(np.arctan2(*apart[length.argmax()])) % 180 == pytest.approx(45.0, abs=4.0)


def test_latent_space_by_umap_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    latent = np.random.default_rng(0).normal(size=(30, 3))
    panel = Panel("labels", np.zeros(30, int), np.ones(30), FIXED)
    assert list(latent_figures(latent, [panel], 20)) == ["latent_pca", "latent_tsne"]
    fake = ModuleType("umap")
    fake.__spec__ = ModuleSpec("umap", None)
    seen: dict[str, Any] = {}

    class UMAP:
        def __init__(self, **settings: Any) -> None:
            seen.update(settings)

        def fit_transform(self, x: np.ndarray) -> np.ndarray:
            return x[:, :2]

    fake.UMAP = UMAP  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", fake)
    figures = latent_figures(latent, [panel], 20)
    assert list(figures) == ["latent_pca", "latent_tsne", "latent_umap"]
    assert figures["latent_umap"].axes[0].get_xlabel() == "UMAP 1 (20 of 30 objects)"
    assert seen["n_neighbors"] == 15
    assert seen["random_state"] == 0
