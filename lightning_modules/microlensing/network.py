"""Causal networks that classify a light curve at every kept epoch (torch only).

Each network has two ways to the same numbers: `forward` for whole curves, which computes the output
at every epoch at once, and `start` and `push` for one curve, epoch by epoch at constant cost.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_modules.microlensing.curves import (
    NUM_FEATURES,
    NUM_SUMMARIES,
    KeptEpochs,
    curve_features,
    running_summaries,
)

State = dict[str, Tensor]
"""What a stream of one curve remembers; plain tensors."""


class CausalConv1d(nn.Conv1d):
    """Convolution over time whose output at t depends on inputs up to t only.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Taps.
        dilation: Steps between taps.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation)
        self.reach = (kernel_size - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, time) to (batch, out_channels, time)."""
        return super().forward(functional.pad(x, (self.reach, 0)))

    def start(self) -> Tensor:
        """Return the history before the first step: zeros, shape (reach, in_channels)."""
        return self.weight.new_zeros(self.reach, self.in_channels)

    def push(self, history: Tensor, step: int, x: Tensor) -> Tensor:
        """Return the output at one more step; `history`, a ring of past inputs, takes x.

        Args:
            history: As `start` returned or `push` left it.
            step: Steps before this one.
            x: Input, shape (in_channels,).

        Returns:
            Shape (out_channels,).
        """
        taps = [x]
        if self.reach:
            oldest = step % self.reach
            places = range(oldest, oldest + self.reach, self.dilation[0])
            taps = [*history[[place % self.reach for place in places]], x]
            history[oldest] = x
        return functional.linear(torch.stack(taps, -1).flatten(), self.weight.flatten(1), self.bias)


def start_histories(levels: nn.ModuleList) -> State:
    """Return the histories of causal convolutions before the first step, by name."""
    causal = [conv for conv in levels if isinstance(conv, CausalConv1d)]
    return {f"level_{i}": conv.start() for i, conv in enumerate(causal)}


class CurveNetwork(nn.Module, ABC):
    """Base of the networks."""

    @abstractmethod
    def forward(self, epochs: KeptEpochs) -> Tensor:
        """Return logits at every kept epoch, shape (B, N, num_classes)."""

    @abstractmethod
    def start(self) -> State:
        """Return the state of a curve without epochs."""

    @abstractmethod
    def push(self, state: State, step: int, features: Tensor) -> Tensor:
        """Return the logits after one more epoch, shape (num_classes,); `state` is changed.

        Args:
            state: As `start` returned or `push` left it.
            step: Epochs before this one.
            features: Of the epoch, shape (NUM_FEATURES,).
        """


class Level(CausalConv1d):
    """A residual level: the input, mapped linearly if widths differ, plus ReLU of a convolution.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Taps.
        dilation: Steps between taps.
        dropout: Dropout of what is added.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, dilation: int, dropout: float
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, dilation)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Linear(in_channels, out_channels, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, time) to (batch, out_channels, time)."""
        found = self.dropout(torch.relu(super().forward(x)))
        return self.shortcut(x.transpose(1, 2)).transpose(1, 2) + found

    def push(self, history: Tensor, step: int, x: Tensor) -> Tensor:
        """Return the output at one more step, shape (out_channels,)."""
        return self.shortcut(x) + torch.relu(super().push(history, step, x))


class DilatedNetwork(CurveNetwork):
    """Dilated causal convolutions over tokens of epochs, and a classifier at every epoch.

    A token is `epochs_per_token` consecutive kept epochs, summarised by `running_summaries`. A
    token is closed once it is full. Closed tokens go through residual convolutions of dilation 1,
    2, 4, ...; what they found, and the highest value each channel ever had, which has no limit in
    time, is joined at each epoch by the summary of the token that is still open (zero if none).

    Reference: Bai, Kolter & Koltun 2018 (arXiv:1803.01271) for dilated causal convolutions.

    Args:
        num_classes: Outputs.
        channels: Channels of each level.
        kernel_sizes: Taps of each level.
        hidden_dim: Width of the classifier's hidden layer.
        dropout: Dropout in levels and classifier.
        epochs_per_token: Epochs in a token.
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int],
        kernel_sizes: Sequence[int],
        hidden_dim: int,
        dropout: float,
        epochs_per_token: int,
    ) -> None:
        super().__init__()
        self.epochs_per_token = epochs_per_token
        self.output_channels = channels[-1]
        self.embedding = CausalConv1d(NUM_SUMMARIES, channels[0], 1)
        widths = [channels[0], *channels]
        self.levels = nn.ModuleList(
            Level(a, b, size, 2**level, dropout)
            for level, ((a, b), size) in enumerate(zip(pairwise(widths), kernel_sizes, strict=True))
        )
        self.dropout = nn.Dropout(dropout)
        self.from_closed = nn.Linear(2 * channels[-1], hidden_dim)
        self.from_open = nn.Linear(NUM_SUMMARIES, hidden_dim, bias=False)
        self.output = nn.Linear(hidden_dim, num_classes)

    def forward(self, epochs: KeptEpochs) -> Tensor:
        """Return logits at every kept epoch, shape (B, N, num_classes)."""
        features = curve_features(epochs)
        length, size = features.shape[1], self.epochs_per_token
        features = functional.pad(features, (0, 0, 0, -length % size)).unflatten(1, (-1, size))
        summaries = running_summaries(features)  # (B, tokens, size, summaries)
        x = self.embedding(summaries[:, :, -1].transpose(1, 2))
        for level in self.levels:
            x = level(x)
        found = torch.cat([x, x.cummax(dim=2).values], dim=1).transpose(1, 2)
        found = functional.pad(found, (0, 0, 1, 0))  # before the first token nothing was found
        closed = self.from_closed(found)  # (B, tokens + 1, hidden)
        opened = self.from_open(summaries[:, :, :-1])
        filling = closed[:, :-1, None] + opened
        hidden = torch.cat([filling, closed[:, 1:, None]], dim=2).flatten(1, 2)
        return self.output(self.dropout(torch.relu(hidden[:, :length])))

    def start(self) -> State:
        """Return the state of a curve without epochs."""
        weight = self.output.weight
        return {
            "pending": weight.new_zeros(self.epochs_per_token, NUM_FEATURES),
            "closed": self.from_closed.bias.detach().clone(),
            "highest": weight.new_full((self.output_channels,), -torch.inf),
            **start_histories(self.levels),
        }

    def push(self, state: State, step: int, features: Tensor) -> Tensor:
        """Return the logits after one more epoch; `state` is changed."""
        token, place = divmod(step, self.epochs_per_token)
        state["pending"][place] = features
        summary = running_summaries(state["pending"])[place]
        hidden = state["closed"] + self.from_open(summary)
        if place == self.epochs_per_token - 1:
            hidden = self._close(state, token, summary)
            state["closed"].copy_(hidden)
        return self.output(torch.relu(hidden))

    def _close(self, state: State, token: int, summary: Tensor) -> Tensor:
        """Send a full token through the convolutions; return what is known of all closed ones."""
        x = functional.linear(summary, self.embedding.weight[:, :, 0], self.embedding.bias)
        for i, level in enumerate(self.levels):
            assert isinstance(level, Level)
            x = level.push(state[f"level_{i}"], token, x)
        state["highest"].copy_(torch.maximum(state["highest"], x))
        return self.from_closed(torch.cat([x, state["highest"]]))


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the epochs that exist.

    Args:
        num_features: Channels.
    """

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise (batch, channels, time) by the entries where `valid` (batch, time)."""
        if not self.training:
            return super().forward(x)
        by_epoch = x.transpose(1, 2)
        normed = torch.zeros_like(by_epoch)
        normed[valid] = super().forward(by_epoch[valid])
        return normed.transpose(1, 2)


