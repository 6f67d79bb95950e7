"""A small simulated field, and short fits of the mixture to it, in one process or in two."""

import math
import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from datamodules import ClusteringDataModule, StarCluster, SyntheticField
from lightning_modules import ClusterMixture
from lightning_modules.clustering import mixture_passes
from tests.reliability.runs import Run, fit

SMALL: dict[str, Any] = {"max_clusters": 1, "search_stars": 400}
"""Quick settings of the model."""
GATED = SMALL | {"photometry": "network"}
DDP: dict[str, Any] = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}


def field(folder: Path, batch_size: int = 256, **arguments: Any) -> ClusteringDataModule:
    """Return 500 stars of a field and a cluster of 300."""
    cluster = StarCluster(num_stars=300, scale=0.05, parallax=0.5, dispersion=0.3)
    source = SyntheticField(500, [cluster])
    return ClusteringDataModule(source, batch_size=batch_size, cache_dir=str(folder), **arguments)


def fitted(folder: Path, *callbacks: Any, **arguments: Any) -> Run:
    """Fit in five passes."""
    defaults = {"kind": ClusterMixture, "data": field(folder), "model": SMALL, "max_epochs": 5}
    return fit(folder, *callbacks, **(defaults | arguments))


def main() -> None:
    """Save what a process of two found."""
    folder = Path(sys.argv[1])
    mixture_passes.GATE_WAITS = math.inf  # as in the test, for fits are short
    run = fitted(folder, data=field(folder, 128), model=GATED, **DDP)
    rank = os.environ.get("LOCAL_RANK", "0")
    torch.save({"state": run.module.state_dict(), "logged": run.logged}, folder / f"{rank}.pt")
    assert isinstance(run.trainer, Trainer)


if __name__ == "__main__":
    main()
