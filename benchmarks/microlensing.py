"""Speed of the microlensing simulator against the naive strategy, in one run; cost of a million.

The naive strategy is the reference's: every epoch, Tol = RelTol = 1e-3, one task an event. Prints
one JSON object a line. Run alone: `python benchmarks/microlensing.py`.
"""

import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
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
    """Simulate one event as the reference does: all epochs, tight tolerance, then mask."""
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
    """Return CPU seconds of EVENTS events, half binary, one at a time, saved as the reference."""
    source = SimulatedEvents(preset, EVENTS // 2, EVENTS // 2)
    grid = np.linspace(*source.window, 1500)
    start = time.process_time()
    curves = []
    for number, label in enumerate(source.labels(repetition)):
        rng = np.random.default_rng([repetition, number])
        event = {name: float(v[0]) for name, v in source.priors.draw(rng, 1).items()}
        engine = VBMicrolensing()
        engine.Tol = engine.RelTol = 1e-3
        curves.append(naive_event(engine, event, bool(label), grid, rng))
    np.savez(folder / "naive.npz", X=np.array(curves))
    return time.process_time() - start


def our_seconds(preset: str, repetition: int, folder: Path, delta_chi2: bool) -> float:
    """Return CPU seconds of EVENTS events, half binary, from settings to the finished store."""
    path = folder / f"ours-{repetition}-{delta_chi2}.h5"
    source = SimulatedEvents(
        preset,
        EVENTS // 2,
        EVENTS // 2,
        delta_chi2=delta_chi2,
        simulation_workers=1,
        block_size=EVENTS,
    )
    start = time.process_time()
    source.prepare(path, repetition)
    return time.process_time() - start


def compare(preset: str, folder: Path) -> list[dict[str, Any]]:
    """Return the speed ratio of one preset and the added cost of Delta chi^2."""
    naive, plain, fitted = [], [], []
    for repetition in range(REPETITIONS):
        naive.append(naive_seconds(preset, repetition, folder))
        plain.append(our_seconds(preset, repetition, folder, delta_chi2=False))
        fitted.append(our_seconds(preset, repetition + 100, folder, delta_chi2=True))
    theirs, ours = (EVENTS / statistics.median(values) for values in (naive, plain))
    alone, added = fit_milliseconds(preset)
    return [
        {
            "benchmark": f"microlensing/generation preset={preset} delta_chi2=false",
            "value": round(ours),
            "unit": "events / CPU s",
            "peer": "every epoch, Tol = RelTol = 1e-3, one task an event",
            "peer_value": round(theirs),
            "ratio": round(ours / theirs, 2),
        },
        {
            "benchmark": f"microlensing/delta_chi2 preset={preset}",
            "value": round(added, 2),
            "unit": "CPU ms / binary",
            "peer": "simulating the binary itself",
            "peer_value": round(alone, 2),
            "ratio": round(added / alone, 2),
            "total_events_per_cpu_s": round(EVENTS / statistics.median(fitted)),
        },
    ]


def fit_milliseconds(preset: str) -> tuple[float, float]:
    """Return the CPU milliseconds of a binary alone and those that Delta chi^2 adds to it."""
    alone, added = [], []
    for repetition in range(REPETITIONS):
        seconds = []
        for delta_chi2 in (False, True):
            source = SimulatedEvents(preset, 0, EVENTS, delta_chi2=delta_chi2)
            arguments = (source.simulation(0), source.labels(0))
            start = time.process_time()
            simulate_block(*arguments, np.random.SeedSequence(repetition))
            seconds.append(time.process_time() - start)
        alone.append(seconds[0] / EVENTS * 1e3)
        added.append((seconds[1] - seconds[0]) / EVENTS * 1e3)
    return statistics.median(alone), statistics.median(added)


def project(folder: Path, naive_rate: float) -> dict[str, Any]:
    """Return what a million events cost, from a measured run and its memory at a quarter and all.

    Args:
        folder: Where the events are written.
        naive_rate: Events per CPU second of the naive strategy.
    """
    path, peaks = folder / "many.h5", []
    start = time.process_time()
    for number in (MEASURED // 4, MEASURED):
        source = SimulatedEvents(
            "baseline", number // 2, number // 2, delta_chi2=False, simulation_workers=1
        )
        start = time.process_time()
        source.prepare(path, 0)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    seconds = time.process_time() - start
    assert RowStore(path).num_rows == MEASURED
    scale = MILLION / MEASURED
    minutes, naive = seconds * scale / 60, MILLION / naive_rate / 60
    return {
        "benchmark": f"microlensing/million events from {MEASURED} (baseline, delta_chi2=false)",
        "value": round(minutes, 1),
        "unit": "core minutes",
        "peer": "the naive strategy",
        "peer_value": round(naive, 1),
        "ratio": round(minutes / naive, 2),
        "disk_gb": round(path.stat().st_size * scale / 1e9, 2),
        "disk_gb_while_running": round(2 * path.stat().st_size * scale / 1e9, 2),
        "peak_memory_mb": {
            f"{MEASURED // 4} events": round(peaks[0]),
            f"{MEASURED} events": round(peaks[1]),
        },
    }


def main() -> None:
    """Print every case."""
    with tempfile.TemporaryDirectory() as folder:
        baseline = compare("baseline", Path(folder))
        for line in [*baseline, *compare("distinct", Path(folder))]:
            print(json.dumps(line), flush=True)
        print(json.dumps(project(Path(folder), baseline[0]["peer_value"])), flush=True)


if __name__ == "__main__":
    main()
