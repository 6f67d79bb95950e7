"""Star clusters and a field as a mixture that knows the error of every star."""

from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.clustering.mixture.coordinates import (
    coordinates,
)
from lightning_modules.clustering.mixture.description import lines, rows
from lightning_modules.clustering.mixture.footprint import Footprint, Grid
from lightning_modules.clustering.mixture.gate import PHOTOMETRY, Photometry
from lightning_modules.clustering.mixture.likelihood import (
    Parameters,
)
from lightning_modules.clustering.mixture.merging import cores
from lightning_modules.clustering.mixture.search import Sample
from lightning_modules.clustering.mixture.seeding import Seeding
from lightning_modules.clustering.mixture_passes import MixturePasses

FEATURES = ["x", "y", "parallax", "pmra", "pmdec"]


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
    """

    field_column: ClassVar[int] = 0
    """Column of `probability` that is the field."""

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
        if max_clusters < 0 or min(num_field, search_stars) < 1 or tolerance < 0:
            raise ValueError(
                f"model.max_clusters={max_clusters} and model.tolerance={tolerance} must not be "
                f"negative, model.num_field={num_field} and model.search_stars={search_stars} at "
                "least 1"
            )
        self.save_hyperparameters()
        super().__init__(max_clusters, num_field, photometry, seed, tolerance)
        self.seeding, self.search_stars = (
            Seeding(max_clusters, num_field, seed, tails),
            search_stars,
        )

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
        self.begin(*self.trainer.strategy.broadcast(found))

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

    def on_train_epoch_end(self) -> None:
        """After the last pass, log what was found."""
        super().on_train_epoch_end()
        for row in self.parameter_rows() if self.is_at_end else []:
            values = {f"cluster_{row['cluster']}/{name}": row[name] for name in row}
            self.log_dict(values, rank_zero_only=True)

    def on_train_end(self) -> None:
        """Say what was found."""
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
        information; and `pmra_pmdec_corr`, the correlation of the errors of the mean motion.
        """
        mixture = self.mixture
        size = len(coordinates(mixture))

        def share(p: Parameters) -> Tensor:
            k = p.num_clusters
            return p.weight[:k] if self.gate is None else self.gate.mean_share(p.weight, k)

        return rows(mixture, self.curvature[:size, :size], cores(mixture), share)

    def _search(self) -> tuple[Grid, Tensor | None, Parameters]:
        """Return the footprint, the photometry of a sample and the mixture to begin from."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ValueError(
                f"{type(self).__name__} searches for clusters in the whole training split: call "
                "Trainer.fit(module, datamodule=...), not with bare loaders"
            )
        keys = PHOTOMETRY if self.gate is not None else ()
        sample = Sample.draw(datamodule, self.search_stars, self.seeding.seed, keys)
        footprint = Footprint(sample.grid)
        found = self.seeding.find(sample.stars, footprint, self.log_prior)
        return sample.grid, sample.photometry, found
