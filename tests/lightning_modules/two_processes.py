"""What two gloo processes do; `test_processes.py` and `test_passes.py` assert on what it saves."""

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.utils.data import DataLoader

from lightning_modules.base import BaseModule, Batch
from lightning_modules.clustering.module import StellarAutoencoder
from tests.lightning_modules.mixture import BlobsData, Mixture
from tests.reliability.processes import leave_process_group
from tests.reliability.runs import Run, Saver, assert_same_from, fit

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
DDP: dict[str, Any] = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
# Rows of the global batch that each process has: dealt evenly, 5 and 3, one that only repeats.
DEALT = {"even": ([0, 2, 4, 6], [1, 3, 5, 7]), "uneven": ([0, 2, 4, 6, 7], [1, 3, 5])}
REPEATED = ([0, 1, 2, 3, 4], [0])
# (rows, batch of one process): uneven last batch; last global batch of a single row
SIZES = ((81, 8), (84, 3))
STOPS = ("on_train_batch_end", "on_validation_batch_end", "on_train_epoch_end")


class Coupled(BaseModule):
    """A loss of a row's own and of all rows of the global batch, in their order."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(5, 2, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(weight)
        self.seen: dict[str, Tensor] = {}

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        latent = batch["features"] @ self.weight
        own = (latent.sum(dim=1) - batch["target"]).square().mean()
        rows = self.gather_rows(latent, batch)
        label = self.gather_rows(batch["target"] > 0, batch)
        index = self.gather_rows(batch["index"], batch)
        self.seen = {"rows": rows.detach(), "label": label, "index": index}
        kernel = (-(rows[:, None] - rows).square().sum(dim=2)).exp()
        same = (kernel * (label[:, None] == label)).sum() / kernel.sum()
        moment = self.sum_over_processes((latent.mT * self.counted(batch)) @ latent)
        ordered = rows[:, 0] @ torch.arange(len(rows)).to(rows)
        return {"loss": own - same.log() + 0.1 * moment.det() + 0.1 * ordered}

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        return batch

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)  # so that the step is the gradient


class Judged(StellarAutoencoder):
    """An autoencoder whose memberships in the global batch are judged by physical terms."""

    seen: ClassVar[dict[str, Tensor]] = {}

    def __init__(self) -> None:
        torch.manual_seed(0)
        physics = dict.fromkeys(("spatial", "kinematic", "distance", "locus"), 1.0)
        super().__init__(
            hidden_dims=[4], latent_dim=2, batch_norm=False, dropout=0.0, physics=physics
        )
        self.double()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def global_batch(num_rows: int) -> Batch:
    """Return the rows that are dealt."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(num_rows, 5, generator=generator, dtype=torch.float64)
    return {
        "index": torch.arange(num_rows), "features": features, "target": features[:, 0].sin(),
        "covariance": torch.diag_embed(0.1 + features.square()), "magnitude": features[:, 1],
        "colour": features[:, 1] * features[:, 2],
    }  # fmt: skip


def stepped(
    rows: list[int],
    num_rows: int,
    kind: type[Coupled] | type[Judged] = Coupled,
    **arguments: Any,
) -> dict[str, Any]:
    """Make one step on this process's rows; return loss, gradient and what was gathered."""
    batch = {name: values[rows] for name, values in global_batch(num_rows).items()}
    size = int(arguments.get("devices", 1))
    repeats = len(rows) == 1
    scale = 0.0 if repeats else len(rows) * size / num_rows
    batch["loss_scale"] = torch.tensor(scale)
    module = kind()
    before = parameters_to_vector(module.parameters()).detach().clone()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=FOLDER,
        **arguments,
    )  # fmt: skip
    trainer.fit(module, DataLoader([batch], batch_size=None))  # type: ignore[arg-type]
    loss = float(trainer.callback_metrics["train/loss"])
    after = parameters_to_vector(module.parameters()).detach()
    return {"loss": loss, "gradient": before - after, **module.seen}


def fitted(num_rows: int, batch_size: int, *callbacks: Any, **arguments: Any) -> Run:
    """Fit the mixture in three passes."""
    data = BlobsData(num_rows, batch_size, cache_dir=str(FOLDER / "cache"))
    return fit(FOLDER, *callbacks, kind=Mixture, data=data, **arguments)


def summary(run: Run) -> dict[str, Any]:
    """Return what a fit left, as plain values."""
    return {"state": run.module.state_dict(), "logged": dict(run.logged)}


def resumed() -> list[str]:
    """Resume from every stop of a fit; raises where bits differ."""
    saver = Saver(FOLDER / "stops", *STOPS)
    reference = fitted(*SIZES[0], saver, max_epochs=2, **DDP)
    paths = saver.paths[1:8]  # from inside the first pass to inside the second
    for path in paths:
        again = fitted(*SIZES[0], ckpt_path=path, seed=2, max_epochs=2, **DDP)
        assert_same_from(path, reference, again)
    return [path.name for path in paths]


def main() -> None:
    """Run every check and save what this rank found."""
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    found: dict[str, Any] = {name: stepped(parts[rank], 8, **DDP) for name, parts in DEALT.items()}
    found["repeated"] = stepped(REPEATED[rank], 5, **DDP)
    found["judged"] = stepped(DEALT["uneven"][rank], 8, Judged, **DDP)
    found["fitted"] = [summary(fitted(*size, **DDP)) for size in SIZES]
    found["resumed"] = resumed()
    torch.save(found, FOLDER / f"rank{rank}.pt")


if __name__ == "__main__":
    main()
    leave_process_group()
