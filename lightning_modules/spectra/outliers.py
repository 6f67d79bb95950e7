"""The outlier score: how unusual a star's latents and its residuals are (torch only)."""

import math

import torch
from torch import Tensor

from lightning_modules.spectra.moments import Population


def population_rows(latent: Tensor, chi2: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents beside log χ² per good pixel, (B, D + 1), and which stars have pixels."""
    counts = chi2 > 0
    log_chi2 = torch.where(counts, chi2, 1.0).log().unsqueeze(1)
    return torch.cat([latent.float(), log_chi2], dim=1), counts


def outlier_score(population: Population, latent: Tensor, chi2: Tensor) -> Tensor:
    """Return the larger of a latent and a residual score: mean 0, deviation 1 for usual stars.

    Latents: the squared Mahalanobis distance to the population, d², of D latents, made normal by
    its cube root (Wilson & Hilferty 1931, PNAS 17, 684): ((d²/D)^⅓ - 1 + 2/(9D)) / √(2/(9D)).
    Residuals: log χ² per good pixel in standard deviations of the population. Not their sum: a
    spectrum with less noise than usual must not hide odd latents. Of two independent numbers of
    N(0, 1) the larger has mean 1/√π and variance 1 - 1/π, which are taken off. NaN without pixels
    or without a fitted population.

    Args:
        population: Of latents and log χ² of usual stars, `population_rows`.
        latent: Means, shape (B, D).
        chi2: Per good pixel, NaN without any, shape (B,).
    """
    rows, counts = population_rows(latent, chi2)
    centred = (rows - population.mean).double()
    covariance = population.covariance.double()
    dim = latent.shape[1]
    ridge = 1e-6 * torch.eye(dim, dtype=torch.float64, device=latent.device)
    solved = torch.linalg.solve(covariance[:dim, :dim] + ridge, centred[:, :dim].mT).mT
    distance = (centred[:, :dim] * solved).sum(dim=1).clamp_min(0.0)
    spread = 2.0 / (9.0 * dim)
    latent_score = ((distance / dim) ** (1 / 3) - 1.0 + spread) / spread**0.5
    residual_score = centred[:, dim] / covariance[dim, dim].clamp_min(1e-12).sqrt()
    larger = torch.maximum(latent_score, residual_score)
    score = (larger - math.pi**-0.5) / (1.0 - 1.0 / math.pi) ** 0.5
    return torch.where(counts & population.fitted, score.float(), torch.nan)
