"""What two gloo processes do; `test_ddp.py` starts this once and compares with one process."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import SGD

from lightning_modules import BaseModule, CompactClustering, CrossSectionRegressor
from tests.lightning_modules.sidm.conftest import Clusters, MapData
from tests.lightning_modules.sidm.maps import SMALL
from tests.reliability.processes import leave_process_group

PLAIN: dict[str, Any] = {"profile_rings": 0, "augment": False, "dropout": 0.0}
"""Neither draws nor statistics of a process's own batch."""
NUM_MAPS = {"class": 103, "unlabelled": 101, "regressor": 103}
"""67 or 65 of them train: the last global batch of 16 has three rows, or one."""


class Clustering(CompactClustering):
    """Plain descent: Adam would blow up the rounding of gradients that are nearly zero."""

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=1e-2)


class Regressor(CrossSectionRegressor):
    """Likewise."""

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=1e-2)


def model(kind: str) -> BaseModule:
    """A small model; its weights are drawn after the same seed everywhere."""
    torch.manual_seed(0)
    if kind == "regressor":
        known = {k: SMALL[k] for k in ("image_size", "widths", "depths", "hidden_dim")}
        return Regressor(**known, **PLAIN)
    classes = {"num_classes": 4 if kind == "class" else 3, "hidden": kind, "decoder_weight": 0.1}
    classes |= {"cclp_weight": 1.0}  # as much as the others
    classes |= {"ordered_bottleneck": kind == "unlabelled"}
    return Clustering(**(SMALL | PLAIN | classes))


def trained(folder: Path, kind: str, batch_size: int, **arguments: Any) -> dict[str, Tensor]:
    """Train two epochs, the last batch uneven, and return state and what was logged."""
    module = model(kind)
    data = MapData(
        Clusters(NUM_MAPS[kind]), batch_size, val_fraction=0.2, cache_dir=str(folder / "cache")
    )
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        use_distributed_sampler=False, **arguments,
    )  # fmt: skip
    trainer.fit(module, data)
    rows = torch.tensor(len(data.rows["train"]))
    logged = {name: value.clone() for name, value in trainer.callback_metrics.items()}
    state = {name: values.clone() for name, values in module.state_dict().items()}
    return {"rows": rows, **state, **logged}


def main() -> None:
    """Save what this rank found."""
    folder = Path(sys.argv[1])
    ddp: dict[str, Any] = {"strategy": "ddp", "devices": 2}
    found = {kind: trained(folder, kind, 8, **ddp) for kind in NUM_MAPS}
    torch.save(found, folder / f"rank{os.environ.get('LOCAL_RANK', '0')}.pt")


if __name__ == "__main__":
    main()
    leave_process_group()
