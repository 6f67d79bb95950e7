import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.table import Table

from callbacks.report.gather import RowGatherer
from datamodules.store import RowStore

SCRIPT = """
import runpy, sys
from pathlib import Path
sys.path[:0] = [{root!r}]
makers = runpy.run_path({conftest!r})
from callbacks.clustering.report import ClusteringReport
from callbacks.clustering.membership import MembershipTable
from callbacks.predictions.tables import PredictionWriter

folder = Path({folder!r})
settings = dict(strategy="ddp", devices=2)
data = makers["make_stars"](cache_dir=str(folder / "cache"))
report = ClusteringReport(num_resamples=20, max_tsne=50, baselines=False)
module = makers["KnowingModule"]()
makers["make_trainer"](folder, report, **settings).test(module, data, verbose=False)
callbacks = [PredictionWriter(["hdf5"]), MembershipTable(["ecsv"])]
makers["make_trainer"](folder, *callbacks, **settings).predict(
    module, data, return_predictions=False
)
"""


def test_rows_are_sorted_and_unique(stars: Any, tmp_path: Path) -> None:
    collector = RowGatherer()
    for index in ([4, 2], [0, 4]):
        rows = torch.tensor(index)
        collector.add({"index": rows, "x": 10.0 * rows, "good": rows > 1})
    rows = collector.gather(stars.trainer(tmp_path))
    assert rows["index"].tolist() == [0, 2, 4]
    assert rows["x"].tolist() == [0, 20, 40]
    assert rows["good"].tolist() == [False, True, True]
    with pytest.raises(ValueError, match="at least one row on every process"):
        collector.gather(stars.trainer(tmp_path))


def test_batches_must_agree() -> None:
    collector = RowGatherer()
    collector.add({"index": torch.arange(2)})
    with pytest.raises(ValueError, match="those before"):
        collector.add({"index": torch.arange(2), "x": torch.zeros(2)})
    with pytest.raises(ValueError, match="need a column 'index'"):
        collector.add({"x": torch.zeros(2)})


def test_two_processes_write_what_one_does(stars: Any, tmp_path: Path) -> None:
    from callbacks.clustering.membership import MembershipTable
    from callbacks.clustering.report import ClusteringReport
    from callbacks.predictions.tables import PredictionWriter

    one, two = tmp_path / "one", tmp_path / "two"
    script = tmp_path / "run.py"
    conftest = Path(__file__).parents[1] / "conftest.py"
    root = str(conftest.parents[2])
    script.write_text(SCRIPT.format(root=root, conftest=str(conftest), folder=str(two)))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]

    data, module = stars.data(cache_dir=str(tmp_path / "cache")), stars.module()
    report = ClusteringReport(num_resamples=20, max_tsne=50, baselines=False)
    stars.trainer(one, report).test(module, data, verbose=False)
    writers = [PredictionWriter(["hdf5"]), MembershipTable(["ecsv"])]
    stars.trainer(one, *writers).predict(module, data, return_predictions=False)
    single, double = (json.loads((run / "report.json").read_text()) for run in (one, two))
    scores = {key: value for key, value in single.items() if key.startswith("model")}
    assert {key: double[key] for key in scores} == pytest.approx(scores, nan_ok=True)
    assert double["num_objects"] == 501
    expected = RowStore(one / "predictions.h5").read()
    for name, values in RowStore(two / "predictions.h5").read().items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-6)
    first, second = (Table.read(run / "membership.ecsv") for run in (one, two))
    assert first.colnames == second.colnames
    for name in first.colnames:
        np.testing.assert_allclose(second[name], first[name], rtol=1e-6)
    assert not [path for path in two.iterdir() if path.name.startswith(".")]
