import math

import pytest
import torch

from lightning_modules.microlensing.curves import (
    NUM_FEATURES,
    NUM_SUMMARIES,
    curve_features,
    epoch_features,
    keep_epochs,
    running_summaries,
    spread_epochs,
)
from tests.lightning_modules.microlensing.curves import light_curves


def test_kept_epochs_move_together_and_back() -> None:
    flux = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    good = torch.tensor([[False, True, False, True], [True, True, True, False]])
    time = torch.tensor([[0.0, 1.0, 2.0, 5.0], [0.0, 0.5, 2.5, 3.0]], dtype=torch.float64)
    epochs = keep_epochs(flux, 0.1 * flux, time + 2460000.5, good)
    assert epochs.num_epochs.tolist() == [2, 3]
    assert epochs.flux.tolist() == [[2, 4, 0], [5, 6, 7]]
    assert epochs.gap.tolist() == [[1, 4, -2460005.5], [1, 0.5, 2]]  # the third is no epoch
    assert epochs.valid.tolist() == [[True, True, False], [True, True, True]]
    back = spread_epochs(epochs.flux.unsqueeze(-1), good).squeeze(-1)
    assert torch.equal(back[good], flux[good])
    assert back[~good].isnan().all()


def test_curves_without_epochs_are_no_trouble() -> None:
    none = torch.zeros(2, 3, dtype=torch.bool)
    epochs = keep_epochs(torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2, 3).double(), none)
    assert epochs.num_epochs.tolist() == [0, 0]
    assert not epochs.valid.any()
    assert (curve_features(epochs) == 0).all()


def test_features_are_those_of_the_formula() -> None:
    values = [torch.tensor(x) for x in (3.0, 0.5, 10.0, 1.0, 1.2)]
    found = epoch_features(*values)
    change = 2 / math.hypot(0.5, 1.2)
    expected = [math.asinh(2), math.asinh(4), math.asinh(change), math.log10(0.5) + 1, 1.0]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert len(found) == NUM_FEATURES


def test_a_constant_curve_at_the_baseline_has_no_deviation() -> None:
    flux, time = torch.ones(1, 40), torch.arange(40.0).double()[None]
    features = curve_features(keep_epochs(flux, 0.1 * flux, time, flux > 0))
    assert torch.equal(features[..., :3], torch.zeros(1, 40, 3))
    torch.testing.assert_close(features[..., 3:], torch.zeros(1, 40, 2))  # error 0.1, gap one day


@pytest.mark.parametrize("size", [1, 2, 5])
def test_summaries_are_mean_lowest_highest_of_the_epochs_so_far(size: int) -> None:
    features = torch.randn(3, 4, size, NUM_FEATURES)
    found = running_summaries(features)
    assert found.shape == (3, 4, size, NUM_SUMMARIES)
    for number in range(1, size + 1):
        some = features[:, :, :number]
        share = torch.full((3, 4, 1), number / size)
        parts = some.mean(dim=2), some.amin(dim=2), some.amax(dim=2), share
        torch.testing.assert_close(found[:, :, number - 1], torch.cat(parts, dim=-1))


def test_a_spike_of_one_epoch_survives_in_its_token() -> None:
    features = torch.zeros(1, 5, NUM_FEATURES)
    features[0, 2, 0] = 4.0
    summary = running_summaries(features)[0, -1]
    assert summary[2 * NUM_FEATURES] == 4.0  # highest first feature
    assert summary[0] == pytest.approx(0.8)


def test_times_keep_their_precision() -> None:
    batch = light_curves(2, 30)
    shifted = {**batch, "time": batch["time"] - 2460000}
    a, b = (keep_epochs(*(x[k] for k in ("flux", "flux_error", "time", "good"))).gap
            for x in (batch, shifted))  # fmt: skip
    valid = keep_epochs(batch["flux"], batch["flux_error"], batch["time"], batch["good"]).valid
    torch.testing.assert_close(a[valid], b[valid], atol=1e-6, rtol=1e-6)
