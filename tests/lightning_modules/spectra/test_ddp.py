"""Two gloo processes train as one does: the covariance is that of the whole batch."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.lightning_modules.spectra import two_processes

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes of `two_processes.py` found."""
    folder = tmp_path_factory.mktemp("ddp")
    own = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {key: value for key, value in os.environ.items() if key not in own}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", two_processes.__file__, str(folder)],
        env={**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
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
