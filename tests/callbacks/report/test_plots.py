import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from callbacks.report.figures import COLOURS, new_figure
from callbacks.report.plots import (
    GREY,
    confusion,
    diagonal,
    logarithmic,
    reliability,
    roc_and_precision,
    side_by_side,
    subject_colours,
)
from callbacks.report.table import Report, Row


@pytest.fixture
def panel() -> Axes:
    return new_figure()[1][0]


def report_of(*subjects: str) -> Report:
    report = Report("clustering", "all", 10)
    for subject in subjects:
        for metric in ("ari", "nmi"):
            report.add(subject, metric, 0.5)
    return report


def test_subjects_differ_and_the_model_is_blue() -> None:
    others = [f"baseline/{number}" for number in range(6)]
    colours = subject_colours(report_of(*others[:2], "model", *others[2:], "signal"))
    assert colours["model"] == COLOURS[0]
    assert colours["signal"] == GREY
    assert len(set(colours.values())) == len(colours) == 8


def test_many_subjects_all_get_a_colour() -> None:
    names = [f"baseline/{number}" for number in range(20)]
    colours = subject_colours(report_of(*names))
    assert list(colours) == names
    assert {COLOURS[0], GREY}.isdisjoint(colours.values())


def test_side_by_side_draws_the_values_given(panel: Axes) -> None:
    rows = [
        Row("model", "auc", "fraction=0.50", 0.7, 0.1),
        Row("baseline/a", "auc", "fraction=0.50", 0.6),
        Row("model", "auc", "fraction=1.00", 0.9, 0.05),
        Row("model", "auc", "fraction=0.25", 0.1, 0.05),  # has no place
    ]
    colours = {"baseline/a": COLOURS[2], "model": COLOURS[0]}
    places = {"fraction=0.50": 0.5, "fraction=1.00": 1.0}
    side_by_side(panel, rows, places, colours, width=0.2)
    model, baseline = panel.containers
    points, _, (bars,) = model
    np.testing.assert_allclose(points.get_xydata(), [[0.4, 0.7], [0.9, 0.9]])
    np.testing.assert_allclose(
        bars.get_segments(), [[[0.4, 0.6], [0.4, 0.8]], [[0.9, 0.85], [0.9, 0.95]]]
    )
    assert to_rgb(points.get_color()) == to_rgb(COLOURS[0])
    np.testing.assert_allclose(baseline[0].get_xydata(), [[0.6, 0.6]])
    assert to_rgb(baseline[0].get_color()) == to_rgb(COLOURS[2])
    assert [c.get_label() for c in panel.containers] == ["model", "baseline/a"]


def test_side_by_side_of_one_subject_is_not_moved(panel: Axes) -> None:
    rows = [Row("model", name, "split=all", value) for name, value in (("ari", 0.2), ("nmi", 0.4))]
    places = {"nmi": 0, "ari": 1}
    side_by_side(panel, rows, places, {"model": COLOURS[0]}, by="metric", width=0.5)
    ((points, *_),) = panel.containers
    np.testing.assert_allclose(points.get_xydata(), [[1, 0.2], [0, 0.4]])


def test_confusion_is_in_shares_of_the_true_class(panel: Axes) -> None:
    true = np.repeat([0, 1], [10, 4])
    predicted = np.repeat([0, 1, 1], [8, 2, 4])
    confusion(panel, predicted, true, ["star", "galaxy", "absent"])
    (image,) = panel.images
    np.testing.assert_allclose(image.get_array(), [[0.8, 0.2, 0], [0, 1, 0], [0, 0, 0]])
    assert (image.get_clim(), panel.get_xlabel()) == ((0, 1), "predicted")
    texts = {text.get_position(): text.get_text() for text in panel.texts}
    assert texts[1, 0] == "20.0%\n2"  # x is the class predicted
    assert texts[0, 1] == "0.0%\n0"
    names = ["star", "galaxy", "absent"]
    assert [label.get_text() for label in panel.get_xticklabels()] == names
    assert [label.get_text() for label in panel.get_yticklabels()] == names


def test_logarithmic_axes_have_plain_numbers(panel: Axes) -> None:
    panel.set_xlim(0.7, 2.0)
    logarithmic(panel, "x")
    panel.figure.draw_without_rendering()  # type: ignore[union-attr]
    labels = [text.get_text() for text in panel.get_xticklabels(which="both")]
    assert {"1", "2"} <= set(labels)
    assert panel.get_xscale() == "log"
    assert panel.get_yscale() == "linear"


def test_reliability_is_frequency_against_probability(panel: Axes) -> None:
    p = np.repeat([0.2, 0.9], [100, 50])
    y = np.repeat([True, False, True, False], [30, 70, 40, 10])
    diagonal(panel, "calibrated")
    reliability(panel, p, y, COLOURS[1], "model")
    assert panel.get_lines()[0].get_xydata().tolist() == [[0, 0], [1, 1]]
    ((points, _, (bars,)),) = panel.containers
    np.testing.assert_allclose(points.get_xydata(), [[0.2, 0.3], [0.9, 0.8]])
    half = np.diff([segment[:, 1] for segment in bars.get_segments()])[:, 0] / 2
    np.testing.assert_allclose(half, [(0.3 * 0.7 / 100) ** 0.5, (0.8 * 0.2 / 50) ** 0.5])
    assert panel.get_xlim() == panel.get_ylim() == (-0.02, 1.02)


def test_curves_of_a_ranking() -> None:
    _, (roc, precision) = new_figure(1, 2)
    p, y = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    roc_and_precision(roc, precision, {"model": (p, y)}, [COLOURS[0]])
    chance, curve = roc.get_lines()
    assert chance.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert curve.get_xydata().tolist() == [[0, 0], [0, 0.5], [0.5, 0.5], [0.5, 1], [1, 1]]
    (line,) = precision.get_lines()
    np.testing.assert_allclose(line.get_xydata(), [[0.5, 1], [0.5, 0.5], [1, 2 / 3], [1, 0.5]])
