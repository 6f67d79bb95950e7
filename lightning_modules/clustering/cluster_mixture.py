"""Star clusters and a field as a mixture that knows the error of every star."""

from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.clustering.mixture import scoring
from lightning_modules.clustering.mixture.coordinates import coordinates, parameters_at
from lightning_modules.clustering.mixture.footprint import Footprint, Grid
from lightning_modules.clustering.mixture.likelihood import (
    Integrals,
    Parameters,
    Stars,
    log_terms,
)
from lightning_modules.clustering.mixture.merging import cores
from lightning_modules.clustering.mixture.seeding import Seeding
from lightning_modules.passes import PassModule

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

    OF_CLUSTERS: ClassVar[tuple[str, ...]] = ("centre", "shape", "degrees", "mean", "dispersion")
    """Parameters with a row for each cluster."""
    field_column: ClassVar[int] = 0
    """Column of `probability` that is the field."""
    weight: Tensor
    centre: Tensor
    shape: Tensor
    degrees: Tensor
    mean: Tensor
    dispersion: Tensor
    field_mean: Tensor
    field_covariance: Tensor
    error_scale: Tensor
    slope: Tensor
    num_clusters: Tensor
    occupied: Tensor
    corner: Tensor
    cell: Tensor

    def __init__(
        self,
        max_clusters: int = 3,
        num_field: int = 3,
        tails: bool = False,
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
        shapes = (max_clusters + num_field,), (max_clusters, 2), (max_clusters, 3), (max_clusters,)
        more = (max_clusters, 3), (max_clusters,), (num_field, 3), (num_field, 6), (), (2,)
        for name, size in zip(Parameters._fields, (*shapes, *more), strict=True):
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))
        self.register_buffer("num_clusters", torch.tensor(-1))  # not searched for yet
        for name, value in Grid.empty()._asdict().items():
            self.register_buffer(name, value)
        self.ascent = scoring.Ascent()
        self.cached_footprint: Footprint | None = None
        self.register_load_state_dict_post_hook(_forget_footprint)

    @property
    def mixture(self) -> Parameters:
        """The parameters of the components that are used.

        Raises:
            ValueError: If nothing was fitted yet.
        """
        k = int(self.num_clusters)
        if k < 0:
            raise ValueError("this ClusterMixture was not fitted yet; call Trainer.fit first")
        values = {name: getattr(self, name) for name in Parameters._fields}
        for name in self.OF_CLUSTERS:
            values[name] = values[name][:k]
        values["weight"] = torch.cat([self.weight[:k], self.weight[self.max_clusters :]])
        return Parameters(**values)

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

    def accumulate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums of -log p and of the scores and their outer products over a batch."""
        stars = Stars.of_batch(batch["features"], batch["covariance"])
        integrals = Integrals.of(self.mixture, self.footprint)
        total, gradient, information = scoring.information(self.mixture, integrals, stars)
        return {"loss": -total, "gradient": gradient, "information": information}

    def update(self, sums: dict[str, Tensor]) -> None:
        """Take the next step of Fisher scoring, or end the fit at the best parameters."""
        tried = self.mixture
        likelihood = -sums["loss"], sums["gradient"], sums["information"]
        target = scoring.Target.of(tried, self.footprint, likelihood, self.log_prior)
        theta, gain = self.ascent.step(coordinates(tried), target)
        if gain < self.min_gain:
            self.converged = True
            self.run_record["stop_reason"] = (
                f"the next step would gain {gain:.1e} in log likelihood, less than {self.min_gain}"
            )
            assert self.ascent.theta is not None
            theta = self.ascent.theta
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
        stars = Stars.of_batch(batch["features"], batch["covariance"])
        return log_terms(self.mixture, Integrals.of(self.mixture, self.footprint), stars)

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
        """Say what was found."""
        rank_zero_info("\n".join(self.describe()))

    def describe(self) -> list[str]:
        """Return a line on the field and one on each component that is a cluster."""
        p, k = self.mixture, int(self.num_clusters)
        lines = [
            f"{k} cluster component(s), field {float(p.weight[k:].sum()):.1%} of the stars, "
            f"errors x {float(p.error_scale):.2f}"
        ]
        for i in range(k):
            x, y = p.centre[i].tolist()
            parallax, pmra, pmdec = p.mean[i].tolist()
            lines.append(
                f"cluster {i + 1}: {float(p.weight[i]):.1%}, x, y = {x:.4f}, {y:.4f} deg, radius "
                f"{float(p.radius[i]):.4f} deg, nu {float(p.degrees[i]):.1f}, parallax "
                f"{parallax:.3f} mas, pm = {pmra:.3f}, {pmdec:.3f} mas/yr, dispersion "
                f"{float(p.dispersion[i]):.3f} mas/yr"
            )
        return lines

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

    def _assign(self, parameters: Parameters) -> None:
        """Fill the buffers."""
        k = parameters.num_clusters
        for name, value in parameters._asdict().items():
            buffer = getattr(self, name)
            if name == "weight":
                buffer[:k], buffer[self.max_clusters :] = value[:k], value[k:]
            elif name in self.OF_CLUSTERS:
                buffer[:k] = value
            else:
                buffer.copy_(value)

    def _search(self) -> tuple[Grid, Parameters]:
        """Return the footprint of the training split and the mixture to begin from."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ValueError(
                f"{type(self).__name__} searches for clusters in the whole training split: call "
                "Trainer.fit(module, datamodule=...), not with bare loaders"
            )
        position = torch.cat(
            [batch["features"][:, :2] for batch in datamodule.batches("train", ["features"])]
        )
        grid = Grid.of_stars(position.double())
        generator = torch.Generator().manual_seed(self.seeding.seed)
        chosen = torch.randperm(len(position), generator=generator)[: self.search_stars]
        wanted = torch.zeros(len(position), dtype=torch.bool)
        wanted[chosen] = True
        parts, start = [], 0
        for batch in datamodule.batches("train", ["features", "covariance"]):
            rows = wanted[start : start + len(batch["features"])]
            parts.append(Stars.of_batch(batch["features"][rows], batch["covariance"][rows]))
            start += len(rows)
        stars = Stars(*(torch.cat(values) for values in zip(*parts, strict=True)))
        footprint = Footprint(grid)
        return grid, self.seeding.find(stars, footprint, len(position), self.log_prior)


def _forget_footprint(module: torch.nn.Module, *_: object) -> None:
    """Make the footprint anew from the buffers that were loaded."""
    assert isinstance(module, ClusterMixture)
    module.cached_footprint = None
