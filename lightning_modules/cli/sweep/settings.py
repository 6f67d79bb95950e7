"""What a sweep is told on the command line, as `--sweep.<name>`."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """How a sweep goes through its space.

    Args:
        space: YAML file of the options to try; a shipped name (clustering/space.yaml) will do.
        folder: Of the study and all its runs; runs/<method>/<configuration>_sweep if null. A study
            that is there already goes on.
        sampler: `grid` tries all points, `random` draws them, `tpe` prefers what went well.
        num_trials: Runs in all, those of earlier and other processes among them; all points of a
            grid, else 20, if null.
        monitor: Validation metric that is optimised.
        direction: Whether a good value is small or large.
        pruner: `median` ends a run that is worse than the median of the runs before it at the same
            epoch, once there are five.
        warmup_epochs: Epochs before which no run is pruned.
        test: Whether to test each run; what its report says of the model is recorded beside it.
        watch: Keys of the report (model/...) that are drawn against the first option of the space,
            with bars from their `_q16` to their `_q84` where those are.
        seed: Fixes the draws of `random` and `tpe`.
    """

    space: str
    folder: str | None = None
    sampler: Literal["grid", "random", "tpe"] = "tpe"
    num_trials: int | None = None
    monitor: str = "val/loss"
    direction: Literal["minimize", "maximize"] = "minimize"
    pruner: Literal["none", "median"] = "none"
    warmup_epochs: int = 0
    test: bool = True
    watch: list[str] = field(default_factory=list)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sweep.

        Raises:
            ValueError: Naming the option.
        """
        if not self.monitor.startswith("val/"):
            raise ValueError(
                f"--sweep.monitor {self.monitor}: a sweep optimises a metric of the validation "
                "(val/...); what a report says of the test is recorded, never optimised"
            )
        if (self.num_trials is not None and self.num_trials < 1) or self.warmup_epochs < 0:
            raise ValueError(
                f"--sweep.num_trials {self.num_trials} must be at least 1 and "
                f"--sweep.warmup_epochs {self.warmup_epochs} not negative"
            )
        if self.watch and not self.test:
            raise ValueError("--sweep.watch needs reports: leave --sweep.test true")
