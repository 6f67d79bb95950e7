from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from callbacks.clustering.drawings import blend
from callbacks.report.figures import (
    FIELD_COLOUR,
    class_colours,
    new_figure,
    save_figures,
    style,
    style_colour_magnitude,
    style_sky,
)


def test_axes_point_the_way_astronomers_draw_them() -> None:
    _, (sky, diagram) = new_figure(1, 2)
    for axes in (sky, diagram):
        axes.set(xlim=(-1, 1), ylim=(-1, 1))
    style_sky(sky, "arcmin")
    style_colour_magnitude(diagram)
    assert sky.xaxis.get_inverted()
    assert not sky.yaxis.get_inverted()
    assert diagram.yaxis.get_inverted()
    assert "[arcmin]" in sky.get_xlabel()
    assert "[mag]" in diagram.get_ylabel()


def test_saving_touches_no_global_state(stars: Any, tmp_path: Path) -> None:
    before = dict(pyplot.rcParams)
    with style():
        figure, (axes,) = new_figure()
        axes.plot([0, 1], [0, 1])
    trainer = stars.trainer(tmp_path)
    (path,) = save_figures(trainer, tmp_path, {"line": figure})
    assert path == tmp_path / "figures" / "line.png"
    assert imread(path)[..., :3].min() < 0.5
    assert [p.name for p in path.parent.iterdir()] == ["line.png"]
    assert pyplot.get_fignums() == []
    assert dict(pyplot.rcParams) == before


@pytest.mark.parametrize("count", [1, 7, 8, 30])
def test_class_colours_differ(count: int) -> None:
    colours = class_colours(count)
    assert len(colours) == count
    assert len(set(colours)) == count
    assert FIELD_COLOUR not in colours


def test_colours_fade_to_the_field_with_the_probability() -> None:
    colours = blend(np.array([1, 1, 1, 0, -1]), np.array([0.0, 0.5, 1.0, 1.0, 1.0]))
    grey, blue = np.array(to_rgb(FIELD_COLOUR)), np.array(to_rgb(class_colours(1)[0]))
    np.testing.assert_allclose(colours, [grey, (grey + blue) / 2, blue, grey, grey])
