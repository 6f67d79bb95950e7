"""Checkpoints of an earlier version load and predict as they did then."""

from pathlib import Path

import pytest
import torch

from lightning_modules import (
    BaseModule,
    CompactClustering,
    DeepEmbeddedClustering,
    SpectraVAE,
    TimeDistributedCNN,
)

HERE = Path(__file__).parent
MODELS: dict[str, type[BaseModule]] = {
    "clustering": DeepEmbeddedClustering,
    "microlensing": TimeDistributedCNN,
    "sidm": CompactClustering,
    "spectra": SpectraVAE,
}


@pytest.mark.parametrize("method", MODELS)
def test_golden_checkpoint(method: str) -> None:
    model = MODELS[method].load_from_checkpoint(HERE / f"{method}.ckpt", weights_only=True).eval()
    golden = torch.load(HERE / f"{method}.pt", weights_only=True)
    with torch.no_grad():
        prediction = model.predict_step(golden["batch"])
    assert set(prediction) == set(golden["prediction"])
    for name, expected in golden["prediction"].items():
        torch.testing.assert_close(prediction[name], expected, rtol=1e-5, atol=1e-6, equal_nan=True)
