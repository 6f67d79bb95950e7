"""Clusters are found without a centre, none where there are none, and each only once."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from lightning_modules.clustering.mixture.candidates import Candidate, score
from lightning_modules.clustering.mixture.likelihood import Integrals, log_terms
from lightning_modules.clustering.mixture.merging import cores, overlapping
from lightning_modules.clustering.mixture.seeding import (
    FLAT_PARALLAX,
    Seeding,
    add_cluster,
    spread_out,
)
from tests.lightning_modules.clustering.mixture.drawing import draw, full, mixture, square, tensor


@pytest.mark.parametrize("seed", [0, 1])
def test_both_clusters_are_found_and_no_third(seed: int) -> None:
    truth = mixture()
    stars, _ = draw(truth, 1500, seed)
    found = Seeding(max_clusters=3, seed=seed, num_candidates=100, num_starts=4).find(
        stars, square()
    )
    assert found.num_clusters == 2
    order = found.weight[:2].argsort(descending=True)
    torch.testing.assert_close(found.mean[order], truth.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(found.centre[order], truth.centre, rtol=0, atol=0.015)
    torch.testing.assert_close(found.weight[order], truth.weight[:2], rtol=0, atol=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_an_empty_field_has_no_cluster(seed: int) -> None:
    stars, _ = draw(mixture(0, 3), 1500, seed)
    assert Seeding(max_clusters=2, seed=seed).find(stars, square()).num_clusters == 0


def test_the_search_is_the_same_each_time() -> None:
    stars, _ = draw(mixture(), 1000)
    first, second = (
        Seeding(1, num_candidates=50, num_starts=2).find(stars, square()) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_badly_measured_members_are_no_cluster_of_their_own() -> None:
    """A fifth of a cluster's members have errors that are far larger than stated."""
    truth = mixture(1)._replace(dispersion=tensor(0.1))
    stars, component = draw(truth, 1500)
    generator = torch.Generator().manual_seed(1)
    bad = (component == 0) & (torch.rand(1500, generator=generator) < 0.2)
    noise = torch.randn(1500, 3, generator=generator, dtype=torch.float64)
    wrong = stars.motion + bad[:, None] * noise * tensor(0.0, 3.0, 3.0)
    stars = stars._replace(motion=wrong)
    alone = Seeding(max_clusters=2, num_candidates=100, num_starts=4).find(stars, square())
    assert alone.num_clusters == 1
    both = Seeding(2, tails=True, num_candidates=100, num_starts=4).find(stars, square())
    core = cores(both, torch.zeros(2).double())
    assert both.num_clusters == 2
    assert len(set(core.tolist())) == 1
    assert both.dispersion[core[0]] < both.dispersion.max() / 2


def test_components_overlap_by_centre_and_motion() -> None:
    p, sure = mixture(), tensor(0.0, 0.0)
    assert overlapping(p, sure).equal(torch.eye(2, dtype=torch.bool))
    twin = p._replace(
        centre=p.centre[:1] + tensor([0.0, 0.0], [0.01, 0.0]),
        mean=p.mean[:1] + tensor([0.0, 0.0, 0.0], [0.5, 1.0, 0.0]),
        dispersion=tensor(0.1, 1.5),
    )
    assert overlapping(twin, sure).all()
    assert cores(twin, sure).tolist() == [0, 0]
    assert cores(twin._replace(dispersion=tensor(1.5, 0.1)), sure).tolist() == [1, 1]
    assert cores(twin._replace(dispersion=tensor(0.1, 0.5)), sure).tolist() == [0, 1]  # by motion
    far = twin._replace(centre=p.centre[:1] + tensor([0.0, 0.0], [0.1, 0.0]))
    assert cores(far, sure).tolist() == [0, 1]


def test_motions_that_errors_cannot_tell_apart_are_one() -> None:
    p = mixture()
    cold = p._replace(
        centre=p.centre[[0, 0]],
        mean=p.mean[[0, 0]] + tensor([0.0, 0.0, 0.0], [0.0, 0.02, 0.0]),
        dispersion=tensor(1e-3, 2e-3),
    )
    assert cores(cold, tensor(0.001, 0.001)).tolist() == [0, 1]
    assert cores(cold, tensor(0.006, 0.006)).tolist() == [0, 0]


def test_a_candidate_gains_nothing_by_motions_that_are_unknown() -> None:
    p, sky = mixture(1), square()
    stars, component = draw(p, 600)
    known = torch.ones(600, 3, dtype=torch.bool)
    known[::2] = False
    filled = [torch.where(known, stars.motion, value) for value in (0.0, 7.0)]
    star = int(torch.where(known[:, 0] & (component == 0))[0][0])
    found = []
    for motion in filled:
        gaps = stars._replace(motion=motion, known=known)
        before = log_terms(p, Integrals.of(p, sky), gaps).logsumexp(1)
        found.append([candidate.gain for candidate in score(star, 0.1, before, gaps, sky)])
    assert found[0] == found[1]


def test_a_new_cluster_takes_its_share_from_all() -> None:
    p = mixture()
    field = mixture(0, 2)._replace(field_mean=torch.zeros(2, 3, dtype=torch.float64))
    new = Candidate(0.1, tensor(0.1, 0.2), tensor(0.3, 1.0, 2.0), torch.ones(3), 0.05, 0.04, 0.2)
    found = add_cluster(p, field, new)
    assert float(found.weight.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(found.weight[:3], torch.cat([0.8 * p.weight[:2], tensor(0.2)]))
    assert float(found.radius[2]) == pytest.approx(0.05)
    assert float(found.dispersion[2]) == pytest.approx(0.2)
    assert torch.equal(found.centre[2], new.centre)
    assert torch.equal(found.mean[2], new.mean)
    assert found.field_mean is field.field_mean


def test_a_cluster_spread_over_the_sky_is_one_more_component_of_the_field() -> None:
    p, sky = mixture(), square()
    stars, _ = draw(p, 100)
    found = spread_out(p)
    assert found.num_clusters == 1
    torch.testing.assert_close(found.weight, p.weight[[0, 2, 3, 1]])
    terms = log_terms(found, Integrals.of(found, sky), stars)
    torch.testing.assert_close(
        terms[:, :3], log_terms(p, Integrals.of(p, sky), stars)[:, [0, 2, 3]]
    )
    spread = torch.diag(tensor(FLAT_PARALLAX**2, 0.15**2, 0.15**2))
    matrix = p.error_scale**2 * full(stars.covariance) + spread
    kinematic = MultivariateNormal(p.mean[1], matrix).log_prob(stars.motion)
    density = stars.position @ p.slope - sky.log_integral(p.slope)
    torch.testing.assert_close(
        terms[:, 3], p.weight[1].log() + density + kinematic, rtol=1e-5, atol=1e-5
    )
