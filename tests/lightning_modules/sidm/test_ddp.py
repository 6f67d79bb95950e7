"""Two gloo processes train as one does: clusters and medians are those of the global batch."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.lightning_modules.sidm import two_processes
from tests.reliability.processes import Job


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes of `two_processes.py` found."""
    folder = tmp_path_factory.mktemp("ddp")
    job = Job(two_processes.__file__, str(folder))
    assert job.wait() == 0, job.output
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("kind", two_processes.NUM_MAPS)
def test_two_processes_train_as_one(kind: str, ranks: list[dict[str, Any]], tmp_path: Path) -> None:
    """Weights, reference latents, losses and accuracy; the last batch is uneven."""
    alone = two_processes.trained(tmp_path, kind, 16)
    assert alone["rows"] % 16 in (1, 3)
    assert torch.equal(ranks[0][kind]["encoder.latent.weight"],
                       ranks[1][kind]["encoder.latent.weight"])  # fmt: skip
    for found in ranks:
        together = found[kind]
        assert together.keys() == alone.keys()
        for name, values in alone.items():
            torch.testing.assert_close(
                together[name], values, rtol=1e-4, atol=1e-5, msg=name, equal_nan=True
            )
