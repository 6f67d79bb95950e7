"""What two gloo processes do; `test_ddp.py` starts this once and compares with one process."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

from lightning_modules import SpectraVAE
from tests.lightning_modules.spectra.conftest import StarData, Stars
from tests.lightning_modules.spectra.stars import SMALL
from tests.reliability.processes import leave_process_group

VAL_FRACTIONS = {"gaussian_mi": 0.25, "cross_correlation": 0.0}
"""Separability to share of stars for validation; without any, training stars are the population."""


def trained(
    folder: Path, separability: str, batch_size: int, **arguments: Any
) -> dict[str, Tensor]:
    """Train two epochs on 60 or 87 stars, the last batch uneven, and return the state."""
    seed_everything(0, verbose=False)
    model = PlainVAE(**SMALL, separability=separability, separability_weight=100.0)
    fraction, cache = VAL_FRACTIONS[separability], str(folder / "cache")
    data = StarData(Stars(116), batch_size, val_fraction=fraction, cache_dir=cache)
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        use_distributed_sampler=False, **arguments,
    )  # fmt: skip
    trainer.fit(model, data)
    logged = {name: value.clone() for name, value in trainer.callback_metrics.items()}
    return {**{name: values.clone() for name, values in model.state_dict().items()}, **logged}


class PlainVAE(SpectraVAE):
    """Trains on mean latents, for two processes do not draw what one draws, by plain descent.

    Adam would blow up the rounding of gradients that are nearly zero.
    """

    def _pass(self, batch: Any, sample: bool) -> Any:
        return super()._pass(batch, False)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


def main() -> None:
    """Save what this rank found."""
    folder = Path(sys.argv[1])
    ddp: dict[str, Any] = {"strategy": "ddp", "devices": 2}
    found = {name: trained(folder, name, 8, **ddp) for name in VAL_FRACTIONS}
    torch.save(found, folder / f"rank{os.environ.get('LOCAL_RANK', '0')}.pt")


if __name__ == "__main__":
    main()
    leave_process_group()
