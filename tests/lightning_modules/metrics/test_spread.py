import math

import pytest
import torch

from lightning_modules.metrics.spread import (
    Answers,
    Spread,
    entropy,
    match_columns,
    mean_answer,
    merge_columns,
)


def test_spread_is_mean_and_population_deviation() -> None:
    values = 1e4 + torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    spread = Spread()
    for value in values:
        spread.add(value)
    torch.testing.assert_close(spread.mean, values.mean(0))
    torch.testing.assert_close(spread.std, values.std(0, unbiased=False), rtol=1e-2, atol=0)


def test_own_deviations_add_to_that_of_the_means() -> None:
    spread = Spread()
    spread.add(torch.tensor([1.0]), torch.tensor([3.0]))
    spread.add(torch.tensor([5.0]), torch.tensor([4.0]))
    assert spread.std.item() == pytest.approx(math.sqrt((9 + 16) / 2 + 4))  # total variance


def test_entropy() -> None:
    p = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]])
    torch.testing.assert_close(entropy(p), torch.tensor([0.0, math.log(3), math.log(2)]))


def answers_of(*probabilities: list[float]) -> dict[str, torch.Tensor]:
    answers = Answers()
    for member, p in enumerate(probabilities):
        answers.add({"index": torch.tensor([4]), "probability": torch.tensor([p])}, member)
    return answers.result()


def test_entropy_splits_into_what_members_share_and_where_they_differ() -> None:
    agreed = answers_of([0.5, 0.5], [0.5, 0.5])
    assert agreed["aleatoric"].item() == pytest.approx(math.log(2))
    assert agreed["epistemic"].item() == pytest.approx(0.0, abs=1e-7)
    torn = answers_of([1.0, 0.0], [0.0, 1.0])
    assert torn["aleatoric"].item() == pytest.approx(0.0, abs=1e-7)
    assert torn["epistemic"].item() == pytest.approx(math.log(2))
    assert torn["probability_std"].tolist() == [[0.5, 0.5]]
    assert torn["index"].tolist() == [4]


def test_latents_of_members_stand_beside_each_other() -> None:
    answers = Answers()
    for member, values in enumerate(([1.0, 3.0], [7.0])):
        for value in values:
            answers.add({"latent": torch.tensor([[value]])}, member)
    found = answers.result()
    assert found["latent"].tolist() == [[2.0, 7.0]]
    assert found["latent_std"].tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("suffix", ["std", "error"])
def test_deviations_of_their_own_keep_their_name(suffix: str) -> None:
    answers = Answers()
    for member, value in enumerate((1.0, 5.0)):
        shift = torch.tensor([[value]])
        said = {"latent": shift, f"latent_{suffix}": 0 * shift + 3.0}
        answers.add({**said, "age": shift, f"age_{suffix}": 0 * shift + 1.5}, member)
    found = answers.result()
    assert found.keys() == {"latent", f"latent_{suffix}", "age", f"age_{suffix}"}
    assert found[f"latent_{suffix}"].tolist() == [[3.0, 3.0]]
    assert found[f"age_{suffix}"].tolist() == [[2.5]]  # (1.5² + 2²)^½


def test_members_must_answer_alike() -> None:
    answers = Answers()
    answers.add({"latent": torch.zeros(1, 1)}, 0)
    with pytest.raises(ValueError, match=r"differ in whether they predict \['probability'\]"):
        answers.add({"latent": torch.zeros(1, 1), "probability": torch.ones(1, 1)}, 1)


@pytest.mark.parametrize(
    ("overlap", "columns"),
    [
        pytest.param([[0, 90], [50, 2]], [1, 0], id="swapped"),
        pytest.param([[80, 0, 0], [0, 0, 9], [0, 20, 1]], [0, 2, 1], id="small clusters count"),
        pytest.param([[90, 0], [1, 8], [10, 0]], [0, 1, 0], id="one more: joins the field"),
        pytest.param([[90, 9], [0, 30]], [0, 1], id="as many"),
        pytest.param([[90, 0, 9], [0, 8, 0]], [0, 1], id="one less"),
        pytest.param([[90, 0, 9], [0, 8, 0], [12, 0, 0]], [0, 1, 0], id="another one: no match"),
    ],
)
def test_columns_are_matched_by_overlap(overlap: list[list[float]], columns: list[int]) -> None:
    assert match_columns(torch.tensor(overlap, dtype=torch.float64)) == columns


def test_merged_columns_keep_the_sum() -> None:
    p = torch.tensor([[0.1, 0.2, 0.7]])
    merged = merge_columns(p, [2, 0, 2], 3)
    torch.testing.assert_close(merged, torch.tensor([[0.2, 0.0, 0.8]]))


def test_fields_stand_for_each_other_whatever_they_overlap() -> None:
    overlap = torch.tensor([[5.0, 60.0, 0.0], [40.0, 3.0, 0.0], [30.0, 0.0, 9.0]])
    assert match_columns(overlap) == [1, 0, 0]
    assert match_columns(overlap, field=(2, 2)) == [1, 0, 2]


def test_answers_to_several_measurements_are_one() -> None:
    first = {"index": torch.tensor([3]), "age": torch.tensor([1.0]), "age_std": torch.tensor([3.0])}
    found = mean_answer(first | {"age": torch.tensor([x])} for x in (1.0, 5.0))
    assert found["age"].item() == 3.0
    assert found["age_std"].item() == pytest.approx(math.sqrt(9 + 4))
    assert found["index"].tolist() == [3]
    assert mean_answer([first]) == first
