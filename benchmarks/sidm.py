"""Cost of training compact clustering: CPU-ms a map of one optimizer step.

Ours against the same network and loss in the order of the paper, channels first: convolution, ELU,
Dropout2d, then pooling; each 1x1 convolution by itself.

The full network takes 7 GB and three minutes at the default batch of 120. See `measure.py` for the
lines. Run alone: `python benchmarks/sidm.py [reduced|full] [batch]`.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from measure import alternate, quiet, report, training_step
from torch import Tensor
from torch.optim import AdamW

from lightning_modules import CompactClustering
from lightning_modules.nn.rings import num_rings
from tests.lightning_modules.sidm.plain import plain_full, plain_reduced

BATCH = 120
REPETITIONS = {"reduced": 7, "full": 3}
PLAIN: dict[str, Callable[[], Any]] = {"reduced": plain_reduced, "full": plain_full}


def noise(size: int) -> dict[str, Tensor]:
    """Return a batch of four known simulations: the cost does not depend on the physics."""
    generator = torch.Generator().manual_seed(0)
    return {
        "index": torch.arange(size),
        "map": torch.rand(size, 1, 100, 100, generator=generator),
        "good": torch.ones(size, 100, 100, dtype=torch.bool),
        "simulation": torch.arange(size) % 4,
    }


def model_of(network: str, **arguments: Any) -> CompactClustering:
    """Return a model that knows four simulations.

    Args:
        network: `reduced` or `full`.
        **arguments: Of the model.
    """
    model = CompactClustering(network=network, **arguments)
    rings = 1, num_rings(100, 100)
    model.fit_statistics(
        {
            "known_label": torch.tensor([0.0, 0.1, 0.3, 1.0]),
            "num_hidden": torch.tensor(0),
            "ring_mean": torch.full(rings, 0.7),
            "ring_std": torch.full(rings, 0.2),
            "log_max_mean": torch.zeros(1),
            "log_max_std": torch.ones(1),
            "pixel_scale": torch.tensor(20.0),
            "channel": torch.tensor([0]),
        }
    )
    return model


def our_step(batch: dict[str, Tensor], network: str, bf16: bool, **arguments: Any) -> Any:
    """Return a work that makes one step of ours.

    Args:
        batch: Of the datamodule.
        network: `reduced` or `full`.
        bf16: Whether convolutions and wide layers run in bfloat16.
        **arguments: Of the model.
    """
    model = model_of(network, **arguments)

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return model.step(batch, "train")["loss"]

    return training_step(AdamW(model.parameters(), lr=1e-3, fused=True), loss)


def plain_step(batch: dict[str, Tensor], network: str) -> Any:
    """Return a work that makes one step of the plain network, with our loss.

    Args:
        batch: Of the datamodule.
        network: `reduced` or `full`.
    """
    plain, losses = PLAIN[network](), model_of(network)
    targets = torch.stack([batch["simulation"], torch.ones_like(batch["simulation"])], dim=1)
    error = torch.zeros(len(targets), 1)

    def loss() -> Tensor:
        scaled = losses.scaler(batch["map"], batch["good"])[0]
        rows = torch.cat([error, *plain(scaled)], dim=1)
        return losses.terms_of(rows, targets)["loss"]

    return training_step(AdamW(plain.parameters(), lr=1e-3, fused=True), loss)


def compare(network: str, size: int) -> None:
    """Print our steps against the plain one, also with a radial profile.

    Args:
        network: `reduced` or `full`.
        size: Maps in a batch.
    """
    batch = noise(size)
    cases = {"float32": (False, 0), "bf16": (True, 0), "bf16, profile of 10 rings": (True, 10)}
    works = [our_step(batch, network, bf16, profile_rings=n) for bf16, n in cases.values()]
    times = alternate(plain_step(batch, network), *works, repetitions=REPETITIONS[network])
    plain, *ours = ([1e3 * x / size for x in seconds] for seconds in times)
    against = "float32, channels first, the paper's order"
    for name, values in zip(cases, ours, strict=True):
        report(f"sidm/step {network} {size}x100x100 {name}", "CPU ms a map", values, plain, against)


def main() -> None:
    """Print every case, or that of a network and a batch size."""
    quiet()
    torch.manual_seed(0)
    for network in sys.argv[1:2] or PLAIN:
        compare(network, int(sys.argv[2]) if len(sys.argv) > 2 else BATCH)


if __name__ == "__main__":
    main()
