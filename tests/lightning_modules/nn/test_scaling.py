import pytest
import torch

from lightning_modules.nn.scaling import RobustScaler


def test_nan_is_kept() -> None:
    scaler = RobustScaler(2)
    scaler.assign(torch.tensor([2.0, 6.0]), torch.tensor([1.5, 1.0]))
    table = torch.tensor([[1.0, 5.0], [2.0, torch.nan], [3.0, 7.0], [torch.nan, 6.0]])
    assert torch.equal(scaler(table).isnan(), table.isnan())
    torch.testing.assert_close(scaler.inverse(scaler(table)), table, equal_nan=True)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_bad_statistics_are_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        RobustScaler(1).assign(torch.zeros(1), torch.tensor([scale]))


def test_statistics_travel_in_the_state_dict() -> None:
    first, second = RobustScaler(2), RobustScaler(2)
    first.assign(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    second.load_state_dict(first.state_dict())
    assert second(torch.tensor([4.0, 6.0])).tolist() == [1.0, 1.0]


def test_asinh_is_linear_in_the_core_logarithmic_in_the_tails_and_inverts() -> None:
    scaler = RobustScaler(1, asinh=True)
    scaler.assign(torch.tensor([2.0]), torch.tensor([4.0]))
    x = torch.tensor([[2.004], [2.0 + 4e6]], dtype=torch.float64)
    expected = torch.tensor([[1e-3], [torch.log(torch.tensor(2e6))]], dtype=torch.float64)
    torch.testing.assert_close(scaler(x), expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(scaler.inverse(scaler(x)), x, rtol=1e-9, atol=0.0)
