"""Speed of the microlensing simulator against the naive strategy, in one run; cost of a million.

The naive strategy is the reference's: every epoch, Tol = RelTol = 1e-3, one task an event. See
`measure.py` for the lines. Run alone: `python benchmarks/microlensing.py`.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import alternate, peak_gib, quiet, report, timed
from VBMicrolensing import VBMicrolensing

from datamodules import SimulatedEvents
from datamodules.microlensing.simulate.events import simulate_block
from datamodules.store import RowStore

EVENTS = 256
REPETITIONS = 3
SIGMA = 0.4 * np.log(10.0) * 0.1
MILLION = 1_000_000
MEASURED = 20_000


def naive_event(
    engine: Any, event: dict[str, float], binary: bool, time_grid: Any, rng: Any
) -> Any:
    """Simulate one event as the reference does: all epochs, tight tolerance, then mask.

    Args:
        engine: VBMicrolensing's.
        event: Parameters by name.
        binary: Whether there are two lenses.
        time_grid: Epochs in days, shape (T,).
        rng: Draws noise and gaps.

    Returns:
        Flux over the baseline, NaN in gaps, shape (T,).
    """
    width, peak, impact = (event[k] for k in ("einstein_time", "peak_time", "impact_parameter"))
    if binary:
        logs = [np.log(event["separation"]), np.log(event["mass_ratio"])]
        size = np.log(event["source_radius"])
        values = [*logs, impact, event["angle"], size, np.log(width), peak]
        flux = np.array(engine.BinaryLightCurve(values, time_grid.tolist())[0])
    else:
        square = impact**2 + ((time_grid - peak) / width) ** 2
        flux = (square + 2) / np.sqrt(square * (square + 4))
    flux = flux * (1 + SIGMA * rng.standard_normal(len(time_grid)))
    flux[rng.random(len(time_grid)) < 0.2] = np.nan
    return flux


def naive_seconds(preset: str, repetition: int, folder: Path) -> float:
    """Return CPU seconds of EVENTS events, half binary, one at a time, saved as the reference.

    Args:
        preset: Of `SimulatedEvents`.
        repetition: Fixes the events.
        folder: Where the events are saved.
    """
    source = SimulatedEvents(preset, EVENTS // 2, EVENTS // 2)
    grid = np.linspace(*source.window, 1500)
    start = time.process_time()
    curves = []
    for number, label in enumerate(source.labels(repetition)):
        rng = np.random.default_rng([repetition, number])
        event = {name: float(v[0]) for name, v in source.draw(rng, 1).items()}
        engine = VBMicrolensing()
        engine.Tol = engine.RelTol = 1e-3
        curves.append(naive_event(engine, event, bool(label), grid, rng))
    np.savez(folder / "naive.npz", X=np.array(curves))
    return time.process_time() - start


def our_seconds(preset: str, repetition: int, folder: Path) -> float:
    """Return CPU seconds of EVENTS events, half binary, from settings to the finished store.

    Args:
        preset: Of `SimulatedEvents`.
        repetition: Fixes the events.
        folder: Where the store goes.
    """
    source = SimulatedEvents(
        preset, EVENTS // 2, EVENTS // 2, delta_chi2=False, simulation_workers=1, block_size=EVENTS
    )
    return timed(lambda: source.prepare(folder / f"ours-{repetition}.h5", repetition))()


def compare(preset: str, folder: Path) -> float:
    """Print the speed of one preset and the added cost of Delta chi^2.

    Args:
        preset: Of `SimulatedEvents`.
        folder: Where the events are written.

    Returns:
        CPU milliseconds of an event by the naive strategy.
    """
    ours, naive = alternate(
        lambda turn: our_seconds(preset, turn, folder),
        lambda turn: naive_seconds(preset, turn, folder),
        repetitions=REPETITIONS,
    )
    each = [[1e3 * seconds / EVENTS for seconds in times] for times in (ours, naive)]
    unit = "CPU ms an event"
    against = "every epoch, Tol = RelTol = 1e-3, one task an event"
    report(f"microlensing/generation preset={preset} delta_chi2=false", unit, *each, against)
    with_fit, plain = alternate(
        lambda turn: binary_milliseconds(preset, turn, delta_chi2=True),
        lambda turn: binary_milliseconds(preset, turn, delta_chi2=False),
        repetitions=REPETITIONS,
    )
    added = [statistics.median(with_fit) - statistics.median(plain)]
    report(
        f"microlensing/delta_chi2 preset={preset}",
        "CPU ms a binary",
        added,
        [statistics.median(plain)],
        "simulating the binary itself",
    )
    return statistics.median(each[1])


def binary_milliseconds(preset: str, repetition: int, delta_chi2: bool) -> float:
    """Return the CPU milliseconds of simulating a binary.

    Args:
        preset: Of `SimulatedEvents`.
        repetition: Fixes the events.
        delta_chi2: Whether a single lens is fitted to each.
    """
    source = SimulatedEvents(preset, 0, EVENTS, delta_chi2=delta_chi2)
    arguments = (source, source.times(0), source.labels(0))
    seeds = np.random.SeedSequence(repetition)
    return 1e3 * timed(lambda: simulate_block(*arguments, seeds))() / EVENTS


def project(folder: Path, naive: float) -> None:
    """Print what a million events cost, from a measured run and its memory at a quarter and all.

    Args:
        folder: Where the events are written.
        naive: CPU milliseconds of an event by the naive strategy.
    """
    path, peaks, seconds = folder / "many.h5", {}, 0.0
    for number in (MEASURED // 4, MEASURED):
        source = SimulatedEvents(
            "baseline", number // 2, number // 2, delta_chi2=False, simulation_workers=1
        )
        seconds = timed(lambda source=source: source.prepare(path, 0))()
        peaks[f"{number} events"] = peak_gib()
    assert RowStore(path).num_rows == MEASURED
    disk = path.stat().st_size * MILLION / MEASURED / 1e9
    report(
        f"microlensing/million events from {MEASURED} (baseline, delta_chi2=false)",
        "core minutes",
        [seconds * MILLION / MEASURED / 60],
        [MILLION * naive / 1e3 / 60],
        "the naive strategy",
        disk_gb=disk,
        disk_gb_while_running=2 * disk,
        peak_memory_gib=peaks,
    )


def main() -> None:
    """Print every case."""
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        naive = compare("baseline", Path(folder))
        compare("distinct", Path(folder))
        project(Path(folder), naive)


if __name__ == "__main__":
    main()