class ReferenceNetwork(CurveNetwork):
    """The network of kunalb541/Thesis, made causal.

    Convolutions with batch normalisation, ReLU and dropout, then one hidden layer at each epoch;
    the output is the mean of the logits, here over the epochs so far. Input is the first feature.
    Its 34,274 parameters see 9 epochs at a time; padding is on the left only. In training, batch
    normalisation mixes all epochs of a batch; after training nothing does.

    Args:
        num_classes: Outputs.
        channels: Channels of each convolution; 128, 64, 32 in the reference.
        kernel_sizes: Taps of each; 5, 3, 3 in the reference.
        hidden_dim: Width of the classifier's hidden layer; 64 in the reference.
        dropout: Dropout throughout; 0.3 in the reference.
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int],
        kernel_sizes: Sequence[int],
        hidden_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            CausalConv1d(a, b, size)
            for (a, b), size in zip(pairwise([1, *channels]), kernel_sizes, strict=True)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(width) for width in channels)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(channels[-1], hidden_dim)
        self.output = nn.Linear(hidden_dim, num_classes)

    def forward(self, epochs: KeptEpochs) -> Tensor:
        """Return logits at every kept epoch, shape (B, N, num_classes)."""
        x = curve_features(epochs)[..., :1].transpose(1, 2)
        for conv, norm in zip(self.levels, self.norms, strict=True):
            x = self.dropout(torch.relu(norm(conv(x), epochs.valid)))
        logits = self._classify(x.transpose(1, 2))
        numbers = torch.arange(1, logits.shape[1] + 1, device=logits.device)
        return logits.cumsum(dim=1) / numbers.unsqueeze(-1)

    def start(self) -> State:
        """Return the state of a curve without epochs."""
        return {"total": torch.zeros_like(self.output.bias), **start_histories(self.levels)}

    def push(self, state: State, step: int, features: Tensor) -> Tensor:
        """Return the logits after one more epoch; `state` is changed."""
        x = features[:1]
        for i, (conv, norm) in enumerate(zip(self.levels, self.norms, strict=True)):
            assert isinstance(conv, CausalConv1d)
            x = conv.push(state[f"level_{i}"], step, x)
            x = torch.relu(norm(x[None, :, None], None)[0, :, 0])
        state["total"] += self._classify(x)
        return state["total"] / (step + 1)

    def _classify(self, x: Tensor) -> Tensor:
        """Return the logits of features (..., channels)."""
        return self.output(self.dropout(torch.relu(self.hidden(x))))
