"""Blocks survive workers that die or hang, and a run that is killed goes on where it was."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datamodules.microlensing.simulate import synthetic
from datamodules.microlensing.simulate.synthetic import SimulatedEvents
from datamodules.parallel import BlockTask, ParallelOptions, block_path, run_blocks
from datamodules.store import RowStore

SETTINGS = {
    "num_single": 60,
    "num_binary": 60,
    "block_size": 10,
    "simulation_workers": 1,
    "preset": "distinct",
}


def make_task(template: Path, trouble: Path, kind: str) -> BlockTask:
    """Make a task whose block 1 gives trouble the first time (a closure: it travels by value)."""

    def task(number: int, lost: int, path: Path) -> int:
        import os
        import shutil
        import time

        if number == 1 and not trouble.exists():
            trouble.touch()
            if kind == "dies":
                os._exit(1)
            time.sleep(100)
        shutil.copy(template, path)
        return 1

    return task


@pytest.mark.parametrize("kind", ["dies", "hangs"])
def test_a_worker_that_dies_or_hangs_costs_only_its_blocks(tmp_path: Path, kind: str) -> None:
    template = tmp_path / "template.h5"
    RowStore.write(template, {"x": np.arange(3)}, "test")
    task = make_task(template, tmp_path / "trouble", kind)
    folder = tmp_path / "blocks"
    start = time.monotonic()
    lost = run_blocks(task, 6, folder, ParallelOptions(workers=2, timeout=4.0))
    assert time.monotonic() - start < 60
    assert lost[1] == 1
    assert 0 not in lost or kind == "dies"
    assert [RowStore(block_path(folder, n)).num_rows for n in range(6)] == [3] * 6


def test_a_block_that_never_comes_is_an_error_that_names_it(tmp_path: Path) -> None:
    def task(number: int, lost: int, path: Path) -> int:
        import os

        os._exit(1)

    with pytest.raises(ValueError, match=r"000000\.h5.*lost 4 times"):
        run_blocks(task, 1, tmp_path, ParallelOptions(workers=2, timeout=30.0))


def test_a_truncated_block_is_computed_again(tmp_path: Path) -> None:
    good = RowStore.write(tmp_path / "good.h5", {"x": np.arange(1000)}, "test").path
    block_path(tmp_path, 0).write_bytes(good.read_bytes()[:-700])
    run_blocks(
        lambda number, lost, path: bool(shutil.copy(good, path)),
        1,
        tmp_path,
        ParallelOptions(workers=1),
    )
    assert RowStore(block_path(tmp_path, 0)).num_rows == 1000


def test_a_killed_run_resumes_and_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import sys; from pathlib import Path; from datamodules import SimulatedEvents\n"
        f"SimulatedEvents(**{SETTINGS!r}).prepare(Path(sys.argv[1]), 7)\n"
    )
    path, whole = tmp_path / "killed.h5", tmp_path / "whole.h5"
    process = subprocess.Popen([sys.executable, "-c", script, str(path)])
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob(".killed*/[0-9]*.h5"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not path.exists()
    finished = len(list(tmp_path.glob(".killed*/[0-9]*.h5")))
    assert finished >= 3

    computed = []
    original = synthetic.simulate_block
    monkeypatch.setattr(
        synthetic, "simulate_block", lambda *args: computed.append(1) or original(*args)
    )
    SimulatedEvents(**SETTINGS).prepare(path, 7)
    assert len(computed) == 12 - finished
    SimulatedEvents(**SETTINGS).prepare(whole, 7)
    resumed, fresh = RowStore(path), RowStore(whole)
    assert resumed.attributes == fresh.attributes
    first, second = resumed.read(), fresh.read()
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=1e-5, err_msg=name)
    assert not list(tmp_path.glob(".killed*"))


def test_a_task_that_writes_nothing_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not there"):
        run_blocks(lambda number, lost, path: 0, 2, tmp_path, ParallelOptions(workers=1))
