"""What two gloo processes do; `test_spectra_ddp.py` starts this and reads what it writes.

Lightning itself starts the second process, by running this script again.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from callbacks import SpectraReport, SpectrumWriter
from datamodules import SpectraDataModule, SyntheticSpectra
from lightning_modules import SpectraVAE
from tests.reliability.processes import leave_process_group

NUM = 130


class WithoutFigures(SpectraReport):
    """Figures take most of the time and know nothing of processes."""

    def draw(self, *_: Any) -> dict[str, Any]:
        return {}


def make_data(folder: Path) -> SpectraDataModule:
    source = SyntheticSpectra(NUM, grid_pixels=7214)
    return SpectraDataModule(source, batch_size=16, test_fraction=0.5, cache_dir=str(folder))


def make_module(data: SpectraDataModule) -> SpectraVAE:
    torch.manual_seed(0)
    module = SpectraVAE(7214, latent_dim=4, hidden_dims=[8])
    module.fit_statistics(data.training_statistics())
    return module


def main(folder: Path) -> None:
    data = make_data(folder)
    data.prepare_data()
    data.setup("test")
    module = make_module(data)
    settings: dict[str, Any] = {
        "accelerator": "cpu", "strategy": "ddp", "devices": 2, "logger": False,
        "use_distributed_sampler": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False,
        "default_root_dir": folder,
    }  # fmt: skip
    report = WithoutFigures(baselines=False, num_resamples=5, max_boosting=0)
    Trainer(callbacks=[report], **settings).test(module, data, verbose=False)
    Trainer(callbacks=[SpectrumWriter()], **settings).predict(module, data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_process_group()
