"""A process told to end from outside: exit code 143 and an exact resume."""

import signal
from pathlib import Path

import torch

from tests.reliability.processes import Job
from tests.reliability.runs import fit


def test_sigterm_from_outside_exits_143_and_resumes_exactly(tmp_path: Path) -> None:
    job = Job("slow_job.py", str(tmp_path), "fit", "1", timeout=60)
    job.read_until(r"at work: (\d+)")
    job.process.send_signal(signal.SIGTERM)
    assert job.wait() == 143, job.output
    path = tmp_path / "preempted.ckpt"
    assert f"resume with --ckpt_path {path}" in job.output
    model = {"dropout": 0.3, "noise": 0.1}
    reference = fit(tmp_path, model=model, max_epochs=4)
    resumed = fit(tmp_path, seed=2, ckpt_path=path, model=model, max_epochs=4)
    assert torch.equal(reference.state(), resumed.state())
