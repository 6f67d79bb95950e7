"""Two gloo processes train as one does: the covariance is that of the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.lightning_modules.spectra import two_processes
from tests.reliability.processes import Job


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes of `two_processes.py` found."""
    folder = tmp_path_factory.mktemp("ddp")
    job = Job(two_processes.__file__, str(folder))
    assert job.wait() == 0, job.output
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("separability", two_processes.VAL_FRACTIONS)
def test_two_processes_train_as_one(
    separability: str, ranks: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Also what a regression on the labels took out, and the population of the outlier score."""
    alone = two_processes.trained(tmp_path, separability, 16)
    assert alone["separability.running.total"][0, 0] > 20
    assert alone["population.fitted"]
    assert torch.equal(ranks[0][separability]["net.skip.weight"],
                       ranks[1][separability]["net.skip.weight"])  # fmt: skip
    for found in ranks:
        together = found[separability]
        assert together.keys() == alone.keys()
        for name, values in alone.items():
            torch.testing.assert_close(together[name], values, rtol=1e-3, atol=1e-5, msg=name)
