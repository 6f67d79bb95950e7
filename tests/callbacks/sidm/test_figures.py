from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from callbacks.report.figures import new_figure
from callbacks.report.table import Report
from callbacks.sidm.coordinate import Coordinate
from callbacks.sidm.figures.latent import component_figure, draw_contour, path_figure
from callbacks.sidm.figures.look import colours, cross_section_axis, label_of, shown
from callbacks.sidm.figures.maps import ring_radii
from callbacks.sidm.figures.network import STEPS, saliency, traversed
from callbacks.sidm.figures.posteriors import (
    coverage_figure,
    posterior_figure,
    survey_figure,
    width_of_endless,
)
from callbacks.sidm.subjects import Measured, Populations
from tests.callbacks.sidm.toy import KNOWN, curved, draw, known

HIDDEN = {f"hidden_{k}": x for k, x in enumerate((0.8, 0.02, 0.05, 0.15, 0.2, 0.4, 0.6))}
COLOUR = {"model": "#0072b2"}


@pytest.fixture(scope="module")
def measured() -> Measured:
    hidden = [draw(name, x, 100, 3, curved) for name, x in HIDDEN.items()]
    foreign = [draw(name, 0.1, 100, 4, curved) for name in ("dark", "noise")]
    foreign[1].latent[..., 1] += 8.0
    calibration = [draw(f"c{k}", x, 100, 5, curved) for k, x in enumerate((0.03, 0.1, 0.3, 0.7))]
    parts = Populations(known(path=curved), [*hidden, *foreign], calibration, list(HIDDEN))
    return Measured("model", parts)


def test_shown_populations_are_foreign_ones_and_hidden_ones_over_the_whole_range(
    measured: Measured,
) -> None:
    assert [one.name for one in shown(measured, 9)][-2:] == ["dark", "noise"]
    medians = [measured.posteriors[one.name].median for one in shown(measured, 9)[:-2]]
    assert medians == sorted(medians)
    names = [one.name for one in shown(measured, 5)]
    assert names[-2:] == ["dark", "noise"]
    assert {names[0], names[2]} == {"hidden_1", "hidden_0"}  # the least and the largest
    assert len(shown(measured, 3)) == 3


def test_every_population_has_a_colour_of_its_own(measured: Measured) -> None:
    found = colours(measured, 6)
    assert set(found) >= {*KNOWN, "dark", "noise"}
    assert len(set(found.values())) == len(found) == 10


def test_labels_say_what_is_foreign_and_what_unknown(measured: Measured) -> None:
    parts = measured.populations
    assert label_of(parts.known[0], measured) == "cdm"
    assert label_of(parts.measured[-1], measured) == "noise (foreign)"
    unknown = replace(parts.measured[1], cross_section=float("nan"))
    assert label_of(unknown, measured) == "hidden_1*"


@pytest.mark.parametrize("largest", [0.48, 1.6, 16.0, 100.0])
def test_ticks_stand_where_their_values_are_and_apart(largest: float) -> None:
    _, (panel,) = new_figure()
    coordinate = Coordinate(largest)
    cross_section_axis(panel, coordinate, "y")
    places = panel.get_yticks()
    texts = [text.get_text() for text in panel.get_yticklabels()]
    np.testing.assert_allclose(coordinate.inverse(places), [float(x) for x in texts], atol=1e-9)
    assert np.diff(places).min() > 0.07 * coordinate.grid[-1]
    assert texts[0] == "0"
    assert len(texts) >= 3


def test_bars_of_posteriors_are_the_intervals(measured: Measured) -> None:
    panel = posterior_figure([measured], COLOUR).axes[0]
    coordinate = measured.model.coordinate
    drawn = [tuple(line.get_xdata()) for line in panel.lines if line.get_linewidth() == 2.2]
    wanted = [measured.intervals[one.name][0.68] for one in shown(measured, 10)]
    np.testing.assert_allclose(coordinate.inverse(np.array(drawn)), wanted)
    truths = [line for line in panel.lines if line.get_color() == "black"]
    found = coordinate.inverse([line.get_xdata()[0] for line in truths])
    np.testing.assert_allclose(found, [one.cross_section for one in shown(measured, 10)])


def test_coverage_is_drawn_as_it_is_counted(measured: Measured) -> None:
    figure = coverage_figure([measured], COLOUR)
    assert figure is not None
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    level = int(np.argmin(np.abs(lines["model"].get_xdata() - 0.9)))
    held = [
        low <= HIDDEN[name] <= high
        for name in HIDDEN
        for low, high in [measured.posteriors[name].interval(0.9, measured.calibration.factor(0.9))]
    ]
    assert lines["model"].get_ydata()[level] == np.mean(held)
    plain = np.asarray(lines["model, uncalibrated"].get_ydata())
    assert (np.diff(plain) >= 0).all()
    few = Measured("model", Populations(known(), measured.populations.measured[:4], [], ["x"]))
    assert coverage_figure([few], COLOUR) is None


