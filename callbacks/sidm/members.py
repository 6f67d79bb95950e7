"""The members of an `Ensemble`, or a model alone."""

from typing import Any

from torch import nn

from callbacks.sidm.populations import Array


def members_of(module: nn.Module) -> list[Any]:
    """Return the members of an `Ensemble`; of another model itself."""
    return list(getattr(module, "members", None) or [module])


def member_latents(module: nn.Module, latent: Array) -> Array:
    """Return latents by member, shape (n, R, Z).

    Args:
        module: A model, or an `Ensemble` of R, whose members' latents stand beside each other.
        latent: What it said, shape (n, R Z).
    """
    return latent.reshape(len(latent), len(members_of(module)), -1)
