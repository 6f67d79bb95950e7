"""One meaning of a benchmark's ratio: how many times better we are."""

import json
from typing import Any, Literal

import numpy as np
import pytest

from benchmarks import measure


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (text,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize(
    ("better", "ratio", "spread"), [("lower", 2.0, [1.0, 4.0]), ("higher", 0.5, [0.25, 1.0])]
)
def test_ratio_is_above_one_where_we_are_better(
    capsys: pytest.CaptureFixture[str],
    better: Literal["lower", "higher"],
    ratio: float,
    spread: list[float],
) -> None:
    measure.report("method/x", "s", [1.0, 2.0, 1.0], [2.0, 2.0, 4.0], "them", better)
    found = line(capsys)
    assert (found["ours"], found["peer"], found["ratio"]) == (1.0, 2.0, ratio)
    assert found["spread"] == spread
    assert found["against"] == "them"
    assert found["command"].startswith("python ")


def test_one_value_of_a_peer_serves_all_repetitions(capsys: pytest.CaptureFixture[str]) -> None:
    measure.report("method/x", "accuracy", [0.8, 0.9], [0.5], "published", "higher", seeds={"0": 1})
    found = line(capsys)
    assert found["spread"] == [1.6, 1.8]
    assert found["seeds"] == {"0": 1}
    measure.report("method/x", "GiB", [1.0], [2.0], "target")
    assert line(capsys)["spread"] is None


def test_works_take_turns_and_the_first_turn_does_not_count() -> None:
    calls = []

    def work(name: str, turn: int) -> float:
        calls.append((turn, name))
        return float(turn)

    values = measure.alternate(
        lambda turn: work("a", turn), lambda turn: work("b", turn), repetitions=2
    )
    assert calls == [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert values == [[1.0, 2.0], [1.0, 2.0]]


def test_what_is_left_out_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure.sys, "argv", ["benchmarks/lensing_real.py"])
    measure.left_out("a trained run")
    found = line(capsys)
    assert (found["name"], found["left_out"]) == ("lensing_real", "needs a trained run")


def test_area_of_separated_scores_is_one_and_of_equal_ones_a_half() -> None:
    positive, negative = np.array([3.0, 4.0]), np.array([1.0, 2.0, 2.5])
    assert measure.auc(positive, negative, 20) == {"auc": 1.0, "low": 1.0, "high": 1.0}
    assert measure.auc(np.ones(3), np.ones(4), 20)["auc"] == 0.5
