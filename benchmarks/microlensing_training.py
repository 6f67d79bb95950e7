"""Cost of training and streaming the microlensing classifier.

Training: CPU-ms a curve of one optimizer step (batch 128 × 1500 epochs, 20 % missing) against the
reference network as published (symmetric padding, no causality, mean logit, gaps set to 0).
Streaming: CPU-ms an epoch at batch 1, against running the prefix again.

Prints one JSON object a line. Run alone: `python benchmarks/microlensing_training.py`.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
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


def trainer_of(parameters: Any, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a function that makes one optimizer step."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)

    def train() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return train


def cpu_ms(work: Callable[[], Any]) -> float:
    """Return the CPU time of a call in ms."""
    start = time.process_time()
    work()
    return 1e3 * (time.process_time() - start)


def alternated(*works: Callable[[], Any]) -> list[float]:
    """Return the median CPU-ms of each work, run in turn, the first turn left out."""
    turns = [[cpu_ms(work) for work in works] for _ in range(REPETITIONS + 1)][1:]
    return [statistics.median(times) for times in zip(*turns, strict=True)]


def report(name: str, value: float, unit: str, peer: str, peer_value: float) -> None:
    """Print one line."""
    line = {
        "benchmark": f"microlensing/{name}",
        "value": round(value, 4),
        "unit": unit,
        "peer": peer,
        "peer_value": round(peer_value, 4),
        "ratio": round(value / peer_value, 4),
    }
    print(json.dumps(line), flush=True)


def training() -> None:
    """Time optimizer steps of the default, of the published reference and of ours made causal."""
    batch = light_curves()
    published = PublishedReference()
    gaps = torch.where(batch["good"], batch["flux"], 0.0)
    works = [
        trainer_of(
            published.parameters(),
            lambda: functional.cross_entropy(published(gaps), batch["label"]),
        )
    ]
    for arguments in ({}, REFERENCE):
        model = TimeDistributedCNN(**arguments)
        works.append(trainer_of(model.parameters(), lambda m=model: m.step(batch, "train")["loss"]))
    peer, *ours = (value / BATCH for value in alternated(*works))
    unit = "CPU-ms a curve"
    for name, value in zip(("training", "training reference, causal"), ours, strict=True):
        report(f"{name} {BATCH}x{EPOCHS}", value, unit, "published reference network", peer)


def streaming(folder: Path) -> None:
    """Time a stream, also at its end, and alerts with their states on disk."""
    batch = {key: value[:1] for key, value in light_curves().items()}
    model = TimeDistributedCNN().eval()
    good = batch["good"][0]
    epochs = list(
        zip(*(batch[k][0][good].tolist() for k in ("time", "flux", "flux_error")), strict=True)
    )
    stream = model.stream()
    half = len(epochs) // 2
    first, second = (
        cpu_ms(lambda some=some: [stream.step(*epoch) for epoch in some]) / len(some)
        for some in (epochs[:half], epochs[half:])
    )
    with torch.inference_mode():
        prefix = alternated(lambda: model.predict_step(batch))[0]
    unit = "CPU-ms an epoch"
    report("stream", (first + second) / 2, unit, "the whole prefix again", prefix)
    report("stream, second half of the curve", second, unit, "first half", first)
    lines = [json.dumps({"id": 1, "time": t, "flux": f, "error": e}) for t, f, e in epochs]
    alerts = cpu_ms(lambda: list(answer_alerts(model, lines, folder / "states.db"))) / len(lines)
    report("alerts with states on disk", alerts, unit, "stream", (first + second) / 2)


def main() -> None:
    """Print every case."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    training()
    with tempfile.TemporaryDirectory() as folder:
        streaming(Path(folder))


if __name__ == "__main__":
    main()
