import math
from typing import get_args

import pytest
import torch

from lightning_modules.sidm.losses import (
    Location,
    class_distance,
    class_entropy,
    class_locations,
    compact_clustering,
    propagated,
    transitions,
)

LATENT = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGET = torch.tensor([0, 1, -1, 2, 0, -1, 1, -1, 0])
LABELLED = TARGET.abs()
Y = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)


def test_a_step_of_the_walk_goes_somewhere() -> None:
    walk = transitions(1e3 * LATENT)
    torch.testing.assert_close(walk.sum(dim=1), torch.ones(9, dtype=torch.float64))
    assert walk.min() >= 1e-5 / 9


def test_labels_of_a_labelled_batch_stay() -> None:
    expected = torch.nn.functional.one_hot(LABELLED, 3).double()
    assert torch.equal(propagated(transitions(LATENT), LABELLED, 3), expected)


def test_labels_reach_the_others_as_the_inverse_has_it() -> None:
    walk = transitions(LATENT)
    known, unknown = TARGET >= 0, TARGET < 0
    ends = torch.nn.functional.one_hot(TARGET[known], 3).double()
    inverse = torch.linalg.inv(torch.eye(3).double() - walk[unknown][:, unknown])
    expected = inverse @ walk[unknown][:, known] @ ends
    found = propagated(walk, TARGET, 3)
    torch.testing.assert_close(found[unknown], expected)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(9, dtype=torch.float64))


def test_labels_reach_rows_far_from_all_others_in_single_precision() -> None:
    """Where I - T_UU is nearly singular: the walk leaves such a row for all others alike."""
    latent = torch.zeros(4, 4)
    latent[3, 3] = 100.0
    target = torch.tensor([0, 0, 1, -1])
    found = propagated(transitions(latent), target, 2)[3]
    torch.testing.assert_close(found, torch.tensor([2 / 3, 1 / 3]))


@pytest.mark.parametrize("steps", [1, 3])
def test_equal_latents_lose_the_logarithm_of_their_number(steps: int) -> None:
    """T = 1/N; one class, so that the target is 1/N and the walk stays."""
    latent, target = torch.ones(8, 2, dtype=torch.float64), torch.zeros(8, dtype=torch.int64)
    found = compact_clustering(latent, target, 1, steps).item()
    assert found == pytest.approx(math.log(8), rel=1e-5)


def test_compact_and_distant_classes_lose_least() -> None:
    """Each row then reaches the n rows of its class alike: ln n."""
    target = torch.tensor([0, 1]).repeat(4)
    apart = 10 * torch.nn.functional.one_hot(target, 2).double()
    assert compact_clustering(apart, target, 2).item() == pytest.approx(math.log(4), rel=1e-3)
    mixed = 10 * torch.nn.functional.one_hot(target.roll(1), 2).double()
    mixed[0] = mixed[1]
    assert compact_clustering(mixed, target, 2) > 2 * math.log(4)


def test_the_order_of_rows_does_not_matter() -> None:
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    expected = compact_clustering(LATENT, TARGET, 3)
    torch.testing.assert_close(compact_clustering(LATENT[order], TARGET[order], 3), expected)


def test_gradients_are_those_of_finite_differences() -> None:
    latent = LATENT.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: compact_clustering(z, TARGET, 3), latent)
    for location in get_args(Location):
        assert torch.autograd.gradcheck(
            lambda z, how=location: class_distance(z[:, 0], TARGET, Y, how), latent
        )


def test_repeating_the_batch_adds_ln_2_and_leaves_the_gradient() -> None:
    def loss(times: int) -> tuple[float, torch.Tensor]:
        latent = LATENT.clone().requires_grad_()
        found = compact_clustering(latent.repeat(times, 1), LABELLED.repeat(times), 3)
        found.backward()
        assert latent.grad is not None
        return found.item(), latent.grad

    (once, gradient), (twice, again) = loss(1), loss(2)
    assert twice == pytest.approx(once + math.log(2), abs=1e-5)
    torch.testing.assert_close(again, gradient, rtol=1e-3, atol=1e-5)


def test_without_classes_there_is_no_loss() -> None:
    latent, nothing = LATENT.clone().requires_grad_(), torch.full((9,), -1)
    total = (
        compact_clustering(latent, nothing, 3)
        + class_distance(latent[:, 0], nothing, Y, "quantile")
        + class_entropy(latent, nothing)
    )
    total.backward()
    assert total == 0
    assert latent.grad is not None
    assert (latent.grad == 0).all()


def test_only_rows_with_a_class_have_a_cross_entropy() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [5.0, 0.0], [0.0, 0.0]])
    expected = (math.log(4) + math.log(2)) / 2
    found = class_entropy(logits, torch.tensor([0, -1, 1])).item()
    assert found == pytest.approx(expected, rel=1e-6)


def test_locations_of_classes() -> None:
    values = torch.tensor([5.0, 1.0, 2.0, 9.0, 1.0, 4.0, 7.0])
    members = torch.zeros(7, 3, dtype=torch.bool)
    members[[0, 1, 2], 0] = True  # 1, 2, 5
    members[[3, 4, 5, 6], 1] = True  # 1, 4, 7, 9
    assert class_locations(values, members, "median").tolist() == [2.0, 5.5, 0.0]
    torch.testing.assert_close(
        class_locations(values, members, "mean"), torch.tensor([8 / 3, 5.25, 0.0])
    )


def test_the_smooth_median_is_the_middle_of_symmetric_rows_and_bears_outliers() -> None:
    values = torch.linspace(-1, 1, 41, dtype=torch.float64).requires_grad_()
    members = torch.ones(41, 1, dtype=torch.bool)
    found = class_locations(values, members, "quantile")
    assert found.item() == pytest.approx(0.0, abs=1e-12)
    found.sum().backward()
    assert values.grad is not None
    assert (values.grad > 0.01).sum() > 10
    outlier = values.detach().clone()
    outlier[-1] = 1e4
    moved = class_locations(outlier, members, "quantile").item()
    assert abs(moved) < 0.1 < class_locations(outlier, members, "mean").item()


@pytest.mark.parametrize("location", get_args(Location))
def test_classes_where_they_should_be_have_no_distance(location: Location) -> None:
    values = Y[LABELLED].clone()
    assert class_distance(values, LABELLED, Y, location) == pytest.approx(0.0, abs=1e-15)
    assert class_distance(values + 0.5, LABELLED, Y, location) == pytest.approx(0.25)


def test_hidden_and_absent_classes_have_no_distance_and_no_gradient() -> None:
    wanted = torch.tensor([0.0, torch.nan, 1.0, 0.3], dtype=torch.float64)
    values = LATENT[:, 0].clone().requires_grad_()
    loss = class_distance(values, LABELLED, wanted, "mean")
    loss.backward()
    means = torch.stack([values[number == LABELLED].mean() for number in (0, 2)])
    torch.testing.assert_close(loss, (means - wanted[[0, 2]]).square().mean())
    assert values.grad is not None
    assert torch.equal(values.grad == 0, LABELLED == 1)
