import pytest
import torch

from lightning_modules import SpectraVAE
from lightning_modules.spectra.labels import LabelScaling, monomials
from lightning_modules.spectra.network import SkipNetwork
from lightning_modules.spectra.output_layer import pixel_sum
from lightning_modules.spectra.pixels import PixelScaling, keep


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_reference_has_its_parameters() -> None:
    with torch.device("meta"):
        model = SpectraVAE(network="reference")
    assert count(model) == 75_305_765
    assert [layer.in_features for layer in model.net.encoder[::2]] == [  # type: ignore[union-attr]
        7517, 3757, 1878, 939, 469, 234, 117,
    ]  # fmt: skip
    assert model.net.decoder[-1].__class__ is torch.nn.GELU  # type: ignore[index]


def test_default_is_compact() -> None:
    with torch.device("meta"):
        assert 7.5e6 < count(SpectraVAE()) < 8.5e6


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("num_labels", [0, 1, 3, 12])
def test_any_number_of_labels(num_labels: int) -> None:
    torch.manual_seed(0)
    net = SkipNetwork(40, num_labels, 4, (8, 6))
    x, weight, u = torch.randn(5, 40), torch.rand(5, 40), torch.randn(5, num_labels)
    missing = torch.zeros(5, num_labels, dtype=torch.bool)
    mean, log_variance = net.encode(x, weight, u, missing)
    assert mean.shape == log_variance.shape == (5, 4)
    assert net.decode(mean, u, missing).shape == (5, 40)
    assert monomials(u).shape == (5, net.num_monomials)


def test_monomials_are_all_of_degree_one_and_two() -> None:
    found = monomials(torch.tensor([[2.0, 3.0]]))
    assert found.tolist() == [[2.0, 3.0, 4.0, 6.0, 9.0]]


def test_untrained_indicators_of_missing_labels_change_nothing() -> None:
    net = SkipNetwork(40, 2, 4, (8, 6))
    x, weight, u = torch.randn(5, 40), torch.rand(5, 40), torch.randn(5, 2)
    answers = [
        net.encode(x, weight, u, torch.full((5, 2), missing))[0] for missing in (True, False)
    ]
    assert torch.equal(*answers)


def test_keep_is_where() -> None:
    x = torch.tensor([[1.5, torch.nan, -3.0, torch.inf, -0.0, 1e9]])
    good = torch.tensor([[True, False, True, False, True, False]])
    found = keep(x.clone(), x.clone() + 1, good)
    assert torch.equal(found[0], torch.where(good, x, 0.0))
    assert torch.equal(found[1], torch.where(good, x + 1, 0.0))
    broken = keep(x.clone(), x.clone(), torch.ones_like(good))[0]
    assert broken.isnan().any()  # a NaN in a good pixel is an error of the data: it shows


def test_scaling_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"pixels \[1\] are not"):
        PixelScaling(3).assign(torch.ones(3), torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="leave out labels that no training star has"):
        LabelScaling(1).assign(torch.tensor([torch.nan]), torch.ones(1))


def test_labels_are_drawn_within_their_errors() -> None:
    torch.manual_seed(0)
    scaling = LabelScaling(2)
    label = torch.tensor([[5000.0, torch.nan]]).expand(20000, -1)
    error = torch.tensor([[100.0, 0.1]]).expand(20000, -1)
    drawn = scaling.draw(label, error, noise=2.0, dropout=0.25)
    assert drawn[:, 1].isnan().all()
    lost = drawn[:, 0].isnan()
    assert lost.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert drawn[~lost, 0].std().item() == pytest.approx(200.0, rel=0.03)
    assert torch.equal(scaling.draw(label[:1], torch.zeros(1, 2), 1.0, 0.0)[:, 0], label[:1, 0])


def test_pixel_sum_is_two_linear_layers() -> None:
    torch.manual_seed(0)
    shapes = (5, 3), (600, 3), (600,), (5, 8), (600, 8)
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    s, straight, bias, h, bent = inputs
    slope = torch.randn(5, 600)
    expected = s @ straight.mT + bias + h @ bent.mT
    gradients = torch.autograd.grad(expected, inputs, slope)
    found = pixel_sum(*inputs)
    torch.testing.assert_close(found, expected)
    for a, b in zip(torch.autograd.grad(found, inputs, slope), gradients, strict=True):
        torch.testing.assert_close(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        half = pixel_sum(*inputs)
    torch.testing.assert_close(half, expected, rtol=0.02, atol=0.1)
    assert half.dtype == torch.float32


def test_reference_takes_other_widths() -> None:
    net = SpectraVAE(64, 3, 4, network="reference", hidden_dims=[16, 8]).net
    shapes = [tuple(weight.shape) for weight in net.parameters() if weight.ndim == 2]
    assert shapes == [(16, 67), (8, 16), (4, 8), (4, 8), (8, 7), (16, 8), (64, 16)]


def test_reference_needs_pixels_to_halve() -> None:
    with pytest.raises(ValueError, match=r"at least 128 pixels, or model\.hidden_dims"):
        SpectraVAE(num_pixels=100, network="reference")
