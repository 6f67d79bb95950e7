"""Two gloo processes report and write every star once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits

from tests.callbacks import spectra_two_processes as script

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes wrote."""
    folder = tmp_path_factory.mktemp("ddp")
    data = script.make_data(folder)
    data.prepare_data()
    own = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {key: value for key, value in os.environ.items() if key not in own}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", script.__file__, str(folder)],
        env={**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=200)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    return folder


def test_the_report_counts_every_held_out_star_once(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    data = script.make_data(folder)
    data.setup("test")
    rows = data.rows["test"]
    batch = {name: values[rows] for name, values in data.columns.items()}
    with torch.inference_mode():
        found = script.make_module(data).eval().predict_step(batch)
    chi2 = found["chi2"].double() * found["num_good"]
    assert report["num_objects"] == len(rows)
    expected = float(chi2.sum() / found["num_good"].sum())
    assert report["model/chi2"] == pytest.approx(expected, rel=1e-4)
    # From the sums at each pixel, which travel by another way.
    residual = torch.where(batch["good"], batch["flux"] - found["reconstruction"], 0.0).double()
    rms = float((residual.square().sum() / batch["good"].sum()).sqrt())
    assert report["model/residual_rms"] == pytest.approx(rms, rel=1e-4)


def test_the_file_has_every_spectrum_once(folder: Path) -> None:
    with fits.open(folder / "spectra.fits") as file:
        table = file["STARS"].data
        assert table["index"].tolist() == list(range(script.NUM))
        assert len(set(table["name"])) == script.NUM
        data = script.make_data(folder)
        data.setup("predict")
        chosen = [0, 1, 64, script.NUM - 1]
        flux = data.columns["flux"][torch.searchsorted(data.columns["index"], torch.tensor(chosen))]
        good = file["GOOD"].data[chosen].astype(bool)
        assert np.array_equal(file["FLUX"].data[chosen][good], flux.numpy()[good])
    assert not list(folder.glob(".spectra*"))
