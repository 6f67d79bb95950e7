from typing import Any

import numpy as np
import pytest
import torch
from astropy.table import Table

from callbacks.microlensing.baselines import PSPLFit
from callbacks.microlensing.events import (
    BINARY,
    FRACTIONS,
    THRESHOLDS,
    Predictions,
    reduce_batch,
    take_examples,
)
from callbacks.microlensing.report import MicrolensingReport
from callbacks.microlensing.scores import add_bins, add_ceiling, add_decisions, add_fractions
from callbacks.report.base import TestRun
from callbacks.report.bootstrap import Bootstrap

CLASSES = ["pspl", "binary"]


def values(run: TestRun) -> dict[str, float]:
    return {row.key: row.value for row in run.report.rows}


def answer(p: np.ndarray, label: np.ndarray, name: str = "model") -> Predictions:
    whole = np.repeat(p[:, None], len(FRACTIONS), axis=1)
    predicted = (whole >= 0.5).astype(int)
    return Predictions(name, np.arange(len(p)), label, whole, predicted, tells_classes=True)


class FakeData:
    """Parameters of the events, and scores that tell the classes apart, kept by index."""

    def __init__(self, label: np.ndarray | None = None, **parameters: np.ndarray) -> None:
        self.label = np.zeros(0) if label is None else label
        self.parameters = parameters
        self.asked: list[np.ndarray] = []

    def catalogue(self, index: np.ndarray) -> Table:
        return Table({name: values[index] for name, values in self.parameters.items()})

    def anomaly_scores(self, index: np.ndarray, cutoff: np.ndarray) -> np.ndarray:
        self.asked.append(index)
        assert np.array_equal(cutoff % 1000, index)
        return np.stack([100.0 * self.label[index], 10.0 * self.label[index]], 1)


def make_batch(num_epochs: int = 101) -> dict[str, torch.Tensor]:
    time = torch.arange(num_epochs, dtype=torch.float64).repeat(3, 1)
    good = torch.ones_like(time, dtype=torch.bool)
    return {
        "index": torch.tensor([5, 6, 7]),
        "label": torch.tensor([0, 1, 1]),
        "split": torch.tensor([2, 2, 0]),
        "flux": torch.ones_like(time).float(),
        "flux_error": torch.ones_like(time).float(),
        "time": time,
        "good": good,
    }


def test_predictions_are_those_of_the_last_kept_epoch_in_time() -> None:
    batch = make_batch()
    binary = (batch["time"] / 100).float()  # the probability is the fraction of the curve
    batch["good"][1, 20:60] = False  # a gap: at 25, 33 and 50 % it is that of epoch 19
    batch["good"][2, :30] = False  # nothing seen at 10 and 25 %
    batch["time"][2, 80:] = torch.nan  # padding: the curve ends on day 79
    probability = torch.stack([1 - binary, binary], -1)
    probability[~batch["good"]] = torch.nan
    found = reduce_batch(batch, probability)
    at = found["at_fraction"][..., 1]
    assert at[0] == pytest.approx([0.1, 0.25, 0.33, 0.5, 0.67, 0.83, 1.0])
    assert at[1] == pytest.approx([0.1, 0.19, 0.19, 0.19, 0.67, 0.83, 1.0])
    expected = [0.5, 0.5, 0.5, 0.39, 0.52, 0.65, 0.79]  # 33 % of 79 days is before day 30
    assert at[2] == pytest.approx(expected)
    assert found["decision_time"][0] == pytest.approx(list(THRESHOLDS), abs=0.011)
    assert found["decision_time"][2, 0].item() == pytest.approx(60 / 79)
    assert found["decision_time"][2, 2:].isnan().all()
    assert found["cutoff_time"][2, -1] == 79


def test_the_future_changes_nothing() -> None:
    batch = make_batch()
    probability = torch.rand(3, 101, 2)
    changed = probability.clone()
    changed[:, 51:] = torch.rand(3, 50, 2)
    first, second = (reduce_batch(batch, p)["at_fraction"][:, :4] for p in (probability, changed))
    assert torch.equal(first, second)


def test_examples_are_held_out_and_the_first_of_each_class() -> None:
    batch, counts = make_batch(), {}
    found = take_examples(batch, torch.rand(3, 101, 2), counts, 3)
    assert [example.index for example in found] == [5, 6]
    assert counts == {0: 1, 1: 1}


