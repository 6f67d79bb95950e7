"""Cost of training and streaming the microlensing classifier.

Training: CPU-ms a curve of one optimizer step (batch 128 × 1500 epochs, 20 % missing) against the
reference network as published (symmetric padding, no causality, mean logit, gaps set to 0).
Streaming: CPU-ms an epoch at batch 1, against running the prefix again.

See `measure.py` for the lines. Run alone: `python benchmarks/microlensing_training.py`.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from measure import alternate, quiet, report, timed, training_step
from torch import Tensor, nn
from torch.nn import functional

from lightning_modules import TimeDistributedCNN
from lightning_modules.microlensing.alerts import answer_alerts

BATCH, EPOCHS = 128, 1500
REPETITIONS = 7
REFERENCE: dict[str, Any] = {
    "network": "reference",
    "channels": [128, 64, 32],
    "kernel_sizes": [5, 3, 3],
    "hidden_dim": 64,
    "dropout": 0.3,
}


class PublishedReference(nn.Module):
    """The network of kunalb541/Thesis as published."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b, size in ((1, 128, 5), (128, 64, 3), (64, 32, 3)):
            conv = nn.Conv1d(a, b, size, padding=size // 2)
            layers += [conv, nn.BatchNorm1d(b), nn.ReLU(), nn.Dropout(0.3)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(32, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 2)
        )

    def forward(self, flux: Tensor) -> Tensor:
        """Return the mean logit of curves (batch, epochs)."""
        logits: Tensor = self.classifier(self.features(flux[:, None]).transpose(1, 2))
        return logits.mean(dim=1)


def light_curves() -> dict[str, Tensor]:
    """Return a batch of noise with a bump: the cost does not depend on the physics."""
    generator = torch.Generator().manual_seed(0)
    time_grid = torch.linspace(0, 1000, EPOCHS, dtype=torch.float64).expand(BATCH, -1)
    noise = torch.randn(BATCH, EPOCHS, generator=generator)
    flux = 1 + 5 * torch.exp(-(((time_grid - 500) / 30) ** 2)).float()
    return {
        "index": torch.arange(BATCH),
        "flux": flux * (1 + 0.092 * noise),
        "flux_error": 0.092 * flux,
        "time": time_grid,
        "good": torch.rand(BATCH, EPOCHS, generator=generator) > 0.2,
        "label": torch.arange(BATCH) % 2,
    }


def training() -> None:
    """Time optimizer steps of the default, of the published reference and of ours made causal."""
    batch = light_curves()
    published = PublishedReference()
    gaps = torch.where(batch["good"], batch["flux"], 0.0)
    works = [
        training_step(
            torch.optim.AdamW(published.parameters(), lr=1e-3),
            lambda: functional.cross_entropy(published(gaps), batch["label"]),
        )
    ]
    for arguments in ({}, REFERENCE):
        model = TimeDistributedCNN(**arguments)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        works.append(training_step(optimizer, lambda m=model: m.step(batch, "train")["loss"]))
    peer, *ours = ([1e3 * x / BATCH for x in times] for times in alternate(*works))
    against = "published reference network"
    for name, values in zip(("training", "training reference, causal"), ours, strict=True):
        report(f"microlensing/{name} {BATCH}x{EPOCHS}", "CPU ms a curve", values, peer, against)


def streaming(folder: Path) -> None:
    """Time a stream, also at its end, and alerts with their states on disk."""
    batch = {key: value[:1] for key, value in light_curves().items()}
    model = TimeDistributedCNN().eval()
    good = batch["good"][0]
    columns = (batch[key][0][good].tolist() for key in ("time", "flux", "flux_error"))
    epochs = list(zip(*columns, strict=True))
    lines = [json.dumps({"id": 1, "time": t, "flux": f, "error": e}) for t, f, e in epochs]
    half = len(epochs) // 2

    def stream(turn: int) -> float:
        """Return the CPU seconds of both halves, and keep each."""
        state = model.stream()
        for some, times in ((epochs[:half], first), (epochs[half:], second)):
            times.append(
                1e3 * timed(lambda some=some: [state.step(*e) for e in some])() / len(some)
            )
        return first[-1] * half / 1e3 + second[-1] * (len(epochs) - half) / 1e3

    first: list[float] = []
    second: list[float] = []
    with torch.inference_mode():
        streamed, prefix, alerts = alternate(
            stream,
            timed(lambda: model.predict_step(batch)),
            lambda turn: timed(
                lambda: list(answer_alerts(model, lines, folder / f"states-{turn}.db"))
            )(),
            repetitions=REPETITIONS,
        )
    unit = "CPU ms an epoch"
    each, alerts = ([1e3 * x / len(epochs) for x in times] for times in (streamed, alerts))
    whole = [1e3 * x for x in prefix]
    report("microlensing/stream", unit, each, whole, "the whole prefix again")
    name = "microlensing/stream, second half of the curve"
    report(name, unit, second[1:], first[1:], "first half")
    report("microlensing/alerts with states on disk", unit, alerts, each, "stream")


def main() -> None:
    """Print every case."""
    quiet()
    torch.manual_seed(0)
    training()
    with tempfile.TemporaryDirectory() as folder:
        streaming(Path(folder))


if __name__ == "__main__":
    main()
