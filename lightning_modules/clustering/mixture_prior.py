"""A Gaussian mixture as the prior of a latent: divergence, responsibilities, draws, a start."""

import math

import torch
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from lightning_modules.clustering.network import LOG_VARIANCE_RANGE

STARTS = 10


class MixturePrior(nn.Module):
    """p(z) = Σ_c π_c N(z; μ_c, diag σ_c²), with learned shares, means and variances.

    Args:
        num_components: Components c.
        latent_dim: Width D of the latent.
    """

    def __init__(self, num_components: int, latent_dim: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(num_components))
        self.mean = nn.Parameter(torch.zeros(num_components, latent_dim))
        self.log_variance = nn.Parameter(torch.zeros(num_components, latent_dim))

    def expected_log_joint(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return log π_c + E_q log p(z|c) of q(z) = N(m, diag v), shape (batch, components).

        E_q log p(z|c) = -½ Σ_d [log 2πσ_cd² + (v_d + (m_d - μ_cd)²)/σ_cd²].

        Args:
            mean: m, shape (batch, latent).
            log_variance: log v, shape (batch, latent).
        """
        own = self.log_variance.clamp(*LOG_VARIANCE_RANGE)
        squared = (mean[:, None] - self.mean).square() + log_variance.exp()[:, None]
        terms = math.log(2.0 * math.pi) + own + squared * torch.exp(-own)
        return self.logit.log_softmax(dim=0) - 0.5 * terms.sum(dim=2)

    def responsibilities(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return γ_c ∝ π_c exp E_q log p(z|c), shape (batch, components); p(c|z) where v is 0.

        They make the evidence lower bound tightest for a given q(z).

        Args:
            mean: m, shape (batch, latent).
            log_variance: log v, shape (batch, latent).
        """
        return self.expected_log_joint(mean, log_variance).softmax(dim=1)

    def kl(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return KL(q(z) γ ‖ p(z, c)) in nats, shape (batch,).

        With the γ of `responsibilities`, Σ_c γ_c (log π_c + E_q log p(z|c) - log γ_c) is the
        log-sum-exp of the joint: KL = -logsumexp_c(log π_c + E_q log p(z|c)) - ½ Σ_d log 2πe v_d.
        Jiang et al. 2017 (arXiv:1611.05148), eq. 12, has the same terms for other γ.

        Args:
            mean: m, shape (batch, latent).
            log_variance: log v, shape (batch, latent).
        """
        entropy = 0.5 * (1.0 + math.log(2.0 * math.pi) + log_variance).sum(dim=1)
        return -self.expected_log_joint(mean, log_variance).logsumexp(dim=1) - entropy

    def draw(self, number: int) -> Tensor:
        """Return draws from p(z), shape (number, latent)."""
        component = torch.multinomial(self.logit.softmax(dim=0), number, replacement=True)
        spread = torch.exp(0.5 * self.log_variance.clamp(*LOG_VARIANCE_RANGE))
        return self.mean[component] + spread[component] * torch.randn_like(self.mean[component])

    @torch.no_grad()
    def start(self, latent: Tensor, seed: int) -> None:
        """Fit the mixture to latents (10 starts): largest volume first, then by falling share.

        Args:
            latent: Shape (objects, latent).
            seed: Of the starts.

        Raises:
            ValueError: If there are fewer objects than components, or a latent is not finite.
        """
        if len(latent) < len(self.logit) or not torch.isfinite(latent).all():
            raise ValueError(
                f"{len(latent)} latents of the training split cannot start {len(self.logit)} "
                "components: bring more data, lower model.num_clusters, or lower model.lr if some "
                "are not finite"
            )
        options = {"covariance_type": "diag", "n_init": STARTS, "random_state": seed}
        with threadpool_limits(limits=1):
            found = GaussianMixture(len(self.logit), **options).fit(latent.double().cpu().numpy())
        share, mean, variance = (
            torch.from_numpy(values).to(self.mean)
            for values in (found.weights_, found.means_, found.covariances_)
        )
        order = share.argsort(descending=True)
        first = variance.log().sum(dim=1).argmax()
        order = torch.cat([first[None], order[order != first]])
        self.logit.copy_(share.log()[order])
        self.mean.copy_(mean[order])
        self.log_variance.copy_(variance.log()[order])
