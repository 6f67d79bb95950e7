"""Calibration of probabilities as a function of the number of epochs seen (no Lightning)."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

KNOTS = tuple(5 * 2**power for power in range(13))
"""Numbers of epochs (5 to 20,480) at which the temperature is fitted."""

SMOOTHNESS = 1e-3
"""Penalty, in nats, of a squared step of one in log T between knots."""

MAX_CURVES = 16384
"""Curves of one process that a fit uses."""

SAMPLES = 16
"""Epochs of a curve taken evenly, and as many evenly in the logarithm."""


class EpochTemperature(nn.Module):
    """Divides logits by a temperature T(n) that depends on the number of epochs seen, n.

    log T is linear in log n between knots and constant beyond them; it starts at 0. The order of
    the classes never changes. The temperature is a buffer, part of the checkpoint.

    Reference: Guo et al. 2017 (arXiv:1706.04599) for temperature scaling.
    """

    knots: Tensor
    log_temperature: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("knots", torch.tensor(KNOTS, dtype=torch.float32))
        self.register_buffer("log_temperature", torch.zeros(len(KNOTS)))

    def forward(self, logits: Tensor, num_epochs: Tensor) -> Tensor:
        """Return calibrated log-probabilities.

        Args:
            logits: Shape (..., C).
            num_epochs: Epochs seen by each, at least 1, shape (...).
        """
        log_temperature = self._weights(num_epochs) @ self.log_temperature
        return (logits * (-log_temperature).exp().unsqueeze(-1)).log_softmax(dim=-1)

    def fit(self, logits: Tensor, num_epochs: Tensor, label: Tensor) -> None:
        """Fit the temperature: the lowest negative log-likelihood, with steps between knots damped.

        Args:
            logits: Shape (M, C).
            num_epochs: Shape (M,).
            label: Shape (M,) int64.
        """
        with torch.inference_mode(False), torch.enable_grad():
            z, y = logits.detach().double().clone(), label.clone()
            weights = self._weights(num_epochs.clone()).double()
            theta = torch.zeros_like(self.log_temperature, dtype=torch.float64, requires_grad=True)
            optimizer = torch.optim.LBFGS([theta], max_iter=50, line_search_fn="strong_wolfe")

            def closure() -> Tensor:
                optimizer.zero_grad()
                scaled = z * (-(weights @ theta)).exp().unsqueeze(-1)
                loss = functional.cross_entropy(scaled, y)
                steps = theta.diff().square().sum() + 1e-2 * theta.square().sum()
                loss = loss + SMOOTHNESS * steps
                loss.backward()
                return loss

            optimizer.step(closure)
        self.log_temperature.copy_(theta.detach())

    def _weights(self, num_epochs: Tensor) -> Tensor:
        """Return the share of each knot in the temperature, shape (..., knots)."""
        place = (num_epochs.clamp_min(1).float() / self.knots[0]).log2()
        place = place.clamp(0.0, len(self.knots) - 1.0).unsqueeze(-1)
        numbers = torch.arange(len(self.knots), device=place.device)
        return (1 - (place - numbers).abs()).clamp_min(0.0)


class CalibrationSample(Metric):
    """Collects logits at some epochs of the curves of an evaluation, from all processes."""

    full_state_update = False
    logits: list[Tensor]
    num_epochs: list[Tensor]
    label: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("logits", "num_epochs", "label"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, num_epochs: Tensor, label: Tensor) -> None:
        """Add curves, as long as there are fewer than `MAX_CURVES`.

        Args:
            logits: At every kept epoch, shape (B, N, C).
            num_epochs: Kept epochs, shape (B,).
            label: Classes; rows below 0 are left out, shape (B,).
        """
        known = (label >= 0) & (num_epochs > 0)
        if sum(map(len, self.label)) >= MAX_CURVES * 2 * SAMPLES:
            return
        seen = sampled_epochs(num_epochs[known])  # (B, S)
        chosen = logits[known].gather(1, (seen - 1).unsqueeze(-1).expand(-1, -1, logits.shape[-1]))
        self.logits.append(chosen.detach().flatten(0, 1))
        self.num_epochs.append(seen.flatten())
        self.label.append(label[known].repeat_interleave(seen.shape[1]))

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (M, C), number of epochs (M,) and label (M,)."""
        return dim_zero_cat(self.logits), dim_zero_cat(self.num_epochs), dim_zero_cat(self.label)


def sampled_epochs(num_epochs: Tensor) -> Tensor:
    """Return numbers of epochs from 1 to each curve's last, shape (B, 2 SAMPLES)."""
    share = torch.arange(1, SAMPLES + 1, device=num_epochs.device) / SAMPLES
    total = num_epochs.unsqueeze(-1).float()
    return torch.cat([total * share, total**share], dim=1).round().long().clamp_min(1)
