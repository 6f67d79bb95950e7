"""The optimizer that every model shares: which weights decay, and the rate at a step."""

import math
from typing import Any, ClassVar, Literal

from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import AdamW
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
        """Take the step, if it was of such a schedule; `follow` sets step and rates besides."""
        if "lr_lambdas" in state_dict:
            self.last_epoch = state_dict["last_epoch"]

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


class OptimizedModule(LightningModule):
    """A module with AdamW, whose rates follow the optimizer step, also when a run is resumed."""

    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    fused: ClassVar[bool] = True
    lr: float
    weight_decay: float
    schedule: Schedule
    warmup_steps: int
    _one_group = False

    @property
    def has_trainer(self) -> bool:
        """Whether a Trainer runs this module."""
        try:
            return self.trainer is not None
        except RuntimeError:
            return False

    def on_train_start(self) -> None:
        """Set the rate of this step: a resumed run may be longer, a finder may have changed it."""
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, StepSchedule):
                config.scheduler.follow(self.global_step, None if self.global_step else self.lr)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put this run's rates into the optimizer states that Lightning restores next."""
        if self.has_trainer and self.trainer.state.fn == "fit":
            retune(checkpoint, self._rates())
            # A checkpoint of an optimizer without groups goes on without: all its weights decay.
            states = checkpoint.get("optimizer_states", [])
            self._one_group = [len(state["param_groups"]) for state in states] == [1]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW and its schedule; override, or use `--optimizer`, for another."""
        # Lightning refuses to clip gradients of a fused optimizer in mixed precision.
        mixed = self.has_trainer and isinstance(self.trainer.precision_plugin, MixedPrecision)
        optimizer = AdamW(
            self.parameters() if self._one_group else parameter_groups(self),
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=self.fused and not mixed,
        )
        if is_flat(self._rates()):
            return optimizer
        schedule = StepSchedule(optimizer, self._rate_factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _rates(self) -> dict[str, Any]:
        """Return what sets the learning rate and the decay."""
        return {name: getattr(self, name) for name in RATES}

    def _rate_factor(self, step: int) -> float:
        """Return the share of `lr` at an optimizer step.

        The length of the training is asked for when it is needed first: before training starts,
        Lightning would set up the loader for it, without the state that a resumed one has.

        Raises:
            ValueError: If a cosine has no last step.
        """
        total = math.inf
        if self.schedule == "cosine" and step > self.warmup_steps:
            total = self.trainer.estimated_stepping_batches
            if not 0 < total < math.inf:
                raise ValueError(
                    "model.schedule is cosine but the training has no last step; "
                    "set trainer.max_epochs or trainer.max_steps, or model.schedule to constant"
                )
        return rate_factor(step, total, self.schedule, self.warmup_steps)
