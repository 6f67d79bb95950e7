"""Star clusters and a field as a mixture that knows the error of every star."""

import sys
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_info
from threadpoolctl import threadpool_limits
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.clustering.features import check_features
from lightning_modules.clustering.mixture.bootstrap import refit
from lightning_modules.clustering.mixture.coordinates import (
    count_coordinates,
    of_means,
    parameters_at,
)
from lightning_modules.clustering.mixture.description import covariance_of, lines, rows
from lightning_modules.clustering.mixture.footprint import Footprint, Grid
from lightning_modules.clustering.mixture.gate import PHOTOMETRY, Photometry
from lightning_modules.clustering.mixture.likelihood import Parameters, intrinsic_covariance
from lightning_modules.clustering.mixture.merging import cores
from lightning_modules.clustering.mixture.search import Sample
from lightning_modules.clustering.mixture.seeding import Seeding
from lightning_modules.clustering.mixture_passes import MixturePasses


class ClusterMixture(MixturePasses):
    """Finds star clusters in a field, with a membership probability for every star.

    A star at x on the sky with u = (parallax, proper motion) and covariance C of u has the density

        Σ_k π_k S_k(x) N(u; m_k, η² C + Σ_k(r)) + Σ_j π_j F(x) N(u; m_j, η² C + Σ_j).

    Cluster k: S_k is a bivariate Student-t with ν_k degrees of freedom and shape matrix A_k,
    divided by its share inside the footprint (ν = 2 is Plummer's profile, ν = γ - 2 that of Elson,
    Fall & Freeman 1987, A_k the ellipticity); Σ_k(r) = diag(0, s², s²) + δ² m_k m_kᵀ with the
    dispersion s² = σ_k² (1 + r²/ν_k)^(-1/2) and the depth of a sphere in units of its distance,
    δ² = √|A_k| (1 + r²/ν_k), where r² = (x - c_k)ᵀ A_k⁻¹ (x - c_k). Field: Gaussians of the true u
    (extreme deconvolution) times one log-linear density F over the footprint, which is an occupancy
    grid of the training stars. η multiplies all formal errors. What a star lacks of u is
    marginalised. With `photometry` the shares π of clusters and field depend on G and BP-RP.

    Nothing is told where clusters are or how many: on a random part of the training split the field
    is fitted alone, then clusters are added one by one while each gains more than 5 ln n + 10 in
    log likelihood, n being the stars searched (`Seeding`); none is an answer. The passes then fit
    all parameters at once to the whole training split by Fisher scoring, under the priors of
    `log_prior`, and end when the next step would gain less than `tolerance`. Memory does not grow
    with the number of stars, and every number of processes finds the same.

    All parameters are buffers in physical units (`mixture` returns them; rows beyond
    `num_clusters` are unused), and `parameter_rows` gives each cluster's with errors. A subclass
    adds physics to `log_prior`.

    Reference: Vasiliev & Baumgardt 2021 (arXiv:2102.09568) for the model of the errors and the
    clusters; Bovy, Hogg & Roweis 2011 (arXiv:0905.2979) for the field.

    Args:
        max_clusters: Most components that are clusters.
        num_field: Components of the field.
        tails: Whether a component that shares centre and motion with a cluster, as badly measured
            members of a crowded core do, may be kept beside it: the cluster's probability is then
            the sum of both, and `predict_step` gives the share of such components as `tail`.
        photometry: Gate of the shares, which the passes fit too: a `histogram` or a small `network`
            of magnitude and colour. It helps where members follow a sequence that the field does
            not; the batch then needs `magnitude` and `colour`, NaN where absent.
        seed: Fixes the draws of the search and the network's first weights.
        search_stars: Stars that clusters are searched among.
        tolerance: The fit ends when the next step would raise the log likelihood by less.
        num_bootstrap: Refits at the end, each to as many training stars drawn with replacement,
            which have to fit into memory: `parameter_rows` then has `<key>_bootstrap`, and
            `predict_step` `probability_error`, the standard deviations over them; a checkpoint from
            before the end of the fit has neither.
    """

    field_column: ClassVar[int] = 0
    """Column of `probability` that is the field."""
    refits: Tensor

    def __init__(
        self,
        max_clusters: int = 3,
        num_field: int = 3,
        tails: bool = False,
        photometry: Photometry = "none",
        seed: int = 0,
        search_stars: int = 3000,
        tolerance: float = 0.1,
        num_bootstrap: int = 0,
    ) -> None:
        if min(max_clusters, tolerance, num_bootstrap) < 0 or min(num_field, search_stars) < 1:
            raise ValueError(
                f"model.max_clusters={max_clusters}, model.tolerance={tolerance} and "
                f"model.num_bootstrap={num_bootstrap} must not be negative, "
                f"model.num_field={num_field} and model.search_stars={search_stars} at least 1"
            )
        super().__init__(max_clusters, num_field, photometry, seed, tolerance)
        self.save_hyperparameters()
        self.seeding = Seeding(max_clusters, num_field, seed, tails)
        self.search_stars = search_stars
        size = count_coordinates(max_clusters, num_field)
        self.register_buffer("refits", torch.zeros(num_bootstrap, size, dtype=torch.float64))

    def setup(self, stage: str) -> None:
        """Refuse other features than the five of astrometry, and parameters of half precision."""
        super().setup(stage)
        if self.trainer.precision in ("16-true", "bf16-true"):
            raise ValueError(
                f"{type(self).__name__} keeps its parameters in float64, which "
                f"trainer.precision={self.trainer.precision} would round; set it to 32-true"
            )
        check_features(getattr(self.trainer, "datamodule", None), type(self).__name__)

    def on_fit_start(self) -> None:
        """Search for clusters, unless a checkpoint or `--init_from` brought them."""
        if int(self.num_clusters) >= 0:
            return
        found: Any = self._search() if self.trainer.is_global_zero else None
        self.begin(*self.trainer.strategy.broadcast(found))

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return `index`, `probability` and `assignment`; on wish also `tail` and an error.

        `probability` is (B, 1 + clusters): the field, then the clusters in the order in which they
        were found; `assignment` is its largest column, `tail` (B,) the part of the clusters'
        probability that is due to tails, `probability_error` (B, 1 + clusters) the standard
        deviation over the refits of `num_bootstrap`.
        """
        core = self.core
        share = self.log_terms(batch).softmax(1)
        probability = _columns(share, core)
        found = {
            "index": batch["index"],
            "probability": probability.float(),
            "assignment": probability.argmax(1),
        }
        if self.seeding.tails:
            own = torch.arange(len(core), device=core.device)
            found["tail"] = share[:, : len(core)][:, core != own].sum(1).float()
        if refitted := self.refitted:
            drawn = [self.log_terms(batch, again).softmax(1) for again in refitted]
            spread = torch.stack([_columns(other, core) for other in drawn]).std(0, correction=0)
            found["probability_error"] = spread.float()
        return found

    @property
    def refitted(self) -> list[Parameters]:
        """The parameters of the refits to resampled stars, none before the end of the fit."""
        k = int(self.num_clusters)
        return [parameters_at(theta, k, self.num_field) for theta in self._refits_made]

    @property
    def core(self) -> Tensor:
        """The component that stands for each of a cluster: itself, or that whose tail it is, (K,).

        The errors of the mean motions are those of the information.
        """
        mixture, known = self.mixture, self._information
        error = torch.zeros_like(mixture.dispersion)
        if bool(known.any()):  # else no pass was made yet
            variance = covariance_of(known).diagonal()
            sizes = mixture.num_clusters, self.num_field
            error = of_means(variance, *sizes)[:, 1:].mean(1).clamp_min(0.0).sqrt()
        return cores(mixture, error)

    def on_train_epoch_end(self) -> None:
        """After the last pass, fit anew to resampled stars, if asked, and log what was found."""
        super().on_train_epoch_end()
        if not self.converged and self.trainer.current_epoch + 1 != self.trainer.max_epochs:
            self.refits.zero_()  # those of a fit that now goes on
            return
        if len(self.refits):
            found: Any = self._refit() if self.trainer.is_global_zero else None
            theta = self.trainer.strategy.broadcast(found)
            self.refits[:, : theta.shape[1]] = theta
        for row in self.parameter_rows():
            values = {f"cluster_{row['cluster']}/{name}": row[name] for name in row}
            self.log_dict(values, rank_zero_only=True)

    def on_train_end(self) -> None:
        """Say what was found."""
        super().on_train_end()
        rank_zero_info("\n".join(self.describe()))

    def describe(self) -> list[str]:
        """Return a line on the field and one on each cluster."""
        found = self.parameter_rows()
        field = 1.0 - sum(row["weight"] for row in found)
        return lines(found, field, float(self.mixture.error_scale))

    @torch.no_grad()
    def parameter_rows(self) -> list[dict[str, float]]:
        """Return a dict of physical parameters for each cluster, in the order of `predict_step`.

        Keys are `cluster` (the column of `probability`, from 1); `weight` (share of the stars);
        `x`, `y`, `radius` √(ν √|A|) [deg]; `ellipticity` 1 - b/a; `position_angle` of the long axis
        from north to east [deg]; `nu`; `parallax` [mas]; `pmra`, `pmdec` and `dispersion` (at the
        centre) [mas/yr]; each with `<key>_error`, one standard deviation from the inverse
        information; and `pmra_pmdec_corr`, the correlation of the errors of the mean motion. With
        `num_bootstrap` also `<key>_bootstrap`, the standard deviation over the refits.
        """

        def share(p: Parameters) -> Tensor:
            k = p.num_clusters
            return p.weight[:k] if self.gate is None else self.gate.mean_share(p.weight, k)

        return rows(self.mixture, self._information, self.core, share, self._refits_made)

    @property
    def _information(self) -> Tensor:
        """The information on the coordinates that are used, (P, P); 0 before the first pass."""
        size = count_coordinates(int(self.num_clusters), self.num_field)
        return self.curvature[:size, :size]

    @property
    def _refits_made(self) -> Tensor:
        """The coordinates of the refits, (num_bootstrap, P); (0, P) before the end of the fit."""
        size = count_coordinates(int(self.num_clusters), self.num_field)
        made = self.refits if bool(self.refits.any()) else self.refits[:0]
        return made[:, :size]

    @torch.no_grad()
    def intrinsic_covariance(self, cluster: int, position: Tensor) -> Tensor:
        """Return the scatter of a cluster's true parallaxes and motions at places, (n, 3, 3).

        Σ_k(r), dispersion and depth, in products of mas and mas/yr; no measurement errors.

        Args:
            cluster: Its column of `probability`.
            position: x, y [deg], (n, 2).
        """
        own = self.core.unique()
        return intrinsic_covariance(self.mixture, position.double())[:, own[cluster - 1]]

    def _refit(self) -> Tensor:
        """Return the coordinates of fits to resampled training stars, (num_bootstrap, P)."""
        fitted = Parameters(*(values.cpu() for values in self.mixture))
        footprint = Footprint(Grid(self.occupied.cpu(), self.corner.cpu(), self.cell.cpu()))
        sample, odds = self._sample(sys.maxsize), None
        if self.gate is not None and sample.photometry is not None:
            own = sample.photometry.to(self.cell.device)
            odds = self.gate.log_odds(own, fitted.num_clusters, self.num_field).cpu()
        count, seed = len(self.refits), self.seeding.seed
        with threadpool_limits(limits=1):
            return refit(fitted, sample.stars, odds, footprint, self.log_prior, count, seed)

    def _sample(self, count: int) -> Sample:
        """Return training stars, at most so many, with photometry if there is a gate."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ValueError(
                f"{type(self).__name__} searches for clusters in the whole training split: call "
                "Trainer.fit(module, datamodule=...), not with bare loaders"
            )
        keys = PHOTOMETRY if self.gate is not None else ()
        return Sample.draw(datamodule, count, self.seeding.seed, keys)

    def _search(self) -> tuple[Grid, Tensor | None, Parameters]:
        """Return the footprint, the photometry of a sample and the mixture to begin from."""
        sample = self._sample(self.search_stars)
        footprint = Footprint(sample.grid)
        with threadpool_limits(limits=1):  # more cost time on arrays as small as these
            found = self.seeding.find(sample.stars, footprint, self.log_prior)
        return sample.grid, sample.photometry, found


def _columns(share: Tensor, core: Tensor) -> Tensor:
    """Return the field's share and that of each cluster with its tails, (B, 1 + clusters)."""
    k = len(core)
    own = torch.arange(k, device=core.device)
    clusters = [share[:, :k][:, core == c].sum(1) for c in own[core == own]]
    return torch.stack([share[:, k:].sum(1), *clusters], 1)
