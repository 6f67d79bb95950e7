"""Kullback-Leibler divergence of a Gaussian posterior (torch only)."""

from torch import Tensor


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(m, σ²) ‖ N(0, 1)) of each latent, shape (B, D).

    ½ (m² + σ² - 1 - log σ²): Kingma & Welling 2014 (arXiv:1312.6114), appendix B.

    Args:
        mean: m, shape (B, D).
        log_variance: log σ², shape (B, D).
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
