"""Where a fit begins: clusters are found one by one, without a centre and without labels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.clustering.mixture import em, scoring
from lightning_modules.clustering.mixture.candidates import Candidate, score, wide
from lightning_modules.clustering.mixture.footprint import (
    Footprint,
)
from lightning_modules.clustering.mixture.likelihood import (
    Integrals,
    Parameters,
    Stars,
    log_terms,
)
from lightning_modules.clustering.mixture.merging import overlapping

FLAT_PARALLAX = 0.05
"""First spread in parallax [mas] of a cluster's motions that are taken for the field's."""
WARM = 3.0 / 4.74
"""Dispersion of a near cluster, 3 km/s, in mas/yr for a parallax of 1 mas."""
MIN_STARS = 10
"""Members among the stars searched; fewer are no cluster."""
ROUNDS = ((10, 6), (15, 3), (60, 1))
"""Of the search from candidates: steps of EM, and how many mixtures go on."""


@dataclass(frozen=True)
class Seeding:
    """The search for clusters: the field alone, then one cluster more while it pays.

    Candidates sit on well-measured stars and are scored by the gain in log likelihood; EM goes on
    from the best ones, beside the field as it is and beside a fresh one; the likeliest is kept if
    it gains more than 5 ln n + 10 over the mixture without it, and over one in which its motions
    are one more component of the field: a cluster is a place too, smaller than the sky looked at.
    None is an answer.

    Attributes:
        max_clusters: Most components of clusters.
        num_field: Components of the field.
        seed: Fixes all draws.
        tails: Whether a component that shares centre and motion with another one is kept.
        num_candidates: Stars that candidates sit on.
        num_starts: Candidates that EM begins from.
    """

    max_clusters: int
    num_field: int = 3
    seed: int = 0
    tails: bool = False
    num_candidates: int = 300
    num_starts: int = 6

    def find(
        self,
        stars: Stars,
        footprint: Footprint,
        prior: scoring.LogPrior = scoring.log_prior,
    ) -> Parameters:
        """Return a mixture to begin the fit from.

        Args:
            stars: A random part of the stars, a few thousand.
            footprint: The sky that was looked at.
            prior: Log prior of parameters.
        """
        generator = torch.Generator().manual_seed(self.seed)
        field, _ = em.fit(self._field(stars, generator), stars, footprint, 40)
        found, value = scoring.climb(field, stars, footprint, prior)
        penalty = 5.0 * math.log(len(stars.motion)) + 10.0
        for _ in range(self.max_clusters):
            trial, trial_value = self._one_more(found, stars, footprint, prior, generator)
            if trial is None or trial_value - value < penalty:
                break
            _, spread = scoring.climb(spread_out(trial), stars, footprint, prior)
            if trial_value - spread < penalty:
                break
            found, value = trial, trial_value
        return found

    def _one_more(
        self,
        parameters: Parameters,
        stars: Stars,
        footprint: Footprint,
        prior: scoring.LogPrior,
        generator: torch.Generator,
    ) -> tuple[Parameters | None, float]:
        """Return the best mixture with one cluster more, if any, and its target's value."""
        trials = [
            add_cluster(parameters, field, candidate)
            for candidate in self._candidates(parameters, stars, footprint, generator)
            for field in (parameters, self._field(stars, generator))
        ]
        if self.tails:
            trials += [add_cluster(parameters, parameters, twin) for twin in wide(parameters)]
        for steps, kept in ROUNDS:
            longer = [em.fit(trial, stars, footprint, steps) for trial in trials]
            longer = [trial for trial in longer if self._is_new(trial[0], stars, footprint)]
            longer.sort(key=lambda trial: -trial[1])
            trials = [trial for trial, _ in longer[:kept]]
        found = [scoring.climb(trial, stars, footprint, prior) for trial in trials]
        new = [trial for trial in found if self._is_new(trial[0], stars, footprint)]
        return new[0] if new else (None, -math.inf)

    def _is_new(self, parameters: Parameters, stars: Stars, footprint: Footprint) -> bool:
        """Return whether the last component has members, a place, and is no tail or may be one."""
        members = float(parameters.weight[parameters.num_clusters - 1]) * len(stars.motion)
        local = bool(parameters.radius[-1] < footprint.radius)
        if self.tails or parameters.num_clusters == 1 or members < MIN_STARS or not local:
            return members >= MIN_STARS and local
        error = em.error_of_motion(parameters, stars, footprint)
        return not bool(overlapping(parameters, error)[-1, :-1].any())

    def _field(self, stars: Stars, generator: torch.Generator) -> Parameters:
        """Return a field without clusters, from medians, spreads and a random nudge."""
        known = torch.where(stars.known, stars.motion, torch.nan)
        middle = known.nanmedian(0).values
        spread = 1.4826 * (known - middle).abs().nanmedian(0).values
        count = self.num_field
        nudge = torch.randn(count, 3, generator=generator, dtype=torch.float64)
        nudge[0] = 0.0
        width = spread * (0.7 + 1.5 * torch.arange(count, dtype=torch.float64)[:, None])
        covariance = torch.zeros(count, 6, dtype=torch.float64)
        covariance[:, [0, 3, 5]] = width.square()
        none = torch.zeros(0, dtype=torch.float64)
        return Parameters(
            torch.full((count,), 1.0 / count, dtype=torch.float64),
            none.view(0, 2), none.view(0, 3), none, none.view(0, 3), none,
            middle + 0.5 * spread * nudge, covariance,
            torch.tensor(1.1, dtype=torch.float64), torch.zeros(2, dtype=torch.float64),
        )  # fmt: skip

    def _candidates(
        self,
        parameters: Parameters,
        stars: Stars,
        footprint: Footprint,
        generator: torch.Generator,
    ) -> list[Candidate]:
        """Return the candidates of largest gain that differ from each other."""
        before = log_terms(parameters, Integrals.of(parameters, footprint), stars).logsumexp(1)
        error = stars.covariance[:, 3] + stars.covariance[:, 5]
        whole = torch.where(stars.known.all(1))[0]
        good = whole[error[whole].argsort()][: max(self.num_candidates, len(whole) // 2)]
        variance = float(torch.quantile(error[good] / 2.0, 0.25))
        drawn = torch.randperm(len(good), generator=generator)[: self.num_candidates]
        scored = []
        for star in good[drawn].tolist():
            parallax = float(
                (stars.motion[star, 0] - stars.covariance[star, 0].sqrt()).clamp_min(0)
            )
            near = (parallax * WARM) ** 2
            for spread in (variance, variance + near)[: 1 + (near > variance)]:
                scored += score(star, spread, before, stars, footprint)
        scored.sort(key=lambda candidate: -candidate.gain)
        return self._different(scored, footprint)

    def _different(self, scored: list[Candidate], footprint: Footprint) -> list[Candidate]:
        """Return the first candidates whose places or motions differ."""
        kept: list[Candidate] = []
        places: list[Tensor] = []
        for candidate in scored:
            error = (candidate.error.square() + candidate.variance).sqrt()
            place = candidate.centre / (0.1 * footprint.radius)
            place = torch.cat([place, candidate.mean / (3.0 * error)])
            if all(float((place - other).norm()) > 1.0 for other in places):
                kept.append(candidate)
                places.append(place)
            if len(kept) == self.num_starts:
                break
        return kept


def spread_out(parameters: Parameters) -> Parameters:
    """Return a mixture whose last cluster is one more component of the field.

    It moves as before but lies over the whole sky: what a cluster must be likelier than.
    """
    p, last = parameters, parameters.num_clusters - 1
    variance = p.dispersion[last].square() + em.MIN_VARIANCE
    flat = torch.zeros(1, 6, dtype=variance.dtype)
    flat[0, 0], flat[0, 3], flat[0, 5] = FLAT_PARALLAX**2, variance, variance
    return p._replace(
        weight=torch.cat([p.weight[:last], p.weight[last:].roll(-1)]),
        centre=p.centre[:last],
        shape=p.shape[:last],
        degrees=p.degrees[:last],
        mean=p.mean[:last],
        dispersion=p.dispersion[:last],
        field_mean=torch.cat([p.field_mean, p.mean[last:]]),
        field_covariance=torch.cat([p.field_covariance, flat]),
    )


def add_cluster(clusters: Parameters, field: Parameters, candidate: Candidate) -> Parameters:
    """Return a mixture with one cluster more.

    Args:
        clusters: Whose clusters stay.
        field: Whose field is taken.
        candidate: The new cluster, whose profile is Plummer's.
    """
    k, area = clusters.num_clusters, candidate.radius**2 / 2.0
    one = clusters.weight.new_ones(1)
    old = clusters.weight[:k]
    rest = (
        field.weight[field.num_clusters :]
        * (1.0 - old.sum())
        / (field.weight[field.num_clusters :].sum())
    )
    kept = 1.0 - candidate.share
    return clusters._replace(
        weight=torch.cat([kept * old, candidate.share * one, kept * rest]),
        centre=torch.cat([clusters.centre, candidate.centre[None]]),
        shape=torch.cat([clusters.shape, area * one.new_tensor([[1.0, 0.0, 1.0]])]),
        degrees=torch.cat([clusters.degrees, 2.0 * one]),
        mean=torch.cat([clusters.mean, candidate.mean[None]]),
        dispersion=torch.cat([clusters.dispersion, candidate.variance**0.5 * one]),
        field_mean=field.field_mean,
        field_covariance=field.field_covariance,
    )
