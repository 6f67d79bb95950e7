"""Draws that tell how sure a prediction is: dropout at work, measurements within their errors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
COVARIANCE_OF = ("x", "y", "parallax", "pmra", "pmdec")
"""What a batch's `covariance` (B, 5, 5) of stars is of, in order."""


def dropouts(net: nn.Module) -> list[nn.Module]:
    """Return the dropouts of a network that drop anything."""
    return [module for module in net.modules() if isinstance(module, DROPOUTS) and module.p > 0]


@contextmanager
def dropout_at_work(net: nn.Module, seed: int) -> Iterator[None]:
    """Let dropout drop as in training, all else as it is (Monte Carlo dropout).

    Args:
        net: With dropouts.
        seed: The same one drops the same; draws from torch's generator elsewhere do not notice.

    Reference: Gal & Ghahramani 2016 (arXiv:1506.02142).
    """
    modes = [(module, module.training) for module in dropouts(net)]
    for module, _ in modes:
        module.train()
    devices = {values.device for values in net.parameters() if values.is_cuda}
    try:
        with torch.random.fork_rng(devices=list(devices)):
            torch.manual_seed(seed)
            yield
    finally:
        for module, training in modes:
            module.training = training


def redrawn(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch with its measurements drawn anew from Gaussians of their own errors.

    `<x>_error` and `<x>_ivar` move `<x>`; `covariance` (B, n, n) moves the first n `features`.
    What has no finite error stays, and so does what is no number with a fraction.

    Args:
        batch: The dict that the datamodule documents.

    Raises:
        ValueError: If it holds no error of anything.
    """
    found = dict(batch)
    scales = {name.removesuffix("_error"): x for name, x in batch.items() if name[-6:] == "_error"}
    for name, values in batch.items():
        if name.endswith("_ivar"):
            scales[name.removesuffix("_ivar")] = torch.where(values > 0, values, torch.inf).rsqrt()
    scales = {k: v for k, v in scales.items() if k in batch and batch[k].is_floating_point()}
    for name, scale in scales.items():
        noise = torch.where(scale.isfinite(), scale, 0.0) * torch.randn_like(batch[name])
        found[name] = batch[name] + noise
    if "covariance" in batch:
        root = _root(batch["covariance"].double())
        noise = (root @ torch.randn_like(root[..., :1]))[..., 0].to(batch["features"])
        features = batch["features"].clone()
        features[:, : noise.shape[1]] += noise
        found["features"] = features
    if not scales and "covariance" not in batch:
        raise ValueError(
            f"error_draws needs <x>_error, <x>_ivar or covariance in the batch; it has "
            f"{sorted(batch)}: set error_draws to 0"
        )
    return found


def _root(covariance: Tensor) -> Tensor:
    """Return a matrix R with R Rᵀ the covariance, without rows and columns that are not finite."""
    known = torch.where(covariance.isfinite(), covariance, 0.0)
    values, vectors = torch.linalg.eigh(known)
    return vectors * values.clamp_min(0.0).sqrt()[..., None, :]
