"""The error-aware mixture's state, and its fit in passes over the training split."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.clustering.mixture import scoring
from lightning_modules.clustering.mixture.coordinates import (
    coordinates,
    count_coordinates,
    parameters_at,
)
from lightning_modules.clustering.mixture.footprint import Footprint, Grid
from lightning_modules.clustering.mixture.gate import PHOTOMETRY, PhotometricGate, Photometry
from lightning_modules.clustering.mixture.likelihood import (
    Integrals,
    Parameters,
    Stars,
    log_terms,
)
from lightning_modules.passes import PassModule

GATE_WAITS = 1.0
"""Gain in log likelihood of the next step of the other parameters, below which the gate moves."""


class MixturePasses(PassModule):
    """The parameters of the mixture, their errors and their gate, as buffers, and how they are fit.

    A pass sums the scores of all stars and their outer products. From these sums, which do not grow
    with the number of stars, Fisher scoring moves all parameters at once; the gate, where there is
    one, moves when those are nearly still. The buffers hold the best parameters so far; those that
    the pass in progress tries are the ascent's. A checkpoint holds all that the next step depends
    on.

    Args:
        max_clusters: Most components that are clusters.
        num_field: Components of the field.
        photometry: Of the gate.
        seed: Of the gate's network.
        tolerance: The fit ends when the next step would raise the log likelihood by less.
    """

    final_state_is_best: ClassVar[bool] = True
    num_clusters: Tensor
    curvature: Tensor
    occupied: Tensor
    corner: Tensor
    cell: Tensor

    def __init__(
        self, max_clusters: int, num_field: int, photometry: Photometry, seed: int, tolerance: float
    ) -> None:
        super().__init__(tolerance=0.0)  # the loss of a step taken back would end the fit
        self.max_clusters, self.num_field = max_clusters, num_field
        self.min_gain = tolerance
        nothing = Parameters.zeros(max_clusters, num_field)
        size = count_coordinates(max_clusters, num_field)
        buffers = {**nothing._asdict(), **Grid.empty()._asdict()}
        buffers["num_clusters"] = torch.tensor(-1)  # not searched for yet
        buffers["curvature"] = torch.zeros(size, size, dtype=torch.float64)
        for name, value in buffers.items():
            self.register_buffer(name, value)
        has_gate = photometry != "none"
        self.gate = PhotometricGate(photometry, max_clusters, seed) if has_gate else None
        self.ascent = scoring.Ascent()
        self.cached_footprint: Footprint | None = None
        self.register_load_state_dict_post_hook(_forget_footprint)

    @property
    def mixture(self) -> Parameters:
        """The best parameters so far, of the components that are used.

        Raises:
            ValueError: If nothing was fitted yet.
        """
        if int(self.num_clusters) < 0:
            raise ValueError("this ClusterMixture was not fitted yet; call Trainer.fit first")
        return self._buffers_of_parameters().used(int(self.num_clusters))

    @property
    def tried(self) -> Parameters:
        """The parameters that the pass in progress tries: the ascent's next step, if any."""
        theta, best = self.ascent.next, self.mixture
        return best if theta is None else parameters_at(theta, best.num_clusters, self.num_field)

    @property
    def footprint(self) -> Footprint:
        """The sky that the training stars cover."""
        if self.cached_footprint is None or self.cached_footprint.cells.device != self.cell.device:
            self.cached_footprint = Footprint(Grid(self.occupied, self.corner, self.cell))
        return self.cached_footprint

    def log_prior(self, parameters: Parameters) -> Tensor:
        """Return the log prior of parameters, (), differentiable: of η and ν by default.

        ln η ~ N(ln 1.1, 0.15), ln ν ~ N(ln 2, 0.5). A subclass adds terms to it.
        """
        return scoring.log_prior(parameters)

    def begin(self, grid: Grid, photometry: Tensor | None, parameters: Parameters) -> None:
        """Take what a search found.

        Args:
            grid: The sky that the training stars cover.
            photometry: Magnitudes and colours that the gate spans, (n, 2), or None without a gate.
            parameters: Of the mixture.
        """
        for name, value in grid._asdict().items():
            self.get_buffer(name).copy_(value)
        self.cached_footprint = None
        self.num_clusters.fill_(parameters.num_clusters)
        self._assign(parameters)
        if self.gate is not None and photometry is not None:
            self.gate.span(photometry)

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Ask for the covariance, and for magnitudes and colours if the shares depend on them."""
        shapes: dict[str, tuple[tuple[int, ...], str]] = {"covariance": ((5, 5), "")}
        if self.gate is not None:
            shapes |= {name: ((), "photometry") for name in PHOTOMETRY}
        return shapes

    def accumulate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums of -log p and of the scores and their outer products at the parameters tried.

        With a gate also the responsibilities, summed in cells of magnitude and colour.
        """
        stars = _stars_of(batch)
        tried, odds = self.tried, self.odds(batch)
        integrals = Integrals.of(tried, self.footprint)
        sums, share = scoring.information(tried, integrals, stars, odds)
        found = {"loss": -sums.likelihood, **sums._asdict()}
        if self.gate is not None:
            photometry = photometry_of(batch)
            found["totals"] = self.gate.totals(photometry, share, tried.num_clusters)
        return found

    def update(self, sums: dict[str, Tensor]) -> None:
        """Keep the best parameters; step by Fisher scoring, or the gate, or end the fit."""
        tried = self.tried
        whole = scoring.Sums(*(sums[name] for name in scoring.Sums._fields))
        target = scoring.Target.of(tried, self.footprint, whole, self.log_prior)
        _, gain = self.ascent.step(coordinates(tried), target)
        best, at_best = self.ascent.best
        self.curvature.zero_()[: len(best), : len(best)] = at_best.curvature
        if self.gate is not None and gain < GATE_WAITS:
            gain += self._improve_gate(self.gate, sums["totals"], tried.weight)
        if gain < self.min_gain:
            self.converged = True
            self.run_record["stop_reason"] = (
                f"the next step would gain {gain:.1e} in log likelihood, less than {self.min_gain}"
            )
        self._assign(parameters_at(best, tried.num_clusters, self.num_field))

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the mean -log p of a batch in nats; in training keep the sums.

        Args:
            batch: With `features` and `covariance`.
            stage: `train`, `val` or `test`.
        """
        if stage == "train":
            return super().step(batch, stage)
        return {"loss": -self.log_terms(batch).logsumexp(1).mean()}

    @torch.no_grad()
    def log_terms(self, batch: Batch, parameters: Parameters | None = None) -> Tensor:
        """Return the log of each component's share in the density, (B, K + F).

        Args:
            batch: With `features` and `covariance`.
            parameters: Of the mixture; the fitted ones by default.
        """
        stars = _stars_of(batch)
        mixture = self.mixture if parameters is None else parameters
        return log_terms(mixture, Integrals.of(mixture, self.footprint), stars, self.odds(batch))

    def on_train_start(self) -> None:
        """Move what a checkpoint brought of the ascent to where the stars will be."""
        super().on_train_start()
        self.ascent.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save also what the next step of the ascent depends on."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["astrolit"]["ascent"] = self.ascent.state()
        checkpoint["astrolit"]["min_gain"] = self.min_gain

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` saved."""
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get("astrolit", {})
        if "ascent" in saved and "min_gain" not in saved:
            raise ValueError(
                f"this checkpoint is of an older {type(self).__name__}, with other parameters; "
                "fit the data anew"
            )
        if "ascent" in saved:
            self.ascent.restore(saved["ascent"])
            self.converged &= self.min_gain >= saved["min_gain"]  # a smaller one typed now goes on

    def _buffers_of_parameters(self) -> Parameters:
        """Return the buffers, with rows for all clusters that there may be."""
        return Parameters(*(self.get_buffer(name) for name in Parameters._fields))

    def _assign(self, parameters: Parameters) -> None:
        """Fill the buffers."""
        padded = parameters.padded(self.max_clusters)
        for buffer, value in zip(self._buffers_of_parameters(), padded, strict=True):
            buffer.copy_(value)

    def _improve_gate(self, gate: PhotometricGate, totals: Tensor, weight: Tensor) -> float:
        """Make the gate anew after a step that was kept; return the least that it gains.

        After one that was taken back the responsibilities are not those of the best parameters.
        """
        if not self.ascent.kept:
            return math.inf
        rise = gate.improve(totals, weight)
        self.ascent.lift(rise)
        return max(rise, 0.0)

    def odds(self, batch: Batch) -> Tensor | None:
        """Return the log odds that the photometry of stars gives, (B, K + F)."""
        if self.gate is None:
            return None
        return self.gate.log_odds(photometry_of(batch), int(self.num_clusters), self.num_field)


def photometry_of(batch: Batch) -> Tensor:
    """Return magnitude and colour of a batch, (B, 2)."""
    return torch.stack([batch[name] for name in PHOTOMETRY], 1)


def _stars_of(batch: Batch) -> Stars:
    """Return the stars of a batch."""
    return Stars.of_batch(batch["features"], batch["covariance"], batch.get("good"))


def _forget_footprint(module: torch.nn.Module, *_: object) -> None:
    """Make the footprint anew from the buffers that were loaded."""
    assert isinstance(module, MixturePasses)
    module.cached_footprint = None
