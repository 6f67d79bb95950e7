import pytest
import torch
from torch import nn

from lightning_modules.nn.draws import dropout_at_work, dropouts, redrawn

NUM = 20_000


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_values_move_by_their_own_errors() -> None:
    error = torch.tensor([0.1, 2.0, torch.inf]).expand(NUM, 3)
    batch = {
        "flux": torch.zeros(NUM, 3), "flux_error": error,
        "power": torch.zeros(NUM, 2), "power_ivar": torch.tensor([4.0, 0.0]).expand(NUM, 2),
        "label": torch.zeros(NUM, dtype=torch.int64), "label_error": torch.ones(NUM),
        "time_error": torch.ones(NUM),
    }  # fmt: skip
    found = redrawn(batch)
    expected = torch.tensor([0.1, 2.0, 0.0])
    torch.testing.assert_close(found["flux"].std(0), expected, rtol=0.03, atol=0)
    torch.testing.assert_close(found["power"].std(0), torch.tensor([0.5, 0.0]), rtol=0.03, atol=0)
    assert found["label"] is batch["label"]
    assert not batch["flux"].any()


def test_features_move_by_their_covariance() -> None:
    root = torch.randn(5, 5)
    covariance = root @ root.T
    features = torch.tensor([1.0, 2, 3, 4, 5, 6]).repeat(NUM, 1)
    batch = {"features": features, "covariance": covariance.expand(NUM, 5, 5)}
    found = redrawn(batch)["features"]
    scale = float(covariance.abs().max())
    torch.testing.assert_close(found[:, :5].T.cov(), covariance, rtol=0, atol=0.05 * scale)
    torch.testing.assert_close(found[:, :5].mean(0), features[0, :5], rtol=0, atol=0.1)
    assert (found[:, 5] == 6).all()


def test_what_has_no_error_stays() -> None:
    covariance = torch.diag(torch.tensor([1.0, torch.nan])).expand(NUM, 2, 2)
    features = torch.tensor([0.0, torch.nan]).repeat(NUM, 1)
    found = redrawn({"features": features, "covariance": covariance})["features"]
    assert found[:, 0].std().item() == pytest.approx(1.0, rel=0.03)
    assert found[:, 1].isnan().all()
    with pytest.raises(ValueError, match="set error_draws to 0"):
        redrawn({"features": features})


def test_only_dropout_works() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Dropout(0.0)).eval()
    x = torch.ones(64, 2)
    with dropout_at_work(net, 0):
        assert [module.training for module in net] == [False, True, False]
        assert set(net(x).round().unique().tolist()) == {0.0, 2.0}
    assert not any(module.training for module in net.modules())
    assert dropouts(net) == [net[1]]
    torch.testing.assert_close(net(x), x, rtol=1e-4, atol=0)
