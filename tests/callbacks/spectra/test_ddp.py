"""Two gloo processes report and write every star once."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits

from tests.callbacks.spectra import two_processes as script
from tests.reliability.processes import Job


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes wrote."""
    folder = tmp_path_factory.mktemp("ddp")
    data = script.make_data(folder)
    data.prepare_data()
    job = Job(script.__file__, str(folder), timeout=200)
    assert job.wait() == 0, job.output
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
