"""Star clusters and a field as a mixture that knows the error of every star."""

import math
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.clustering.mixture import scoring
from lightning_modules.clustering.mixture.coordinates import (
    coordinates,
    count_coordinates,
    parameters_at,
)
from lightning_modules.clustering.mixture.description import lines, rows
from lightning_modules.clustering.mixture.footprint import Footprint, Grid
from lightning_modules.clustering.mixture.gate import PhotometricGate, Photometry
from lightning_modules.clustering.mixture.likelihood import (
    Integrals,
    Parameters,
    Stars,
    log_terms,
)
from lightning_modules.clustering.mixture.merging import cores
from lightning_modules.clustering.mixture.search import Sample
from lightning_modules.clustering.mixture.seeding import Seeding
from lightning_modules.passes import PassModule

GATE_WAITS = 1.0
"""Gain in log likelihood of the next step of the other parameters, below which the gate moves."""
FEATURES = ["x", "y", "parallax", "pmra", "pmdec"]


class ClusterMixture(PassModule):
    """Finds star clusters in a field, with a membership probability for every star.

    A star at x on the sky with u = (parallax, proper motion) and covariance C of u has the density

        Σ_k π_k S_k(x) N(u; m_k, η² C + Σ_k(r)) + Σ_j π_j F(x) N(u; m_j, η² C + Σ_j).

    Cluster k: S_k is a bivariate Student-t with ν_k degrees of freedom and shape matrix A_k,
    divided by its share inside the footprint (ν = 2 is Plummer's profile, ν = γ - 2 that of Elson,
    Fall & Freeman 1987, A_k the ellipticity); Σ_k(r) = diag(0, s², s²) with s² = σ_k² (1 +
    r²/ν_k)^(-1/2), r² = (x - c_k)ᵀ A_k⁻¹ (x - c_k). Field: Gaussians of the true u (extreme
    deconvolution) times one log-linear density F over the footprint, which is an occupancy grid of
    the training stars. η multiplies all formal errors. What a star lacks of u is marginalised.

    Nothing is told where clusters are or how many: on a random part of the training split the field
    is fitted alone, then clusters are added one by one while each gains more than 5 ln n + 10 in
    log likelihood (`Seeding`); none is an answer. The passes then fit all parameters at once to the
    whole training split by Fisher scoring, under the priors of `log_prior`, and end when the next
    step would gain less than `tolerance`. Memory does not grow with the number of stars, and every
    number of processes finds the same.

    All parameters are buffers in physical units (`mixture` returns them; rows beyond
    `num_clusters` are unused). A subclass adds physics to `log_prior`.

    Reference: Vasiliev & Baumgardt 2021 (arXiv:2102.09568) for the model of the errors and the
    clusters; Bovy, Hogg & Roweis 2011 (arXiv:0905.2979) for the field.

    Args:
        max_clusters: Most components that are clusters.
        num_field: Components of the field.
        tails: Whether a component that shares centre and motion with a cluster, as badly measured
            members of a crowded core do, may be kept beside it: the cluster's probability is then
            the sum of both, and `predict_step` gives the share of such components as `tail`.
        seed: Fixes the draws of the search.
        search_stars: Stars that clusters are searched among.
        tolerance: The fit ends when the next step would raise the log likelihood by less.
    """

    field_column: ClassVar[int] = 0
    """Column of `probability` that is the field."""
    num_clusters: Tensor
    covariance: Tensor
    occupied: Tensor
    corner: Tensor
    cell: Tensor

    def __init__(
        self,
        max_clusters: int = 3,
        num_field: int = 3,
        tails: bool = False,
        photometry: Photometry = "none",
        seed: int = 0,
        search_stars: int = 3000,
        tolerance: float = 0.1,
    ) -> None:
        super().__init__(tolerance=0.0)  # the loss of a step taken back would end the fit
        if max_clusters < 0 or min(num_field, search_stars) < 1 or tolerance < 0:
            raise ValueError(
                f"model.max_clusters={max_clusters} and model.tolerance={tolerance} must not be "
                f"negative, model.num_field={num_field} and model.search_stars={search_stars} at "
                "least 1"
            )
        self.save_hyperparameters()
        self.max_clusters, self.num_field = max_clusters, num_field
        self.seeding = Seeding(max_clusters, num_field, seed, tails=tails)
        self.search_stars, self.min_gain = search_stars, tolerance
        nothing = Parameters.zeros(max_clusters, num_field)
        size = count_coordinates(max_clusters, num_field)
        buffers = {**nothing._asdict(), **Grid.empty()._asdict()}
        buffers["num_clusters"] = torch.tensor(-1)  # not searched for yet
        buffers["covariance"] = torch.zeros(size, size, dtype=torch.float64)
        for name, value in buffers.items():
            self.register_buffer(name, value)
        has_gate = photometry != "none"
        self.gate = PhotometricGate(photometry, max_clusters, seed) if has_gate else None
        self.ascent = scoring.Ascent()
        self.cached_footprint: Footprint | None = None
        self.register_load_state_dict_post_hook(_forget_footprint)

    @property
    def mixture(self) -> Parameters:
        """The parameters of the components that are used.

        Raises:
            ValueError: If nothing was fitted yet.
        """
        if int(self.num_clusters) < 0:
            raise ValueError("this ClusterMixture was not fitted yet; call Trainer.fit first")
        return self._buffers_of_parameters().used(int(self.num_clusters))

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

    def setup(self, stage: str) -> None:
        """Refuse data whose features are others than the five of astrometry."""
        super().setup(stage)
        names = getattr(getattr(self.trainer, "datamodule", None), "features", FEATURES)
        if list(names[:5]) != FEATURES:
            raise ValueError(
                f"{type(self).__name__} needs data.features that begin with {FEATURES}, "
                f"not {list(names)}"
            )

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Ask for magnitudes and colours if the shares depend on them."""
        wanted = ("magnitude", "colour") if self.gate is not None else ()
        return {name: ((), "photometry") for name in wanted}

    def on_fit_start(self) -> None:
        """Search for clusters, unless a checkpoint or `--init_from` brought them."""
        if int(self.num_clusters) >= 0:
            return
        found: Any = self._search() if self.trainer.is_global_zero else None
        grid, parameters = self.trainer.strategy.broadcast(found)
        for name, value in grid._asdict().items():
            getattr(self, name).copy_(value)
        self.cached_footprint = None
        self.num_clusters.fill_(parameters.num_clusters)
        self._assign(parameters)
        if self.gate is not None:
            blocks = self.trainer.datamodule.batches("train", ["magnitude", "colour"])
            self.gate.span(torch.cat([photometry_of(block) for block in blocks]))

    def accumulate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums of -log p and of the scores and their outer products over a batch.

        With a gate also the responsibilities, summed in cells of magnitude and colour.
        """
        stars = Stars.of_batch(batch["features"], batch["covariance"])
        mixture, odds = self.mixture, self._odds(batch)
        integrals = Integrals.of(mixture, self.footprint)
        sums, share = scoring.information(mixture, integrals, stars, odds)
        found = {"loss": -sums.likelihood, **sums._asdict()}
        if self.gate is not None:
            photometry = photometry_of(batch)
            found["totals"] = self.gate.totals(photometry, share, mixture.num_clusters)
        return found

    def update(self, sums: dict[str, Tensor]) -> None:
        """Take the next step of Fisher scoring, or of the gate, or end the fit at the best."""
        tried = self.mixture
        whole = scoring.Sums(*(sums[name] for name in scoring.Sums._fields))
        target = scoring.Target.of(tried, self.footprint, whole, self.log_prior)
        theta, gain = self.ascent.step(coordinates(tried), target)
        best, at_best = self.ascent.best
        self.covariance.zero_()[: len(theta), : len(theta)] = at_best.covariance
        if self.gate is not None and gain < GATE_WAITS:
            gain += self._improve_gate(self.gate, sums["totals"], tried.weight)
        if gain < self.min_gain:
            theta = best
            self.converged = True
            self.run_record["stop_reason"] = (
                f"the next step would gain {gain:.1e} in log likelihood, less than {self.min_gain}"
            )
        self._assign(parameters_at(theta, tried.num_clusters, self.num_field))

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
    def log_terms(self, batch: Batch) -> Tensor:
        """Return the log of each component's share in the density, (B, K + F)."""
        stars, mixture = Stars.of_batch(batch["features"], batch["covariance"]), self.mixture
        return log_terms(mixture, Integrals.of(mixture, self.footprint), stars, self._odds(batch))

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return `index`, `probability` and `assignment`; with `tails` also `tail`.

        `probability` is (B, 1 + clusters): the field, then the clusters in the order in which they
        were found; `assignment` is its largest column, `tail` (B,) the part of the clusters'
        probability that is due to tails.
        """
        share = self.log_terms(batch).softmax(1)
        core = cores(self.mixture)
        k = len(core)
        columns = [share[:, k:].sum(1)]
        own = torch.arange(k, device=core.device)
        columns += [share[:, :k][:, core == c].sum(1) for c in own[core == own]]
        probability = torch.stack(columns, 1)
        found = {
            "index": batch["index"],
            "probability": probability.float(),
            "assignment": probability.argmax(1),
        }
        tail = {"tail": share[:, :k][:, core != own].sum(1).float()} if self.seeding.tails else {}
        return found | tail

    def on_train_end(self) -> None:
        """Say what was found, and log it."""
        found = self.parameter_rows()
        field = 1.0 - sum(row["weight"] for row in found)
        rank_zero_info("\n".join(lines(found, field, float(self.mixture.error_scale))))
        for logger in self.loggers:
            for row in found:
                values = {f"cluster_{row['cluster']}/{name}": row[name] for name in row}
                logger.log_metrics(values, step=self.global_step)

    @torch.no_grad()
    def parameter_rows(self) -> list[dict[str, float]]:
        """Return a dict of physical parameters for each cluster, in the order of `predict_step`.

        Keys are `cluster` (the column of `probability`, from 1); `weight` (share of the stars);
        `x`, `y`, `radius` √(ν √|A|) [deg]; `ellipticity` 1 - b/a; `position_angle` of the long axis
        from north to east [deg]; `nu`; `parallax` [mas]; `pmra`, `pmdec` and `dispersion` (at the
        centre) [mas/yr]; each with `<key>_error`, one standard deviation from the inverse
        information; and `pmra_pmdec_corr`, the correlation of the errors of the mean motion.
        """
        mixture = self.mixture
        size = len(coordinates(mixture))

        def share(p: Parameters) -> Tensor:
            k = p.num_clusters
            return p.weight[:k] if self.gate is None else self.gate.mean_share(p.weight, k)

        return rows(mixture, self.covariance[:size, :size], cores(mixture), share)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save also what the next step of the ascent depends on."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["astrolit"]["ascent"] = self.ascent.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` saved."""
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get("astrolit", {}).get("ascent")
        if saved is not None:
            self.ascent.restore(saved)

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

    def _odds(self, batch: Batch) -> Tensor | None:
        """Return the log odds that the photometry of stars gives, (B, K + F)."""
        if self.gate is None:
            return None
        return self.gate.log_odds(photometry_of(batch), int(self.num_clusters), self.num_field)

    def _search(self) -> tuple[Grid, Parameters]:
        """Return the footprint of the training split and the mixture to begin from."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ValueError(
                f"{type(self).__name__} searches for clusters in the whole training split: call "
                "Trainer.fit(module, datamodule=...), not with bare loaders"
            )
        sample = Sample.draw(datamodule, self.search_stars, self.seeding.seed)
        footprint = Footprint(sample.grid)
        found = self.seeding.find(sample.stars, footprint, sample.num_stars, self.log_prior)
        return sample.grid, found


def photometry_of(batch: Batch) -> Tensor:
    """Return magnitude and colour of a batch, (B, 2)."""
    return torch.stack([batch["magnitude"], batch["colour"]], 1)


def _forget_footprint(module: torch.nn.Module, *_: object) -> None:
    """Make the footprint anew from the buffers that were loaded."""
    assert isinstance(module, ClusterMixture)
    module.cached_footprint = None
