import numpy as np
import pytest
import torch

from callbacks.microlensing.baselines import classical_subject
from callbacks.microlensing.events import (
    FRACTIONS,
    THRESHOLDS,
    Subject,
    reduce_batch,
    take_examples,
)
from callbacks.microlensing.scores import add_bins, add_ceiling, add_decisions, add_subject
from callbacks.report.probability import Resampling
from callbacks.report.table import Report

CLASSES = ["pspl", "binary"]


def new_report() -> Report:
    return Report("microlensing", "held_out", 10)


def values(report: Report) -> dict[str, float]:
    return {row.key: row.value for row in report.rows}


def answer(p: np.ndarray, name: str = "model") -> Subject:
    whole = np.repeat(p[:, None], len(FRACTIONS), axis=1)
    return Subject(name, np.arange(len(p)), whole, (whole >= 0.5).astype(int), classes=True)


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
    assert found["decided"][0] == pytest.approx(list(THRESHOLDS), abs=0.011)
    assert found["decided"][2, 0].item() == pytest.approx(60 / 79)
    assert found["decided"][2, 2:].isnan().all()
    assert found["until"][2, -1] == 79


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
    assert [index for index, _ in found] == [5, 6]
    assert counts == {0: 1, 1: 1}


def test_perfect_and_random_classifiers() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 2000)
    report = new_report()
    add_subject(report, answer(label.astype(float)), label, CLASSES, Resampling(20))
    add_subject(report, answer(rng.random(4000), "classical/dice"), label, CLASSES, Resampling(20))
    found = values(report)
    for fraction in ("0.10", "1.00"):
        for metric in ("accuracy", "auc", "average_precision"):
            assert found[f"model/{metric}/fraction={fraction}"] == 1
            assert found[f"classical/dice/{metric}/fraction={fraction}"] == pytest.approx(
                0.5, abs=0.03
            )
        assert found[f"model/ece/fraction={fraction}"] == 0
        assert found[f"classical/dice/ece/fraction={fraction}"] == pytest.approx(0.25, abs=0.03)
        assert found[f"classical/dice/brier/fraction={fraction}"] == pytest.approx(1 / 3, abs=0.02)
    stds = {row.key: row.std for row in report.rows}
    # Of a random ranking of n + n objects: sqrt((2n + 1) / (12 n^2)) = 0.0091.
    assert stds["classical/dice/auc/fraction=1.00"] == pytest.approx(0.0091, rel=0.6)


def test_decision_times_in_closed_form() -> None:
    binary = np.repeat([True, False], 100)
    decided = np.full((200, len(THRESHOLDS)), np.nan)
    decided[:80] = np.linspace(0, 1, 80)[:, None]
    decided[100:110] = 0.5
    report = new_report()
    add_decisions(report, decided, binary, Resampling(20))
    found = values(report)
    assert found["model/decided/threshold=0.60"] == 0.8
    assert found["model/false_alarms/threshold=0.60"] == 0.1
    quartiles = ("decision_fraction_q25", "decision_fraction", "decision_fraction_q75")
    assert [found[f"model/{name}/threshold=0.90"] for name in quartiles] == pytest.approx(
        [0.25, 0.5, 0.75]
    )
    never = new_report()
    add_decisions(never, np.full((200, 4), np.nan), binary, Resampling(20))
    assert np.isnan(values(never)["model/decision_fraction/threshold=0.60"])


def test_bins_follow_their_own_events() -> None:
    # Binaries of q = 0.5 are found, those of q = 0.05 are not; lenses alone have no mass ratio.
    label = np.array([0] * 50 + [1] * 30 + [1] * 20)
    ratio = np.array([np.nan] * 50 + [0.5] * 30 + [0.05] * 20)
    p = np.array([0.2] * 50 + [0.9] * 30 + [0.1] * 20)
    report = new_report()
    add_bins(report, answer(p), label, {"mass_ratio": ratio})
    found = values(report)
    assert found["model/recall/fraction=1.00/mass_ratio=0.3..1.0001"] == 1
    assert found["model/recall/fraction=1.00/mass_ratio=0.01..0.1"] == 0
    assert found["model/auc/fraction=1.00/mass_ratio=0.3..1.0001"] == 1
    assert found["model/auc/fraction=1.00/mass_ratio=0.01..0.1"] == 0
    key = "model/completeness/fraction=1.00/purity=0.90/mass_ratio="
    assert (found[f"{key}0.3..1.0001"], found[f"{key}0.01..0.1"]) == (1, 0)


def test_ceiling_is_that_of_a_likelihood_ratio() -> None:
    report = new_report()
    binary = np.array([True, True, False])
    add_ceiling(report, np.array([0.0, 4.0, 0.0]), binary)
    found = values(report)
    # Phi(0) = 0.5 and Phi(1) = 0.8413.
    assert found["signal/ideal_accuracy/fraction=1.00"] == pytest.approx(
        (0.5 + 0.8413) / 2, abs=1e-4
    )
    assert found["signal/share_detectable/delta_chi2=30"] == 0


class FakeData:
    """Scores that tell the classes apart, kept by index."""

    def __init__(self, label: np.ndarray) -> None:
        self.label = label
        self.asked: list[np.ndarray] = []

    def anomaly_scores(self, index: np.ndarray, until: np.ndarray) -> np.ndarray:
        self.asked.append(index)
        assert np.array_equal(until % 1000, index)
        return np.stack([100.0 * self.label[index], 10.0 * self.label[index]], 1)


def test_classical_is_fitted_on_training_events_and_aligned_by_index() -> None:
    rng = np.random.default_rng(3)
    label = rng.integers(0, 2, 400)
    index = rng.permutation(400)
    until = index[:, None] + 1000.0 * np.arange(len(FRACTIONS))
    rows = {"index": index, "label": label[index], "until": until}
    training = {name: x[:250] for name, x in rows.items()}
    reported = {name: x[250:] for name, x in rows.items()}
    data = FakeData(label)
    subject = classical_subject(data, training, reported, 100, 0)
    assert subject is not None
    assert set(data.asked[0]) <= set(index[:250])
    assert set(data.asked[1]) <= set(index[250:])
    assert np.array_equal(subject.predicted[:, -1], reported["label"][subject.rows])
    alone = {**training, "label": np.zeros(250, dtype=int)}
    assert classical_subject(data, alone, reported, 100, 0) is None
