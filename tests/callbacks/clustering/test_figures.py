from typing import Any

import numpy as np
from matplotlib.colors import to_rgb

from callbacks.clustering.alignment import Clustering, StarSample
from callbacks.clustering.figures import blend, classes_of, star_figures
from callbacks.report.figures import FIELD_COLOUR, class_colours


def stars(scale: float = 1.0, **photometry: Any) -> StarSample:
    rng = np.random.default_rng(0)
    astrometry = scale * rng.normal(size=(50, 5))
    return StarSample(astrometry, astrometry, np.ones(50), **photometry)


def test_axes_point_the_way_astronomers_draw_them() -> None:
    sample = stars(0.01, magnitude=np.linspace(10, 20, 50), colour=np.linspace(0, 2, 50))
    panels = {"model": (np.arange(50) % 3, np.ones(50)), "labels": (np.zeros(50, int), np.ones(50))}
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
    assert list(star_figures(sample, {"labels": (np.zeros(50, int), np.ones(50))})) == [
        "proper_motion"
    ]


def test_columns_left_over_are_field_or_unknown() -> None:
    clustering = Clustering(np.array([0, 1, 2]), None, 3, alignment=np.array([1, -1, 0]))
    field, digits = stars(), StarSample(np.zeros((3, 2)))
    assert classes_of(clustering, field)[0].tolist() == [1, 0, 0]
    assert classes_of(clustering, digits)[0].tolist() == [2, -1, 1]


def test_colours_fade_to_the_field_with_the_probability() -> None:
    colours = blend(np.array([1, 1, 1, 0, -1]), np.array([0.0, 0.5, 1.0, 1.0, 1.0]))
    grey, blue = np.array(to_rgb(FIELD_COLOUR)), np.array(to_rgb(class_colours(1)[0]))
    np.testing.assert_allclose(colours, [grey, (grey + blue) / 2, blue, grey, grey])
