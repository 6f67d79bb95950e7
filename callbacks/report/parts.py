"""The parts of an ensemble's uncertainty, in any method's report."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from callbacks.report.base import TestRun

PARTS = ("aleatoric", "epistemic", "final_aleatoric", "final_epistemic")
"""What an `Ensemble` says of the classes of an object: parts of their entropy, in nats."""


def kept_parts(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parts that have one number an object."""
    return {name: outputs[name] for name in PARTS if name in outputs and outputs[name].ndim == 1}


def add_parts(run: "TestRun") -> None:
    """Add the held-out mean of each part, of the objects where it is known."""
    for name in PARTS:
        if name in run.rows:
            known = run.split("held_out") & np.isfinite(run.rows[name])
            scope = run.scope("model", known, split="held_out")
            scope.mean(name.removeprefix("final_"), run.rows[name][known])
