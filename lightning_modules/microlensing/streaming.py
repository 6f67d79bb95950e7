"""Probabilities while an event unfolds: one epoch in, one probability out, at constant cost."""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.microlensing.calibration import EpochTemperature
from lightning_modules.microlensing.curves import epoch_features
from lightning_modules.microlensing.network import CurveNetwork


class StreamOutput(NamedTuple):
    """What a stream says after an epoch.

    Attributes:
        num_epochs: Epochs so far.
        probability: Class to calibrated probability.
    """

    num_epochs: int
    probability: dict[str, float]


class Stream:
    """Classifies one light curve as its epochs arrive, as the forward over the whole curve would.

    The state has constant size: the past inputs that convolutions still need, the epochs of the
    open token, and the epoch before. `state_dict` and `load_state_dict` carry it over a restart.

    Args:
        network: The network; the stream keeps a copy as it is now.
        temperature: Its calibration, likewise.
        classes: Names of the classes.
    """

    def __init__(
        self, network: CurveNetwork, temperature: EpochTemperature, classes: list[str]
    ) -> None:
        self.network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
        self.temperature = copy.deepcopy(temperature).cpu().float()
        self.classes = list(classes)
        self.reset()

    def reset(self) -> None:
        """Forget the curve."""
        self.state = {
            "num_epochs": torch.zeros((), dtype=torch.int64),
            "epoch": torch.full((3,), torch.nan, dtype=torch.float64),  # time, flux, error
            "probability": torch.full((len(self.classes),), torch.nan),
            **self.network.start(),
        }

    @property
    def num_epochs(self) -> int:
        """Epochs so far."""
        return int(self.state["num_epochs"])

    @torch.inference_mode()
    def step(self, time: float, flux: float, error: float) -> StreamOutput:
        """Take one epoch and return the probability after it.

        The time of the last epoch again is a repeated delivery: the answer is the same as then.

        Args:
            time: Days, later than those before.
            flux: Over the reference flux: 1 is the quiet baseline.
            error: Of the flux, likewise.

        Raises:
            ValueError: If a number is not finite, the error is not positive, or the time is
                earlier than that of the last epoch.
        """
        _check_epoch(time, flux, error)
        last = float(self.state["epoch"][0]) if self.num_epochs else -math.inf
        if time < last:
            raise ValueError(
                f"the epoch at time {time} is earlier than the last one at {last}: a stream goes "
                "forward only; run the whole light curve through predict instead"
            )
        if time > last:
            self._advance(time, flux, error)
        probability = self.state["probability"].tolist()
        return StreamOutput(self.num_epochs, dict(zip(self.classes, probability, strict=True)))

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the state: plain tensors."""
        return {name: value.clone() for name, value in self.state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take a state that `state_dict` returned.

        Raises:
            ValueError: If it is that of another network.
        """
        own, given = ({k: tuple(v.shape) for k, v in s.items()} for s in (self.state, state))
        if own != given:
            raise ValueError(
                f"the state {given} is not one of this network, whose states are {own}"
            )
        self.state = {name: state[name].to(value, copy=True) for name, value in self.state.items()}

    def _advance(self, time: float, flux: float, error: float) -> None:
        """Send an epoch through the network."""
        state, step = self.state, self.num_epochs
        now = torch.tensor([time, flux, error], dtype=torch.float64)
        before = state["epoch"] if step else now
        gap = now[0] - before[0] if step else now.new_ones(())
        values = (now[1], now[2], gap, before[1], before[2])
        features = epoch_features(*(value.float() for value in values))
        logits = self.network.push(state, step, features)
        state["num_epochs"] += 1
        state["epoch"] = now
        state["probability"] = self.temperature(logits, state["num_epochs"]).exp()


def _check_epoch(time: float, flux: float, error: float) -> None:
    """Refuse numbers that are no measurement.

    Raises:
        ValueError: Naming them.
    """
    if not all(map(math.isfinite, (time, flux, error))) or error <= 0:
        raise ValueError(
            f"time={time}, flux={flux}, error={error}: all must be finite and the error positive"
        )
