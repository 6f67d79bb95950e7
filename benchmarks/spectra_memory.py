"""Peak memory of reading a survey of the real shape: 473,307 × 7514 pixels, of which 2,000 pass.

The files are written first, with holes on the disk for the rows that fail. A process of its own
then prepares the store, loads it and draws an epoch of batches. The target is 2 GiB, the size of
the files 43 GB. See `measure.py` for the line. Run alone: `python benchmarks/spectra_memory.py`.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import peak_gib, report

from datamodules import SpectraDataModule, SurveySpectra
from datamodules.spectra.simulate.spectra import Simulation, simulate_block
from tests.fixtures.apogee_survey import REAL_NUM_ROWS, write_survey

SELECTED = 2_000
DISTINCT = 100
TARGET_GIB = 2.0


def write(folder: Path) -> int:
    """Write the survey and return the apparent size of its files in bytes."""
    simulation = Simulation(DISTINCT, broken_fractions={"flagged": 0.0, "missing_labels": 0.0})
    block = simulate_block(simulation, np.arange(DISTINCT), 1)
    order = np.arange(SELECTED) % DISTINCT
    columns = {name: np.asarray(values)[order] for name, values in block.items()}
    passing = {"teff": 4700.0, "logg": 2.5, "fe_h": 0.0, "snr": 300.0}
    columns.update({k: np.full(SELECTED, value, np.float32) for k, value in passing.items()})
    columns["name"] = np.array([f"2M{row:08d}+0000000" for row in range(SELECTED)])
    rng = np.random.default_rng(1)
    rows = np.sort(rng.choice(REAL_NUM_ROWS, SELECTED, replace=False))
    paths = write_survey(folder, columns, rows=rows.tolist(), num_rows=REAL_NUM_ROWS)
    return sum(path.stat().st_size for path in paths.values())


def read(folder: Path) -> dict[str, float]:
    """Prepare, load and draw an epoch; return peak memory in GiB and seconds."""
    imports = peak_gib()
    start = time.perf_counter()
    data = SpectraDataModule(SurveySpectra(str(folder)), cache_dir=str(folder / "cache"))
    data.prepare_data()
    prepared, seconds = peak_gib(), time.perf_counter() - start
    data.setup("fit")
    drawn = sum(len(batch["flux"]) for batch in data.train_dataloader())
    return {
        "imports_gib": imports,
        "prepare_gib": prepared,
        "prepare_seconds": seconds,
        "peak_gib": peak_gib(),
        "kept": data.counts["kept"],
        "drawn": drawn,
    }


def main() -> None:
    """Write, read in another process, print."""
    with tempfile.TemporaryDirectory() as name:
        size = write(Path(name))
        command = [sys.executable, __file__, name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        measured = json.loads(done.stdout.splitlines()[-1])
    report(
        "spectra/memory",
        "GiB",
        [measured["peak_gib"]],
        [TARGET_GIB],
        "the target",
        rows=REAL_NUM_ROWS,
        selected=SELECTED,
        files_gib=size / 2**30,
        **measured,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(read(Path(sys.argv[1]))))
    else:
        main()
