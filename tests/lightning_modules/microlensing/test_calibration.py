import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.microlensing.calibration import (
    KNOTS,
    CalibrationSample,
    EpochTemperature,
    sampled_epochs,
)


def overconfident(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Logits that are T(n) = 1 + log10(n) times too large."""
    true = 1.5 * torch.randn(num, 2, generator=generator)
    label = torch.multinomial(true.softmax(-1), 1, generator=generator).squeeze(1)
    num_epochs = (5 * 400 ** torch.rand(num, generator=generator)).long()
    return true * (1 + num_epochs.float().log10()).unsqueeze(-1), num_epochs, label


def test_the_temperature_of_a_toy_is_found_and_improves_the_likelihood() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, num_epochs, label = overconfident(40_000, generator)
    temperature = EpochTemperature()
    temperature.fit(logits, num_epochs, label)
    numbers = torch.tensor([10, 100, 1000])
    found = (temperature._weights(numbers) @ temperature.log_temperature).exp()
    torch.testing.assert_close(found, 1 + numbers.float().log10(), rtol=0.06, atol=0.0)
    logits, num_epochs, label = overconfident(40_000, generator)  # held out
    before = functional.cross_entropy(logits, label)
    after = functional.nll_loss(temperature(logits, num_epochs), label)
    best = functional.cross_entropy(logits / (1 + num_epochs.float().log10()).unsqueeze(-1), label)
    assert after < before - 0.1
    assert after < best + 0.002


def test_confidence_falls_with_temperature_and_the_order_stays() -> None:
    temperature, logits = EpochTemperature(), torch.tensor([2.0, -1.0, 0.5])
    last = 1.1
    for log_temperature in (-1.0, 0.0, 1.0, 2.0):
        temperature.log_temperature.fill_(log_temperature)
        probability = temperature(logits, torch.tensor(70)).exp()
        assert probability.sum().item() == pytest.approx(1.0)
        assert probability.argsort().tolist() == logits.argsort().tolist()
        assert probability.max() < last
        last = probability.max().item()


def test_the_temperature_is_linear_in_the_logarithm_and_constant_beyond_the_knots() -> None:
    temperature = EpochTemperature()
    temperature.log_temperature.copy_(torch.arange(len(KNOTS)).float())
    numbers = torch.tensor([0, 1, 5, 10, 20, 7, KNOTS[-1], 10**9])
    found = temperature._weights(numbers) @ temperature.log_temperature
    top = len(KNOTS) - 1.0
    expected = torch.tensor([0, 0, 0, 1, 2, torch.tensor(1.4).log2().item(), top, top])
    torch.testing.assert_close(found, expected)


def test_logits_at_zero_leave_the_temperature_at_one() -> None:
    temperature = EpochTemperature()
    temperature.fit(torch.zeros(100, 2), torch.full((100,), 50), torch.arange(100) % 2)
    torch.testing.assert_close(temperature.log_temperature, torch.zeros(len(KNOTS)))


def test_the_fit_works_in_inference_mode() -> None:
    logits, num_epochs, label = overconfident(500, torch.Generator().manual_seed(0))
    temperature = EpochTemperature()
    with torch.inference_mode():
        temperature.fit(logits * 1, num_epochs * 1, label * 1)
    assert (temperature.log_temperature > 0).any()


def test_the_sample_takes_labelled_curves_at_epochs_that_exist() -> None:
    sample = CalibrationSample()
    logits = torch.arange(3 * 50).view(3, 50, 1).expand(-1, -1, 2).float()
    sample.update(logits, torch.tensor([50, 0, 7]), torch.tensor([1, 0, 0]))
    sample.update(logits, torch.tensor([50, 50, 50]), torch.tensor([-1, -1, -1]))
    values, num_epochs, label = sample.compute()
    assert label.unique().tolist() == [0, 1]
    assert num_epochs.min() == 1
    assert num_epochs[label == 1].max() == 50
    assert num_epochs[label == 0].max() == 7
    start = torch.where(label == 1, 0, 100)
    assert torch.equal(values[:, 0], (start + num_epochs - 1).float())


def test_sampled_epochs_span_the_curve() -> None:
    seen = sampled_epochs(torch.tensor([1, 1200]))
    assert seen[0].unique().tolist() == [1]
    assert seen[1].min() == 2
    assert seen[1].max() == 1200
    assert (seen[1] < 60).sum() >= 8
