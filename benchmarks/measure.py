"""How every benchmark is timed and printed.

A line is one JSON object: `name`; `ours` and `peer`, medians in `unit`; `against`, who the peer is;
`ratio`, how many times better we are (> 1 is better, whether less or more of the unit is);
`spread`, lowest and highest ratio of the repetitions, null for one; `command`, what printed it.
"""

import json
import logging
import shlex
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

COMMAND = shlex.join(["python", *sys.argv])


def quiet(threads: int | None = 1) -> None:
    """Silence Lightning and fix the number of threads, unless it is None."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    if threads is not None:
        torch.set_num_threads(threads)


def timed(work: Callable[[], Any]) -> Callable[..., float]:
    """Return a function that does the work, in whatever turn, and returns its CPU seconds."""

    def run(turn: int = 0) -> float:
        with redirect_stdout(sys.stderr):
            start = time.process_time()
            work()
            return time.process_time() - start

    return run


def alternate(*works: Callable[[int], float], repetitions: int = 7) -> list[list[float]]:
    """Return what each work measures, run in turn; the first turn warms up and is left out.

    Args:
        works: Each takes the number of the turn and returns its CPU seconds; see `timed`.
        repetitions: Turns that count.

    Returns:
        A list for each work, of one value a turn.
    """
    with redirect_stdout(sys.stderr):
        turns = [[work(turn) for work in works] for turn in range(repetitions + 1)][1:]
    return [list(values) for values in zip(*turns, strict=True)]


def training_step(
    optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor]
) -> Callable[..., float]:
    """Return a function that makes one optimizer step and returns its CPU seconds.

    Args:
        optimizer: Steps the parameters.
        loss: Computes the loss, shape ().
    """

    def train() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return timed(train)


def report(
    name: str,
    unit: str,
    ours: Sequence[float],
    peer: Sequence[float],
    against: str,
    better: Literal["lower", "higher"] = "lower",
    **more: Any,
) -> None:
    """Print how many times better we are than a peer.

    Args:
        name: What is measured, beginning with the method.
        unit: Of both values.
        ours: One value a repetition.
        peer: As many, or one for all.
        against: Who the peer is.
        better: Whether less or more of the unit is better.
        more: Further plain values.
    """
    both = (statistics.median(ours), statistics.median(peer))
    pairs = zip(ours, list(peer) * (len(ours) if len(peer) == 1 else 1), strict=True)
    ratios = [times_better(*pair, better) for pair in pairs]
    record(
        name,
        ours=both[0],
        peer=both[1],
        ratio=times_better(*both, better),
        unit=unit,
        spread=[min(ratios), max(ratios)] if len(ratios) > 1 else None,
        against=against,
        **more,
    )


def times_better(ours: float, peer: float, better: Literal["lower", "higher"]) -> float:
    """Return the ratio of two values that is above 1 where ours is better."""
    return ours / peer if better == "higher" else peer / ours


def record(name: str, **values: Any) -> None:
    """Print one line: what has no peer, too."""
    line = {"name": name, **{key: _rounded(value) for key, value in values.items()}}
    print(json.dumps({**line, "command": COMMAND}), flush=True)


def left_out(needs: str) -> None:
    """Say that this benchmark was not run, and what it needs."""
    record(Path(sys.argv[0]).stem, left_out=f"needs {needs}")


def peak_gib() -> float:
    """Return the largest resident memory of this process so far.

    From Linux's status file: the maximum of `getrusage` is inherited from the parent process.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def auc(positive: NDArray[Any], negative: NDArray[Any], resamples: int = 2000) -> dict[str, float]:
    """Return the area under the ROC curve with its 95 % bootstrap interval.

    Args:
        positive: Scores of what should have the higher ones, shape (n,).
        negative: Scores of the others, shape (m,).
        resamples: Bootstrap resamples, each of n and m scores.
    """
    rng = np.random.default_rng(0)
    label = np.repeat([1, 0], [len(positive), len(negative)])
    areas = []
    for again in [False] + [True] * resamples:
        sides = [rng.choice(x, len(x)) if again else x for x in (positive, negative)]
        areas.append(float(roc_auc_score(label, np.concatenate(sides))))
    low, high = np.quantile(areas[1:], (0.025, 0.975))
    return {"auc": areas[0], "low": float(low), "high": float(high)}


def _rounded(value: Any) -> Any:
    """Return a number, or the numbers of a list or dict, to four significant digits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
