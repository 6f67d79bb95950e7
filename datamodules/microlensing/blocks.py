"""Work in blocks over processes: resumable, watched, and the same whatever the number of workers.

Each block is one file beside the result, written atomically by whoever computed it. A run that was
killed goes on from the blocks that exist; a worker that hangs or dies costs the blocks in flight.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from datamodules.store import RowStore

BlockTask = Callable[[int, int, Path], int]
"""Compute a block: (its number, how often it failed before, the file to write) to its rows."""

ATTEMPTS = 4


def block_path(folder: Path, number: int) -> Path:
    """Give the file of a block."""
    return folder / f"{number:06d}.h5"


@dataclass(frozen=True)
class Execution:
    """How blocks are spread over processes; nothing of it changes the result.

    Attributes:
        workers: Processes; 1 computes here (and then nothing watches), -1 is one a core.
        backend: joblib's backend: `loky` (processes), or `dask`, `ray` if those are registered.
        timeout: Seconds without a finished block after which a worker counts as hung.
    """

    workers: int = -1
    backend: str = "loky"
    timeout: float = 600.0


def run_blocks(
    task: BlockTask, num_blocks: int, rows_per_block: int, folder: Path, execution: Execution
) -> dict[int, int]:
    """Compute every block whose file is missing or broken.

    Args:
        task: What computes a block; it must be a pure function of its arguments.
        num_blocks: Number of blocks.
        rows_per_block: Rows of a full block, for the display.
        folder: Where the blocks' files are.
        execution: Where to compute.

    Returns:
        Block number to how often it was lost, for blocks lost at least once.

    Raises:
        ValueError: A block was lost `ATTEMPTS` times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lost: dict[int, int] = {}
    with _progress() as progress:
        bar = progress.add_task("simulating", total=num_blocks * rows_per_block, rate="")
        pending = [number for number in range(num_blocks) if not _exists(folder, number)]
        done = resumed = num_blocks - len(pending)
        start = time.monotonic()
        while pending:
            problem: Exception = ValueError("its file is not there, or broken, when it is done")
            try:
                for _ in _compute(task, pending, lost, folder, execution):
                    done += 1
                    speed = (done - resumed) * rows_per_block / (time.monotonic() - start)
                    text = f"{speed:.0f} events/s"
                    progress.update(bar, completed=done * rows_per_block, rate=text)
            except (TimeoutError, multiprocessing.TimeoutError, BrokenProcessPool) as error:
                get_reusable_executor().shutdown(wait=True, kill_workers=True)
                problem = error
            pending = [number for number in pending if not _exists(folder, number)]
            _count_lost(lost, pending, folder, execution, problem)
            done = num_blocks - len(pending)
    return lost


def _compute(
    task: BlockTask, pending: list[int], lost: dict[int, int], folder: Path, execution: Execution
) -> Iterator[int]:
    """Yield once for each block computed, in any order."""
    calls = (
        joblib.delayed(task)(number, lost.get(number, 0), block_path(folder, number))
        for number in pending
    )
    parallel = joblib.Parallel(
        n_jobs=execution.workers,
        backend=execution.backend,
        timeout=execution.timeout if execution.workers != 1 else None,
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch="2*n_jobs",
    )
    yield from parallel(calls)


def _count_lost(
    lost: dict[int, int],
    pending: list[int],
    folder: Path,
    execution: Execution,
    error: Exception,
) -> None:
    """Count the blocks that workers may have had in hand; give up on one lost too often."""
    for number in pending[: 2 * joblib.effective_n_jobs(execution.workers)]:
        lost[number] = lost.get(number, 0) + 1
        if lost[number] >= ATTEMPTS:
            raise ValueError(
                f"{block_path(folder, number)}: lost {ATTEMPTS} times ({error!r}); "
                "raise data.source.timeout or lower data.source.block_size"
            ) from error


def _exists(folder: Path, number: int) -> bool:
    """Say whether a block's file is there and whole; remove it if it is broken."""
    path = block_path(folder, number)
    if not path.exists():
        return False
    try:
        RowStore(path)
    except ValueError:
        path.unlink()
        return False
    return True


def _progress() -> Progress:
    """Make the progress bar: events a second and the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        transient=True,
    )
