"""The optimizer's parts that every model shares: which weights decay, and the rate at a step."""

import math
from typing import Any, Literal

from torch import nn
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["constant", "cosine"]
RATES = ("lr", "weight_decay", "schedule", "warmup_steps")
"""Arguments of every model that set the learning rate and the decay."""
WITHOUT_DECAY = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Return an optimizer's groups: `decayed`, and `spared` of weight decay.

    Spared are norms, biases and whatever else has fewer than two axes, and embeddings.
    """
    parts = (part for part in module.modules() if isinstance(part, WITHOUT_DECAY))
    without = {weight for part in parts for weight in part.parameters()}
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for weight in module.parameters():
        (spared if weight.ndim < 2 or weight in without else decayed).append(weight)
    return [
        {"name": "decayed", "params": decayed},
        {"name": "spared", "params": spared, "weight_decay": 0.0},
    ]


def rate_factor(step: int, total: float, schedule: Schedule, warmup_steps: int) -> float:
    """Return the share of the learning rate that an update uses.

    It rises linearly from 1 / (warmup_steps + 1) at step 0 to 1 at step `warmup_steps`; then it
    stays, or falls as half a cosine to 0 at step `total`.

    Args:
        step: Updates before this one.
        total: Updates of the whole training.
        schedule: `constant` or `cosine`.
        warmup_steps: Updates of the rise.
    """
    if step <= warmup_steps or schedule == "constant":
        return min(1.0, (step + 1) / (warmup_steps + 1))
    if step >= total:
        return 0.0
    share = (step - warmup_steps) / (total - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * share))


class StepSchedule(LambdaLR):
    """Rates that are a function of the optimizer step and of the groups' `initial_lr` alone.

    What a checkpoint says of a schedule is not needed, so that a longer run, another schedule and
    checkpoints of another scheduler resume.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load nothing: `follow` sets step and rates."""

    def follow(self, step: int, rate: float | None = None) -> None:
        """Set the optimizer's rates to those of a step.

        Args:
            step: Updates so far.
            rate: New `initial_lr` of every group; None keeps theirs.
        """
        self.last_epoch = step
        groups = self.optimizer.param_groups
        self.base_lrs = [group["initial_lr"] if rate is None else rate for group in groups]
        for group, base, factor in zip(groups, self.base_lrs, self.lr_lambdas, strict=True):
            group.update(initial_lr=base, lr=base * factor(step))


def retune(checkpoint: dict[str, Any], now: dict[str, Any]) -> None:
    """Put this run's rate, decay and schedule into the optimizer states to be restored.

    What the user typed wins over what the checkpoint remembers; a group whose rate is not the
    checkpoint's `lr` (a later phase, another optimizer) keeps its own.

    Args:
        checkpoint: As loaded; edited.
        now: `lr`, `weight_decay`, `schedule` and `warmup_steps` of this run.
    """
    before = {"schedule": "constant", "warmup_steps": 0, **checkpoint.get("hyper_parameters", {})}
    states = checkpoint.get("optimizer_states", [])
    for group in (group for state in states for group in state["param_groups"]):
        decay, rate = group.get("weight_decay"), group.setdefault("initial_lr", group["lr"])
        if group.get("name") != "spared" and decay == before.get("weight_decay"):
            group["weight_decay"] = now["weight_decay"]
        if rate and rate == before.get("lr"):
            group.update(initial_lr=now["lr"], lr=group["lr"] * (now["lr"] / rate))
        if is_flat(now) and not is_flat(before):
            group["lr"] = group["initial_lr"]


def is_flat(rates: dict[str, Any]) -> bool:
    """Return whether the rate is the same at every step, so that no schedule is needed.

    Args:
        rates: With `schedule` and `warmup_steps`.
    """
    return rates["schedule"] == "constant" and not rates["warmup_steps"]
