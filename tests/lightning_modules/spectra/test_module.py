from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_modules import SpectraVAE
from tests.lightning_modules.spectra.stars import SMALL, build, stars

Make = Callable[..., Any]


def test_training_lowers_the_loss_and_fits_the_population(
    make_data: Make, make_trainer: Make
) -> None:
    torch.manual_seed(0)
    model, data = SpectraVAE(**SMALL), make_data()
    trainer: Trainer = make_trainer(max_epochs=3)
    trainer.fit(model, data)
    assert model.warm_started
    assert model.population.fitted
    assert 0.7 < trainer.callback_metrics["val/chi2"] < 1.1
    assert trainer.callback_metrics["val/kl"] > 3.0
    trainer.test(model, data, verbose=False)
    outputs = trainer.predict(model, data)
    assert outputs is not None
    scores = torch.cat([output["outlier_score"] for output in outputs])  # type: ignore[call-overload]
    assert scores.isfinite().all()
    assert scores.mean().abs() < 0.3
    assert 0.6 < scores.std() < 1.5
