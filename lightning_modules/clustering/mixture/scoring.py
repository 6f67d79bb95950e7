"""Fisher scoring: Newton's method with the information that the stars' own scores give.

Every parameter, η, ν and the sky's slope among them, moves at once. The scores are derivatives of
each star's log likelihood; their outer products sum to the information matrix, whose inverse is the
covariance of the answer (Berndt, Hall, Hall & Hausman 1974). Torch only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from lightning_modules.clustering.mixture.coordinates import coordinates, parameters_at
from lightning_modules.clustering.mixture.footprint import Footprint
from lightning_modules.clustering.mixture.likelihood import (
    Integrals,
    Parameters,
    Stars,
    log_terms,
)

LogPrior = Callable[[Parameters], Tensor]
MAX_STEP = 2.0
"""Of any coordinate in one step."""
LEAST_RIDGE = 1e-3
"""First addition to the curvature if a step is too long."""
TRUST = 1e-3
"""First damping."""
CHUNK = 4096
"""Stars in memory whose scores are taken at once."""


def log_prior(parameters: Parameters) -> Tensor:
    """Return ln η ~ N(ln 1.1, 0.15) and ln ν ~ N(ln 2, 0.5), up to a constant, ()."""
    inflation = (parameters.error_scale / 1.1).log() / 0.15
    steepness = (parameters.degrees / 2.0).log() / 0.5
    return -0.5 * (inflation.square() + steepness.square().sum(-1))


class Sums(NamedTuple):
    """Sums over stars.

    Derivatives are those with respect to all entries of the parameters and the integrals, in
    order; `Target` takes them to the coordinates.

    Attributes:
        likelihood: Log likelihood, ().
        gradient: (R,).
        information: Of the outer products of the stars' scores, (R, R).
    """

    likelihood: Tensor
    gradient: Tensor
    information: Tensor


def information(
    parameters: Parameters, integrals: Integrals, stars: Stars, odds: Tensor | None = None
) -> tuple[Sums, Tensor]:
    """Return sums over stars, and the responsibilities of the components, (n, K + F).

    Args:
        parameters: Of the mixture.
        integrals: That belong to them.
        stars: n of them.
        odds: Of their photometry, see `log_terms`.
    """
    rows = len(stars.motion)
    copies = [
        value.detach().expand(rows, *value.shape).requires_grad_()
        for value in (*parameters, *integrals)
    ]
    with torch.enable_grad():
        own = Parameters(*copies[: len(parameters)])
        terms = log_terms(own, Integrals(*copies[len(parameters) :]), stars, odds)
        total = terms.logsumexp(1).sum()
        used = [copy for copy in copies if copy.numel()]
        found = torch.autograd.grad(total, used)
    scores = torch.cat([score.reshape(rows, -1) for score in found], 1)
    share = terms.detach().softmax(1)
    return Sums(total.detach(), scores.sum(0), scores.T @ scores), share


class Target(NamedTuple):
    """What is maximised, log likelihood + log prior, and its derivatives in the coordinates.

    Attributes:
        value: ().
        gradient: (P,).
        curvature: Information of the stars and of the prior, (P, P).
    """

    value: Tensor
    gradient: Tensor
    curvature: Tensor

    @classmethod
    def of(
        cls,
        parameters: Parameters,
        footprint: Footprint,
        sums: Sums,
        prior: LogPrior,
    ) -> "Target":
        """Return the target at parameters.

        Args:
            parameters: Where the sums were taken.
            footprint: The sky that was looked at.
            sums: Of `information`.
            prior: Log prior of parameters.
        """
        likelihood, gradient, matrix = sums
        theta, k = coordinates(parameters), parameters.num_clusters
        f = len(parameters.field_mean)

        def log_prior_at(theta: Tensor) -> Tensor:
            return prior(parameters_at(theta, k, f))

        with torch.enable_grad():
            free = theta.detach().requires_grad_()
            value = log_prior_at(free)
            (pull,) = torch.autograd.grad(value, free)
            second = -hessian(log_prior_at, theta, vectorize=True)
        chain = _chain(theta, k, f, footprint)
        values, vectors = torch.linalg.eigh(0.5 * (second + second.T))
        curvature = (vectors * values.clamp_min(0.0)) @ vectors.T
        return cls(
            likelihood + value.detach(),
            chain.T @ gradient + pull,
            chain.T @ matrix @ chain + curvature,
        )


class Ascent:
    """Damped steps uphill from the best point so far; one that makes it worse is taken back.

    The curvature is the information, which is exact only near a true model, plus a correction that
    makes it agree with the gradients at the points tried, taken back or not (the BFGS formula:
    Dennis, Gay & Welsch 1981 for least squares).

    Attributes:
        theta: Best coordinates so far, (P,).
        next: Coordinates to try next, (P,).
        target: Value and derivatives there.
        correction: To the information, (P, P).
        damping: Share of the curvature's diagonal that is added to it.
        expected: Gain that the last step should have made.
        kept: Whether the coordinates tried last are the best.
    """

    def __init__(self) -> None:
        self.theta: Tensor | None = None
        self.next: Tensor | None = None
        self.target: Target | None = None
        self.correction: Tensor | None = None
        self.damping = TRUST
        self.expected = 0.0
        self.kept = True
        self.lifted = False

    @property
    def best(self) -> tuple[Tensor, Target]:
        """The best coordinates so far, and what is maximised there; after a first step."""
        assert self.theta is not None
        assert self.target is not None
        return self.theta, self.target

    def lift(self, gain: float) -> None:
        """Take note that the target rose at the best coordinates, by something else than a step."""
        theta, target = self.best
        self.theta, self.target = theta, target._replace(value=target.value + gain)
        self.lifted = True

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        target = None if self.target is None else self.target._asdict()
        return {**vars(self), "target": target}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        target = None if state["target"] is None else Target(**state["target"])
        vars(self).update({**state, "target": target})

    def to(self, device: torch.device) -> None:
        """Move all tensors to a device."""
        if self.theta is None:
            return
        theta, target = self.best
        assert self.next is not None
        assert self.correction is not None
        self.theta, self.next = theta.to(device), self.next.to(device)
        self.target = Target(*(values.to(device) for values in target))
        self.correction = self.correction.to(device)

    def step(self, theta: Tensor, target: Target) -> tuple[Tensor, float]:
        """Return the coordinates to try next and the gain in log likelihood expected there.

        Args:
            theta: Coordinates that were tried, (P,).
            target: There.
        """
        if self.theta is None or self.target is None:
            self.theta, self.target = theta, target
            self.correction = torch.zeros_like(target.curvature)
        elif torch.allclose(theta, self.theta, rtol=0.0, atol=1e-9):  # a step too small to judge
            self.target = target
        else:
            self._judge(theta, target)
        move, self.expected = self._move(self.target)
        self.next = self.theta + move
        return self.next, self.expected

    def _judge(self, theta: Tensor, target: Target) -> None:
        """Keep a step or take it back; learn from it in either case."""
        before, at_before = self.best
        moved, bent = theta - before, at_before.gradient - target.gradient
        gain = float(target.value - at_before.value)
        self.kept = gain >= 0.0
        if self.kept:
            self.theta, self.target = theta, target
        self._trust(gain / max(self.expected, 1e-300))
        if not self.lifted:  # else the gradient has changed by more than the step
            self._correct(self.best[1].curvature, moved, bent)
        self.lifted = False

    def _trust(self, ratio: float) -> None:
        """Change the damping by the ratio of the gain to the gain expected."""
        factor = 0.2 if ratio > 0.5 else 4.0 if ratio < 0.0 else 2.0 if ratio < 0.2 else 1.0
        self.damping = min(max(self.damping * factor, 1e-6), 1e6)

    def _correct(self, curvature: Tensor, moved: Tensor, bent: Tensor) -> None:
        """Make the curvature agree with how much the gradient changed along a step."""
        assert self.correction is not None
        if not bool(torch.linalg.cholesky_ex(curvature + self.correction).info == 0):
            self.correction = torch.zeros_like(curvature)
        whole = curvature + self.correction
        pull = whole @ moved
        expected, seen = float(moved @ pull), float(moved @ bent)
        if seen < 0.2 * expected:  # Powell's damping keeps the curvature positive
            share = 0.8 * expected / (expected - seen)
            bent, seen = share * bent + (1.0 - share) * pull, 0.2 * expected
        outer = torch.outer(bent, bent) / seen - torch.outer(pull, pull) / expected
        self.correction = self.correction + outer

    def _move(self, target: Target) -> tuple[Tensor, float]:
        """Return the damped step and the gain that the quadratic model expects of it."""
        assert self.correction is not None
        whole = target.curvature + self.correction
        damping, move = self.damping * (whole.diagonal() + 1.0), torch.full((1,), torch.inf)
        ridge = 0.1 * LEAST_RIDGE
        while float(move.abs().max()) > MAX_STEP:  # holds back what little is known of, no more
            move = torch.linalg.solve(whole + torch.diag(damping + ridge), target.gradient)
            ridge = 10.0 * ridge
        return move, float(target.gradient @ move - 0.5 * move @ whole @ move)


def climb(
    start: Parameters,
    stars: Stars,
    footprint: Footprint,
    prior: LogPrior = log_prior,
    steps: int = 30,
    tolerance: float = 0.1,
    odds: Tensor | None = None,
) -> tuple[Parameters, float]:
    """Improve a mixture by Fisher scoring on stars in memory; return it with its target's value.

    Args:
        start: First parameters.
        stars: n of them.
        footprint: The sky that was looked at.
        prior: Log prior of parameters.
        steps: At most.
        tolerance: Expected gain in log likelihood at which it ends.
        odds: Of the stars' photometry, see `log_terms`.
    """
    ascent, tried = Ascent(), start
    for _ in range(steps):
        sums = _information_in_chunks(tried, Integrals.of(tried, footprint), stars, odds)
        target = Target.of(tried, footprint, sums, prior)
        theta, gain = ascent.step(coordinates(tried), target)
        if gain < tolerance:
            break
        tried = parameters_at(theta, start.num_clusters, len(start.field_mean))
    theta, target = ascent.best
    best = parameters_at(theta, start.num_clusters, len(start.field_mean))
    return best, float(target.value)


def _information_in_chunks(
    parameters: Parameters, integrals: Integrals, stars: Stars, odds: Tensor | None
) -> Sums:
    """Return the sums of `information` over any number of stars, few of them in memory twice."""
    parts = []
    for start in range(0, len(stars.motion), CHUNK):
        rows = slice(start, start + CHUNK)
        own = None if odds is None else odds[rows]
        parts.append(information(parameters, integrals, stars.take(rows), own)[0])
    return Sums(*(torch.stack(values).sum(0) for values in zip(*parts, strict=True)))


def _chain(theta: Tensor, num_clusters: int, num_field: int, footprint: Footprint) -> Tensor:
    """Return derivatives of parameters and integrals with respect to the coordinates, (R, P)."""

    def flat(theta: Tensor) -> Tensor:
        return torch.cat([v.reshape(-1) for v in parameters_at(theta, num_clusters, num_field)])

    direct = jacobian(flat, theta, vectorize=True)
    with torch.enable_grad():
        free = theta.detach().requires_grad_()
        integrals = Integrals.of(parameters_at(free, num_clusters, num_field), footprint)
        values = torch.cat([integrals.log_share, integrals.log_sky[None]])
        rows = [torch.autograd.grad(value, free, retain_graph=True)[0] for value in values]
    return torch.cat([direct, torch.stack(rows)])
