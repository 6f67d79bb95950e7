import re
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lightning_modules.cli.shipped_configs import config_folder, list_configs, list_spaces
from lightning_modules.cli.sweep.command import check
from lightning_modules.cli.sweep.space import corners, grid, label_of, read_space, words_of


def space_of(text: str) -> str:
    Path("space.yaml").write_text(text)
    return "space.yaml"


def test_lists_are_choices_and_ranges_are_ranges() -> None:
    path = space_of(
        "# Four options\n"
        "space:\n"
        '  model.hidden_dims: ["[8]", "[64, 32]"]\n'
        "  model.lr: {low: 1e-4, high: 1e-2, log: true}\n"
        "  data.batch_size: {low: 16, high: 64, step: 16}\n"
        "  model.batch_norm: [true, false, null]\n"
    )
    assert read_space(path) == {
        "model.hidden_dims": CategoricalDistribution(["[8]", "[64, 32]"]),
        "model.lr": FloatDistribution(1e-4, 1e-2, log=True),
        "data.batch_size": IntDistribution(16, 64, step=16),
        "model.batch_norm": CategoricalDistribution([True, False, None]),
    }


def test_grid_has_every_point_once() -> None:
    path = space_of("space: {a: [x, y], b: {low: 1, high: 3}, c: {low: 0.0, high: 0.3, step: 0.1}}")
    points = list(grid(read_space(path)))
    assert len(points) == len({tuple(point.items()) for point in points}) == 2 * 3 * 4
    assert points[0] == {"a": "x", "b": 1, "c": 0.0}
    assert [type(value) for value in points[0].values()] == [str, int, float]


def test_points_are_words_that_yaml_reads_back() -> None:
    point = {"model.hidden_dims": "[64, 32]", "model.lr": 1e-05, "data.n": 3, "b": True, "c": None}
    assert words_of(point) == [
        "--model.hidden_dims=[64, 32]", "--model.lr=1.0e-05", "--data.n=3", "--b=true", "--c=null",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model: {lr: 1}", "has the one key `space`"),
        ("space: [1, 2]", "has the one key `space`"),
        ("space: {}", "has the one key `space`"),
        ("space: {a: [1]}\nmodel: {}", "has the one key `space`"),
        ("space: {a: [", "no YAML"),
        ("space: {a: []}", "a: an empty list"),
        ("space: {a: 3}", "a: give a list of choices, or low and high"),
        ("space: {a: {low: 1}}", "a: give a list of choices, or low and high"),
        ("space: {a: {low: 1, high: 2, sep: 3}}", "a: give a list of choices, or low and high"),
        ("space: {a: {low: 1, high: many}}", "a: low=1, high=many and step=None must be numbers"),
        ("space: {a: {low: 2.0, high: 1.0}}", "a: .*low"),
        ("space: {a: {low: 0.0, high: 1.0, log: true}}", "a: .*log"),
        ("space: {a: [[64, 32]]}", "JSON strings in a space"),
        ("space: {steps: [{a: 1}]}", "steps: give each step a name and its options"),
        ("space: {steps: {}}", "steps: give each step a name and its options"),
        ("space: {steps: {first: 3}}", "steps: give each step a name and its options"),
        ("space: {steps: {first: {}}}", "steps: give each step a name and its options"),
        ("space: {steps: {x: {b: 1}, y: {a: 1}}, a: [1]}", "step 'y' sets a, of which the space"),
    ],
)
def test_mistakes_name_the_option(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"space\.yaml: .*" + sentence):
        read_space(space_of(text))


def test_a_grid_needs_steps() -> None:
    with pytest.raises(ValueError, match=r"model\.lr is a range without steps"):
        list(grid(read_space(space_of("space: {model.lr: {low: 0.1, high: 0.2}}"))))


def test_steps_change_options_together_in_their_order() -> None:
    path = space_of(
        "space:\n"
        "  steps:\n"
        "    two: {data.known: [cdm, '1'], model.num_classes: 2}\n"
        "    add 0.1: {data.known: [cdm, '1', sidm_0.1], model.num_classes: 3, model.lr: null}\n"
        "  seed_everything: [0, 1]\n"
    )
    points = list(grid(read_space(path)))
    assert [(label_of("steps", x["steps"]), x["seed_everything"]) for x in points] == [
        ("two", 0), ("two", 1), ("add 0.1", 0), ("add 0.1", 1),
    ]  # fmt: skip
    assert words_of(points[3]) == [
        "--seed_everything=1", '--data.known=["cdm", "1", "sidm_0.1"]', "--model.num_classes=3",
        "--model.lr=null",
    ]  # fmt: skip
    named = [label_of(name, choice) for name, choice in corners(read_space(path))]
    assert named == ["two", "add 0.1", 0, 1]


def test_corners_are_all_choices_and_both_ends() -> None:
    path = space_of("space: {a: [x, null], b: {low: 1, high: 3}}")
    assert list(corners(read_space(path))) == [("a", "x"), ("a", None), ("b", 1), ("b", 3)]


def test_shipped_spaces_are_of_their_configurations() -> None:
    assert not list_spaces().keys() & list_configs().keys()
    assert len(list_spaces()) == 6
    for name, line in list_spaces().items():
        config = re.search(r"-c (\S+) --sweep\.space " + re.escape(name), line)
        assert config
        check(read_space(str(config_folder() / name)), ["-c", str(config_folder() / config[1])])
