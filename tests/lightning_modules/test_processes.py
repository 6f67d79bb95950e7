"""A loss over the whole batch is the same in one process and in two, and so is its gradient."""

from typing import Any

import pytest
import torch

from tests.lightning_modules.two_processes import Coupled, Judged, global_batch, stepped

SIZES = {"even": 8, "uneven": 8, "repeated": 5}


@pytest.mark.parametrize("case", SIZES)
def test_gathers_and_sums_have_the_gradient_of_one_process(
    case: str, two_processes: list[dict[str, Any]]
) -> None:
    size = SIZES[case]
    alone = stepped(list(range(size)), size)
    model = Coupled()
    loss = model.step(global_batch(size), "train")["loss"]
    loss.backward()
    assert model.weight.grad is not None
    torch.testing.assert_close(alone["gradient"], model.weight.grad.flatten())
    assert alone["loss"] == pytest.approx(loss.item())
    for rank in two_processes:
        found = rank[case]
        assert found["index"].tolist() == list(range(size))  # in the order of one process
        assert torch.equal(found["label"], alone["label"])
        torch.testing.assert_close(found["rows"], alone["rows"], rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(found["gradient"], alone["gradient"], rtol=1e-12, atol=1e-12)
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-6)


def test_physical_terms_judge_the_global_batch(two_processes: list[dict[str, Any]]) -> None:
    alone = stepped(list(range(8)), 8, Judged)
    assert alone["gradient"].abs().max() > 1e-3
    for rank in two_processes:
        torch.testing.assert_close(rank["judged"], alone, rtol=1e-6, atol=1e-9)


def test_a_repeated_row_is_in_no_gather() -> None:
    batch = {**global_batch(5), "loss_scale": torch.tensor(0.0)}
    model = Coupled()
    assert not model.counted(batch).any()
    assert model.gather_rows(batch["features"], batch).shape == (0, 5)
    batch["loss_scale"] = torch.tensor(0.4)
    assert torch.equal(model.gather_rows(batch["features"], batch), batch["features"])