def test_the_guide_of_a_survey_falls_with_the_root(measured: Measured) -> None:
    report = Report("sidm")
    assert survey_figure([measured], report) is None
    for size, width in ((25, 0.4), (100, 0.3)):
        report.add("model", "interval_width", width, f"num_maps={size}", 0.01)
    figure = survey_figure([measured], report)
    assert figure is not None
    guide = next(x for x in figure.axes[0].lines if "N^" in str(x.get_label()))
    np.testing.assert_allclose(guide.get_ydata(), [0.4, 0.2])


def hollow(figure: Figure) -> list[bool]:
    """Whether each mark of the first panel is hollow."""
    marks = [line for line in figure.axes[0].lines if line.get_marker() in ("o", "D")]
    return [same_color(line.get_markerfacecolor(), "white") for line in marks]


def test_populations_beyond_the_path_are_hollow(measured: Measured) -> None:
    names = [*KNOWN, *(one.name for one in shown(measured))]
    found = dict(zip(names, hollow(path_figure(measured, colours(measured))), strict=True))
    assert [name for name, is_hollow in found.items() if is_hollow] == ["noise"]


def test_two_known_simulations_have_one_discriminant() -> None:
    parts = Populations(known()[::3], [draw("x", 0.3, 50, 1)], [], ["x"])
    one = Measured("model", parts)
    figure = path_figure(one, colours(one))
    assert len(figure.axes) == 1
    assert figure.axes[0].get_ylabel() == "discriminant 1"


def test_a_contour_holds_its_share() -> None:
    points = np.random.default_rng(0).normal(size=(20_000, 2))
    _, (panel,) = new_figure()
    draw_contour(panel, points, [(-5, 5), (-5, 5)], "black", "-")
    paths = panel.collections[0].get_paths()
    inside = np.any([path.contains_points(points) for path in paths], axis=0)
    assert inside.mean() == pytest.approx(0.68, abs=0.03)


def test_no_contour_where_most_maps_are_beyond_the_limits() -> None:
    points = np.random.default_rng(0).normal(10, 1, (100, 2))
    _, (panel,) = new_figure()
    draw_contour(panel, points, [(-5, 9), (-5, 9)], "black", "-")
    assert not panel.collections


def test_components_are_of_the_known_maps(measured: Measured) -> None:
    figure = component_figure(measured, colours(measured))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:4] == list(KNOWN)
    assert "noise (foreign)" in texts
    assert figure.axes[0].get_xlim()[0] > -8  # not out to the noise
    assert len(figure.axes) == 2


class LogSum(torch.nn.Module):
    """Latents ln Σ x over good pixels, and twice that."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def encode(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        x = torch.where(batch["good"][:, None], batch["map"], 0.0)
        total = self.weight * x.sum((1, 2, 3)).log()
        return torch.stack([total, 2 * total], 1)


@pytest.mark.parametrize("training", [True, False])
def test_saliency_is_the_share_of_each_pixel_and_leaves_the_model_alone(training: bool) -> None:
    rng = np.random.default_rng(0)
    maps, good = rng.uniform(1, 2, (3, 2, 4, 4)).astype(np.float32), rng.random((3, 4, 4)) > 0.3
    module = LogSum().train(training)
    with torch.inference_mode():  # as in Lightning's test
        found = saliency(module, maps, good)
    used = maps * good[:, None]
    share = used / used.sum((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(found[:, 0], share, rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], 2 * share, rtol=1e-5)
    assert module.training is training
    assert module.weight.grad is None


def test_traversals_go_along_the_path_and_each_latent(measured: Measured) -> None:
    findings: Any = SimpleNamespace(model=measured)
    values, points = traversed(findings)
    means = [one.latent[:, 0].mean(0) for one in measured.model.known]
    assert values[[0, -1]].tolist() == pytest.approx([0.0, 1.0])
    np.testing.assert_allclose(points[0][[0, -1]], [means[0], means[-1]])
    whole = np.concatenate([one.latent[:, 0] for one in measured.model.known])
    assert points.shape == (4, len(STEPS), 3)
    for k in range(3):
        moved = points[1 + k] - whole.mean(0)
        np.testing.assert_allclose(moved[:, k], np.array(STEPS) * whole.std(0)[k])
        assert not np.delete(moved, k, axis=1).any()


def test_rings_of_profiles_go_out_to_the_edge() -> None:
    radii = ring_radii(81, 81)
    assert radii[0] == 0.5
    assert (np.diff(radii) > 0).all()
    assert 30 < radii[-1] < 40.5


def test_endless_maps_are_no_worse_than_few_and_no_better_than_the_path(measured: Measured) -> None:
    floor = width_of_endless(measured)
    assert 0 < floor < np.median(measured.widths(25, list(HIDDEN)))
    hidden = [draw(name, x, 6400, 3, curved) for name, x in HIDDEN.items()]
    parts = measured.populations
    many = Measured("model", Populations(parts.known, hidden, parts.calibration, list(HIDDEN)))
    widths = np.median(many.widths(6400, list(HIDDEN)))
    assert floor == pytest.approx(widths, rel=0.25)
