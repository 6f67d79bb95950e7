"""Work in blocks over processes: resumable, watched, and the same whatever the number of workers.

Each block is one file beside the result, written atomically by whoever computed it. A run that was
killed goes on from the blocks that exist; a worker that hangs or dies costs the blocks in flight.
"""

import glob
import hashlib
import json
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool
from numpy.typing import NDArray
from rich.progress import MofNCompleteColumn, Progress

from datamodules.files import make_folder
from datamodules.store import CHUNK_BYTES, RowStore

BlockTask = Callable[[int, int, Path], int]
"""Compute a block: (its number, how often it failed before, the file to write) to its rows."""

Compute = Callable[[NDArray[Any], int, int], tuple[dict[str, NDArray[Any]], dict[str, int]]]
"""From row numbers, number of the block and how often it failed before to columns and counts."""

ATTEMPTS = 4


def block_path(folder: Path, number: int) -> Path:
    """Return the file of a block."""
    return folder / f"{number:06d}.h5"


@dataclass(frozen=True)
class ParallelOptions:
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
class StoreLayout:
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
    compute: Compute,
    num_rows: int,
    block_size: int,
    layout: StoreLayout,
    options: ParallelOptions,
) -> None:
    """Compute blocks beside `path`, then join them; a killed run goes on where it was.

    Args:
        path: Store to write.
        compute: Computes the rows of a block, which must be a function of `layout.attributes`.
        num_rows: Number of rows in all.
        block_size: Rows of a full block.
        layout: What is written beside the rows.
        options: Where to compute.
    """
    text = json.dumps(layout.attributes, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = path.with_name(f".{path.stem}-{digest}.blocks")
    task = partial(_write_block, compute, num_rows, block_size)
    num_blocks = -(-num_rows // block_size)
    lost = run_blocks(task, num_blocks, folder, options, layout.unit)
    lost_blocks = {str(number): times for number, times in lost.items()}
    attributes = {**layout.attributes, "lost_blocks": lost_blocks}
    for stale in path.parent.glob(f".{'?' * 12}.{glob.escape(path.name)}"):
        stale.unlink()  # what a run that was killed while joining left behind
    header = (layout.schema, layout.version, attributes, layout.shared, layout.chunk_bytes)
    with RowStore.writer(path, *header) as writer:
        counts: Counter[str] = Counter()
        for number in range(num_blocks):
            block = RowStore(block_path(folder, number))
            writer.append(block.read())
            counts.update(block.attributes)
        writer.attributes[layout.counted] = dict(counts)
    shutil.rmtree(folder)


def _write_block(
    compute: Compute, num_rows: int, block_size: int, number: int, lost: int, path: Path
) -> int:
    """Compute a block and write its file; return its number of rows."""
    first = number * block_size
    rows = np.arange(first, min(first + block_size, num_rows))
    columns, counts = compute(rows, number, lost)
    RowStore.write(path, columns, "astrolit.block", attributes=counts)
    return len(rows)


def run_blocks(
    task: BlockTask, num_blocks: int, folder: Path, options: ParallelOptions, unit: str = "rows"
) -> dict[int, int]:
    """Compute every block whose file is missing or broken.

    Args:
        task: What computes a block; it must be a pure function of its arguments.
        num_blocks: Number of blocks.
        folder: Where the blocks' files are.
        options: Where to compute.
        unit: What a row is, for the display.

    Returns:
        Block number to how often it was lost, for blocks lost at least once.

    Raises:
        ValueError: A block was lost `ATTEMPTS` times.
    """
    make_folder(folder)
    lost: Counter[int] = Counter()
    pending = [number for number in range(num_blocks) if not _exists(folder, number)]
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), transient=True) as shown:
        bar = shown.add_task(f"simulating blocks of {unit}", total=num_blocks)
        while pending:
            shown.update(bar, completed=num_blocks - len(pending))
            problem: Exception = ValueError("its file is not there, or broken, when it is done")
            try:
                for _ in _compute(task, pending, lost, folder, options):
                    shown.advance(bar)
            except (TimeoutError, multiprocessing.TimeoutError, BrokenProcessPool) as error:
                get_reusable_executor().shutdown(wait=True, kill_workers=True)
                problem = error
            pending = [number for number in pending if not _exists(folder, number)]
            _count_lost(lost, pending, folder, options, problem)
    return dict(lost)


def _compute(
    task: BlockTask, pending: list[int], lost: Counter[int], folder: Path, options: ParallelOptions
) -> Iterator[int]:
    """Yield once for each block computed, in any order."""
    calls = (
        joblib.delayed(task)(number, lost[number], block_path(folder, number)) for number in pending
    )
    parallel = joblib.Parallel(
        n_jobs=options.workers,
        backend=options.backend,
        timeout=options.timeout if options.workers != 1 else None,
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch="2*n_jobs",
    )
    yield from parallel(calls)


def _count_lost(
    lost: Counter[int],
    pending: list[int],
    folder: Path,
    options: ParallelOptions,
    error: Exception,
) -> None:
    """Count the blocks that workers may have had in hand; give up on one lost too often."""
    for number in pending[: 2 * joblib.effective_n_jobs(options.workers)]:
        lost[number] += 1
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
