"""Work in blocks over processes: resumable, watched, and the same whatever the number of workers.

Each block is one file beside the result, written atomically by whoever computed it. A run that was
killed goes on from the blocks that exist; a worker that hangs or dies costs the blocks in flight.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
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


def run_blocks(
    task: BlockTask,
    num_blocks: int,
    rows_per_block: int,
    folder: Path,
    workers: int,
    backend: str,
    timeout: float,
) -> dict[int, int]:
    """Compute every block whose file is missing or broken.

    Args:
        task: What computes a block; it must be a pure function of its arguments.
        num_blocks: Number of blocks.
        rows_per_block: Rows of a full block, for the display.
        folder: Where the blocks' files are.
        workers: Processes; 1 computes here, -1 is one a core.
        backend: joblib's backend: `loky` (processes), or `dask`, `ray` if those are registered.
        timeout: Seconds that a block may take before its worker counts as hung (with 1 worker
            nothing watches).

    Returns:
        Block number to how often it was lost, for blocks lost at least once.

    Raises:
        ValueError: A block failed `ATTEMPTS` times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lost: dict[int, int] = {}
    with _progress() as progress:
        bar = progress.add_task("simulating", total=num_blocks * rows_per_block, rate="")
        pending = [number for number in range(num_blocks) if not _exists(folder, number)]
        done = resumed = num_blocks - len(pending)
        start = time.monotonic()
        while pending:
            try:
                for _ in _compute(task, pending, lost, folder, workers, backend, timeout):
                    done += 1
                    speed = (done - resumed) * rows_per_block / (time.monotonic() - start)
                    text = f"{speed:.0f} events/s"
                    progress.update(bar, completed=done * rows_per_block, rate=text)
                pending = []
            except (TimeoutError, multiprocessing.TimeoutError, BrokenProcessPool) as error:
                get_reusable_executor().shutdown(wait=True, kill_workers=True)
                pending = [number for number in pending if not _exists(folder, number)]
                done = num_blocks - len(pending)
                for number in pending[: _in_flight(workers)]:
                    lost[number] = lost.get(number, 0) + 1
                    if lost[number] >= ATTEMPTS:
                        raise ValueError(
                            f"{block_path(folder, number)}: lost {ATTEMPTS} times ({error!r}); "
                            "raise data.source.timeout or lower data.source.block_size"
                        ) from error
        progress.update(bar, completed=num_blocks * rows_per_block)
    return lost


def _compute(
    task: BlockTask,
    pending: list[int],
    lost: dict[int, int],
    folder: Path,
    workers: int,
    backend: str,
    timeout: float,
) -> Iterator[int]:
    """Yield once for each block computed, in any order."""
    calls = (
        joblib.delayed(task)(number, lost.get(number, 0), block_path(folder, number))
        for number in pending
    )
    parallel = joblib.Parallel(
        n_jobs=workers,
        backend=backend,
        timeout=timeout if workers != 1 else None,
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch="2*n_jobs",
    )
    yield from parallel(calls)


def _in_flight(workers: int) -> int:
    """Give the number of blocks that may have been in the hands of workers."""
    return 2 * joblib.effective_n_jobs(workers)


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