def test_perfect_and_random_classifiers(run_of: Any) -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 2000)
    run = run_of(label=label)
    add_fractions(run, answer(label.astype(float), label), CLASSES)
    add_fractions(run, answer(rng.random(4000), label, "baseline/dice"), CLASSES)
    found = values(run)
    for fraction in ("0.10", "1.00"):
        for metric in ("accuracy", "auc", "average_precision"):
            assert found[f"model/{metric}/fraction={fraction}"] == 1
            assert found[f"baseline/dice/{metric}/fraction={fraction}"] == pytest.approx(
                0.5, abs=0.03
            )
        assert found[f"model/ece/fraction={fraction}"] == 0
        assert found[f"baseline/dice/ece/fraction={fraction}"] == pytest.approx(0.25, abs=0.03)
        assert found[f"baseline/dice/brier/fraction={fraction}"] == pytest.approx(1 / 3, abs=0.02)
    stds = {row.key: row.std for row in run.report.rows}
    # Of a random ranking of n + n objects: sqrt((2n + 1) / (12 n^2)) = 0.0091.
    assert stds["baseline/dice/auc/fraction=1.00"] == pytest.approx(0.0091, rel=0.6)


def test_decision_times_in_closed_form(run_of: Any) -> None:
    label = np.repeat([1, 0], 100)
    decided = np.full((200, len(THRESHOLDS)), np.nan)
    decided[:80] = np.linspace(0, 1, 80)[:, None]
    decided[100:110] = 0.5
    events, run = answer(label.astype(float), label), run_of(decision_time=decided)
    add_decisions(run, events)
    found = values(run)
    assert found["model/decided/threshold=0.60"] == 0.8
    assert found["model/false_alarms/threshold=0.60"] == 0.1
    quartiles = ("decision_fraction_q25", "decision_fraction", "decision_fraction_q75")
    assert [found[f"model/{name}/threshold=0.90"] for name in quartiles] == pytest.approx(
        [0.25, 0.5, 0.75]
    )
    never = run_of(decision_time=np.full((200, 4), np.nan))
    add_decisions(never, events)
    assert np.isnan(values(never)["model/decision_fraction/threshold=0.60"])


def test_bins_follow_their_own_events(run_of: Any) -> None:
    # Binaries of q = 0.5 are found, those of q = 0.05 are not; lenses alone have no mass ratio.
    label = np.array([0] * 50 + [1] * 30 + [1] * 20)
    ratio = np.array([np.nan] * 50 + [0.5] * 30 + [0.05] * 20)
    p = np.array([0.2] * 50 + [0.9] * 30 + [0.1] * 20)
    run = run_of(FakeData(mass_ratio=ratio), label=label)
    add_bins(run, answer(p, label))
    found = values(run)
    assert found["model/recall/fraction=1.00/mass_ratio=0.3..1.0001"] == 1
    assert found["model/recall/fraction=1.00/mass_ratio=0.01..0.1"] == 0
    assert found["model/auc/fraction=1.00/mass_ratio=0.3..1.0001"] == 1
    assert found["model/auc/fraction=1.00/mass_ratio=0.01..0.1"] == 0
    key = "model/completeness/fraction=1.00/purity=0.90/mass_ratio="
    assert (found[f"{key}0.3..1.0001"], found[f"{key}0.01..0.1"]) == (1, 0)
    assert {row.n for row in run.report.rows if "=0.3.." in row.slice} == {30}


GROUPED_KEYS = (
    "model/recall/fraction=1.00/separation=0.8..1.25",
    "model/decided/threshold=0.90",
    "model/decision_fraction/threshold=0.60",
    "signal/share_detectable/delta_chi2=100",
    "signal/ideal_accuracy/fraction=1.00",
)


def run_of_copies(run_of: Any, copies: int) -> TestRun:
    """Scores of 600 random events, each with its copies in a group."""
    rng = np.random.default_rng(0)
    label, p, time = np.tile([0, 1, 1], 200), rng.random(600), rng.random((600, 4))
    values = label, p, np.where(p[:, None] < 0.7, time, np.nan), rng.uniform(0, 200, 600)
    label, p, times, delta_chi2 = (np.repeat(x, copies, 0) for x in values)
    run = run_of(FakeData(separation=np.ones(len(p))), decision_time=times, delta_chi2=delta_chi2)
    groups = np.arange(len(p)) // copies
    run.bootstrap = Bootstrap(400, 0, groups if copies > 1 else None)
    for add in (add_bins, add_decisions, add_ceiling):
        add(run, answer(p, label))
    return run


