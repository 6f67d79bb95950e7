"""Work in blocks over processes: resumable, watched, and the same whatever the number of workers.

Each block is one file beside the result, written atomically by whoever computed it. A run that was
killed goes on from the blocks that exist; a worker that hangs or dies costs the blocks in flight.
"""

import hashlib
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool
from numpy.typing import NDArray
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from datamodules.files import make_folder
from datamodules.store import CHUNK_BYTES, RowStore

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


@dataclass(frozen=True)
class Contents:
    """What a store that is computed in blocks has beside its rows.

    Attributes:
        schema: Name of the layout.
        version: Version of the layout.
        attributes: Plain values that determine the rows; a run that was killed goes on only from
            blocks with the same.
        counted: Name of the attribute that sums the blocks' own attributes.
        shared: Arrays that belong to all rows.
        chunk_bytes: Size of a chunk.
        unit: What a row is, for the display.
    """

    schema: str
    version: int
    attributes: Mapping[str, Any]
    counted: str
    shared: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    chunk_bytes: int = CHUNK_BYTES
    unit: str = "rows"


def write_in_blocks(
    path: Path,
    task: BlockTask,
    num_blocks: int,
    rows_per_block: int,
    contents: Contents,
    execution: Execution,
) -> None:
    """Compute blocks beside `path`, then join them; a killed run goes on where it was.

    Args:
        path: Store to write.
        task: What computes a block; its rows must be a function of `contents.attributes`.
        num_blocks: Number of blocks.
        rows_per_block: Rows of a full block.
        contents: What is written beside the rows.
        execution: Where to compute.
    """
    text = json.dumps(contents.attributes, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = path.with_name(f".{path.stem}-{digest}.blocks")
    lost = run_blocks(task, num_blocks, rows_per_block, folder, execution, contents.unit)
    lost_blocks = {str(number): times for number, times in lost.items()}
    attributes = {**contents.attributes, "lost_blocks": lost_blocks}
    for stale in path.parent.glob(f".{'?' * 12}.{path.name}"):
        stale.unlink()  # what a run that was killed while joining left behind
    header = (contents.schema, contents.version, attributes, contents.shared, contents.chunk_bytes)
    with RowStore.writer(path, *header) as writer:
        counts: dict[str, int] = {}
        for number in range(num_blocks):
            block = RowStore(block_path(folder, number))
            writer.append(block.read())
            for name, count in block.attributes.items():
                counts[name] = counts.get(name, 0) + count
        writer.attributes[contents.counted] = counts
    shutil.rmtree(folder)


def run_blocks(
    task: BlockTask,
    num_blocks: int,
    rows_per_block: int,
    folder: Path,
    execution: Execution,
    unit: str = "rows",
) -> dict[int, int]:
    """Compute every block whose file is missing or broken.

    Args:
        task: What computes a block; it must be a pure function of its arguments.
        num_blocks: Number of blocks.
        rows_per_block: Rows of a full block, for the display.
        folder: Where the blocks' files are.
        execution: Where to compute.
        unit: What a row is, for the display.

    Returns:
        Block number to how often it was lost, for blocks lost at least once.

    Raises:
        ValueError: A block was lost `ATTEMPTS` times.
    """
    make_folder(folder)
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
                    text = f"{speed:.0f} {unit}/s"
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
