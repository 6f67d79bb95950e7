"""The photometric gate: shares by magnitude and colour, gaps, and that it never makes it worse."""

import pytest
import torch
from torch import Tensor

from lightning_modules.clustering.mixture.gate import SIDE, PhotometricGate, Photometry
from tests.lightning_modules.clustering.mixture.drawing import tensor

KINDS: list[Photometry] = ["histogram", "network"]
WEIGHT = tensor(0.2, 0.5, 0.3)  # a cluster and two components of a field
NONE = float("nan")


def stars(count: int = 4000) -> tuple[Tensor, Tensor]:
    """Return photometry and responsibilities: cluster stars are blue, all the more if bright."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    photometry = torch.stack([14.0 + 6.0 * uniform[:, 0], 2.0 * uniform[:, 1]], 1)
    member = torch.sigmoid(3.0 - 4.0 * uniform[:, 1] - 2.0 * uniform[:, 0])
    field = (1.0 - member)[:, None] * tensor(0.6, 0.4)
    return photometry, torch.cat([member[:, None], field], 1)


def opened(kind: Photometry, seed: int = 0) -> PhotometricGate:
    photometry, share = stars()
    gate = PhotometricGate(kind, 3, seed)
    gate.span(photometry)
    gate.improve(gate.totals(photometry, share, 1), WEIGHT)
    return gate


def shares(gate: PhotometricGate, photometry: Tensor) -> Tensor:
    return (WEIGHT.log() + gate.log_odds(photometry, 1, 2)).softmax(1)


@pytest.mark.parametrize(("kind", "error"), [("histogram", 0.08), ("network", 0.03)])
def test_shares_follow_magnitude_and_colour(kind: Photometry, error: float) -> None:
    photometry, share = stars()
    found = shares(opened(kind), photometry)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found), dtype=torch.float64))
    assert float((found[:, 0] - share[:, 0]).abs().mean()) < error
    torch.testing.assert_close(found[:, 1] / found[:, 2], torch.full_like(share[:, 0], 5 / 3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_share_is_that_of_the_responsibilities(kind: Photometry) -> None:
    _, share = stars()
    found = opened(kind).mean_share(WEIGHT, 1)
    torch.testing.assert_close(found, share[:, :1].mean(0), rtol=0.02, atol=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_what_the_responsibilities_gain(kind: Photometry) -> None:
    photometry, share = stars()
    gate = PhotometricGate(kind, 3, 0)
    gate.span(photometry)
    before = (share * shares(gate, photometry).log()).sum()
    gain = gate.improve(gate.totals(photometry, share, 1), WEIGHT)
    after = (share * shares(gate, photometry).log()).sum()
    assert gain == pytest.approx(float(after - before))
    assert gain > 100.0


def test_a_star_without_colour_is_judged_by_its_magnitude() -> None:
    photometry, share = stars()
    photometry[::2, 1] = NONE
    gate = PhotometricGate("network", 3, 0)
    gate.span(photometry)
    assert int(gate.cells(photometry[:1])) % (SIDE + 1) == SIDE
    gate.improve(gate.totals(photometry, share, 1), WEIGHT)
    bright, faint = shares(gate, tensor([14.3, NONE], [19.7, NONE]))[:, 0]
    assert bright > faint + 0.2
    assert shares(gate, tensor([NONE, NONE])).isfinite().all()


def test_a_gate_without_photometry_changes_nothing() -> None:
    gate = PhotometricGate("network", 3, 0)
    nothing = torch.full((100, 2), NONE, dtype=torch.float64)
    gate.span(nothing)
    own = WEIGHT.expand(100, 3)
    assert gate.improve(gate.totals(nothing, own, 1), WEIGHT) == pytest.approx(0.0, abs=1e-6)
    torch.testing.assert_close(shares(gate, nothing), own, rtol=1e-5, atol=1e-5)


def test_the_network_depends_on_its_seed_alone() -> None:
    first, again, other = (opened("network", seed).table for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
