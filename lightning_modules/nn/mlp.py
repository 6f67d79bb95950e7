"""Multilayer perceptrons for tables: plain, residual, or with attention among the features."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Variant = Literal["plain", "residual", "attention"]


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation for shape (batch, features) that bears awkward batches.

    A training batch of one row, which has no variance, is normalised by the running statistics
    (the last batch of an epoch may be one). While `recomputing`, as gradient checkpointing does in
    the backward pass, the running statistics are left alone: they have already seen the batch.

    Args:
        num_features: Length of the feature axis.
    """

    recomputing = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised batch, same shape."""
        if self.training and (len(x) == 1 or self.recomputing):
            # With momentum 0 the running statistics stay what they are.
            kept = self.running_mean, self.running_var, self.weight, self.bias
            return functional.batch_norm(x, *kept, len(x) > 1, 0.0, self.eps)
        return super().forward(x)


class Block(nn.Module):
    """Linear, batch normalisation, ReLU and dropout, with an optional shortcut.

    Args:
        in_dim: Width of the input.
        out_dim: Width of the output.
        batch_norm: Normalise over the batch.
        dropout: Share of outputs dropped in training.
        residual: Add the input to the output (He et al. 2016, arXiv:1512.03385), through a
            linear map where the widths differ.
    """

    def __init__(
        self, in_dim: int, out_dim: int, batch_norm: bool, dropout: float, residual: bool
    ) -> None:
        super().__init__()
        self.linear = linear(in_dim, out_dim)
        self.norm = BatchNorm(out_dim) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.shortcut: nn.Module | None = None
        if residual:
            self.shortcut = nn.Identity() if in_dim == out_dim else linear(in_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_dim) to (batch, out_dim)."""
        y: Tensor = self.dropout(torch.relu(self.norm(self.linear(x))))
        return y if self.shortcut is None else y + self.shortcut(x)


class FeatureAttention(nn.Module):
    """Self-attention among the features of an object, each feature a token.

    Token j is x_j w_j + b_j (Gorishniy et al. 2021, arXiv:2106.11959, eq. 1); the attended tokens
    are projected back to one number a feature and added to the input.

    Args:
        num_features: Number of tokens.
        token_dim: Width of a token.
        num_heads: Attention heads.
    """

    def __init__(self, num_features: int, token_dim: int = 32, num_heads: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_features, token_dim))
        self.bias = nn.Parameter(torch.zeros(num_features, token_dim))
        nn.init.xavier_uniform_(self.weight)
        self.norm = nn.LayerNorm(token_dim)
        self.attention = nn.MultiheadAttention(token_dim, num_heads, batch_first=True)
        self.projection = linear(token_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, features) to (batch, features)."""
        tokens = x.unsqueeze(-1) * self.weight + self.bias  # (batch, features, token)
        normed = self.norm(tokens)
        attended, _ = self.attention(normed, normed, normed, need_weights=False)
        projected: Tensor = self.projection(tokens + attended)
        return x + projected.squeeze(-1)


class MLP(nn.Module):
    """Hidden blocks and a linear output.

    Args:
        in_dim: Width of the input.
        hidden_dims: Widths of the hidden layers.
        out_dim: Width of the output.
        batch_norm: Normalise hidden layers over the batch.
        dropout: Dropout in the hidden layers.
        variant: `plain`, `residual` (blocks with shortcuts) or `attention` (self-attention among
            the input features before plain blocks).
        gradient_checkpointing: Recompute the blocks in the backward pass to save memory.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dims: Sequence[int],
        out_dim: int,
        batch_norm: bool = True,
        dropout: float = 0.0,
        variant: Variant = "plain",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        widths = [in_dim, *hidden_dims]
        self.blocks = nn.ModuleList(
            Block(a, b, batch_norm, dropout, variant == "residual") for a, b in pairwise(widths)
        )
        if variant == "attention":
            self.blocks.insert(0, FeatureAttention(in_dim))
        self.output = linear(widths[-1], out_dim)
        self.gradient_checkpointing = gradient_checkpointing

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_dim) to (batch, out_dim)."""
        for block in self.blocks:
            x = self._recomputed(block, x) if self.gradient_checkpointing else block(x)
        y: Tensor = self.output(x)
        return y

    @staticmethod
    def _recomputed(block: nn.Module, x: Tensor) -> Tensor:
        """Run a block without keeping its activations."""

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), frozen_statistics(block)

        y: Tensor = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
        return y


@contextmanager
def frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Leave the running statistics of a block's normalisations as they are."""
    norms = [module for module in block.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.recomputing = True
    try:
        yield
    finally:
        for norm in norms:
            norm.recomputing = False


def linear(in_dim: int, out_dim: int) -> nn.Linear:
    """Return a linear layer with Xavier-uniform weights and zero bias."""
    layer = nn.Linear(in_dim, out_dim)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