@pytest.mark.parametrize("key", GROUPED_KEYS)
def test_copies_of_an_event_in_a_group_add_no_precision(run_of: Any, key: str) -> None:
    runs = (run_of_copies(run_of, copies) for copies in (1, 3))
    one, three = ({row.key: row for row in run.report.rows}[key] for run in runs)
    assert three.n == 3 * one.n
    assert three.value == pytest.approx(one.value, abs=0.01)
    assert three.std == pytest.approx(one.std, rel=0.25)  # were they events alone: 0.58


def test_ceiling_is_that_of_a_likelihood_ratio(run_of: Any) -> None:
    label = np.array([1, 1, 0])
    run = run_of(delta_chi2=np.array([0.0, 4.0, 0.0]))
    add_ceiling(run, answer(label.astype(float), label))
    found = values(run)
    # Phi(0) = 0.5 and Phi(1) = 0.8413.
    assert found["signal/ideal_accuracy/fraction=1.00"] == pytest.approx(
        (0.5 + 0.8413) / 2, abs=1e-4
    )
    assert found["signal/share_detectable/delta_chi2=30"] == 0


@pytest.fixture
def rows() -> dict[str, np.ndarray]:
    """Rows of 400 events, whose order is not that of their index: 250 to train, 150 held out."""
    rng = np.random.default_rng(3)
    label, index = rng.integers(0, 2, 400), rng.permutation(400)
    return {
        "index": index,
        "label": label[index],
        "split": np.repeat([0, 2], [250, 150]),
        "cutoff_time": index[:, None] + 1000.0 * np.arange(len(FRACTIONS)),
        "decision_time": np.full((400, len(THRESHOLDS)), np.nan),
        "at_fraction": np.full((400, len(FRACTIONS), 2), 0.5),
    }


def data_of(rows: dict[str, np.ndarray]) -> FakeData:
    return FakeData(rows["label"][np.argsort(rows["index"])])


def test_baseline_is_fitted_on_training_events_and_aligned_by_index(
    run_of: Any, rows: dict[str, np.ndarray]
) -> None:
    data = data_of(rows)
    run = run_of(data, **rows)
    run.max_fit = 100
    reported = np.flatnonzero(run.held_out())[::2]
    ((subject, p),) = run.baselines(
        PSPLFit(data.anomaly_scores), fitted=run.split("train"), scored=reported
    )
    assert subject == "baseline/pspl_fit"
    fitted, scored = data.asked[: len(FRACTIONS)], data.asked[len(FRACTIONS) :]
    assert len(scored) == len(FRACTIONS)
    assert all(len(set(index)) == 100 for index in fitted)
    assert all(set(index) <= set(rows["index"][:250]) for index in fitted)
    assert all(np.array_equal(index, rows["index"][reported]) for index in scored)
    for column in range(len(FRACTIONS)):
        assert np.array_equal(p[:, column] > 0.5, rows["label"][reported] == BINARY)


def test_report_gives_the_baseline_as_many_events_as_it_may_fit(
    run_of: Any, rows: dict[str, np.ndarray]
) -> None:
    run = run_of(data_of(rows), **rows)
    run.max_fit = 100
    MicrolensingReport(max_fit=100).evaluate(run)
    (row, *_) = run.report.rows_of("accuracy", "baseline/pspl_fit")
    assert (row.value, row.n) == (1, 100)
    assert run.report.rows_of("auc", "model")[0].n == 150


def test_baseline_needs_training_events_of_both_kinds(
    run_of: Any, rows: dict[str, np.ndarray]
) -> None:
    data = data_of(rows)
    alone = np.where(rows["split"] == 0, 0, rows["label"])
    run = run_of(data, **{**rows, "label": alone})
    MicrolensingReport().evaluate(run)
    assert "baseline/pspl_fit needs training events of one lens and of two" in run.report.notes
    assert data.asked == []
    assert not run.report.rows_of(subject="baseline/pspl_fit")
