"""Starting real processes, with a watchdog that leaves none behind."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
OWN = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")


def leave_process_group() -> None:
    """End what torch's processes share; gloo's threads may abort a process that exits without."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Job:
    """A script in a process group of its own, killed whole when time is up.

    Args:
        script: File name in this folder, or a whole path.
        arguments: Its command line.
        timeout: Seconds until everything is killed.
    """

    def __init__(self, script: str, *arguments: str, timeout: float = 150) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in OWN}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).parent / script), *arguments],
            env={**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""
        self._timer = threading.Timer(timeout, self.kill)
        self._timer.start()

    def kill(self) -> None:
        """Kill every process of the group."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def read_until(self, pattern: str, times: int = 1) -> list[str]:
        """Read output until a pattern was found so many times; return what its group matched."""
        found: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            found += re.findall(pattern, line)
            if len(found) == times:
                return found
        raise AssertionError(f"{pattern!r} was printed {len(found)} times in\n{self.output}")

    def wait(self) -> int:
        """Read to the end (all processes closed their output) and return the exit code."""
        assert self.process.stdout is not None
        self.output += self.process.stdout.read()
        code = self.process.wait()
        self._timer.cancel()
        self.kill()
        return code
