from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.image import imread

from callbacks.report.figures import (
    FIELD_COLOUR,
    class_colours,
    new_figure,
    save_figures,
    style,
)


def test_rows_have_the_heights_given() -> None:
    figure, axes = new_figure(2, 3, heights=(3, 1))
    figure.draw_without_rendering()
    height = [panel.get_position().height for panel in axes]
    np.testing.assert_allclose(height, np.repeat([3 * height[-1], height[-1]], 3))


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
