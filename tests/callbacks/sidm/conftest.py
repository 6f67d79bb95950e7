"""Maps and a trained model that the tests of this folder share."""

from typing import Any

import pytest
import torch

from datamodules import SIDMDataModule
from lightning_modules import CompactClustering
from tests.callbacks.sidm.cores import make_data, make_model


@pytest.fixture(scope="session")
def cores(tmp_path_factory: pytest.TempPathFactory) -> SIDMDataModule:
    """Maps with known, hidden, calibration and foreign simulations."""
    return make_data(tmp_path_factory.mktemp("cores"))


@pytest.fixture(scope="session")
def trained(
    stars: Any, cores: SIDMDataModule, tmp_path_factory: pytest.TempPathFactory
) -> CompactClustering:
    """A model of them, with known maps of its validation."""
    torch.manual_seed(0)
    model = make_model(decoder_weight=0.1)
    stars.trainer(tmp_path_factory.mktemp("fit"), max_epochs=4).fit(model, cores)
    return model.eval()
