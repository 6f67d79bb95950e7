"""Every real event with its class and probability, from a trained checkpoint.

`python benchmarks/microlensing_real.py CHECKPOINT [FOLDER]` prints a line an event, then
the AUC of certified anomalies against certified single lenses with its bootstrap interval, with
and without the single lenses of strong parallax, beside the baseline score, and what is missed.
CHECKPOINT is a file or a run's folder; FOLDER holds `truth.csv` and the files that it names. The
baseline score needs no training: ln(1 + chi^2 excess of the best single lens) + ln(1 + largest
windowed residual).
"""

import contextlib
import csv
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import auc, left_out, quiet, record, report

from datamodules import KMTNetLightCurves, LightCurveFiles, MicrolensingDataModule
from lightning_modules import TimeDistributedCNN
from lightning_modules.runs import find_checkpoint

FOLDER = Path(__file__).resolve().parents[2] / "shared/data/microlensing/real"
ANOMALY, SINGLES, PARALLAX = "anomaly", ("single", "single_parallax"), "single_parallax"
SKIPPED = "refuse_without_reference_flux"


@dataclass
class Result:
    """What is said of one event.

    Attributes:
        name: Of the event.
        kind: Its class in `truth.csv`.
        use: What it is there for.
        num_epochs: Epochs of all telescopes.
        probability: Of two lenses, after the last epoch.
        highest: Of two lenses, the highest ever.
        baseline: The baseline score.
    """

    name: str
    kind: str
    use: str
    num_epochs: int
    probability: float
    highest: float
    baseline: float


def events(folder: Path) -> Iterator[tuple[str, str, str, Any]]:
    """Yield name, class, use and source of every event that `truth.csv` names."""
    with (folder / "truth.csv").open() as file:
        for row in csv.DictReader(file):
            if row["use"] == SKIPPED:
                continue
            kind = KMTNetLightCurves if row["path"].endswith(".pysis") else LightCurveFiles
            unit = {} if kind is KMTNetLightCurves else {"unit": row["unit"]}
            if row["use"] in ("ranking", "reader"):
                name = row["event"] + ("" if row["use"] == "ranking" else f":{row['path']}")
                source = kind({name: str(folder / row["path"])}, **unit)
                yield name, row["class"], row["use"], source
                continue
            for path in sorted(folder.glob(row["path"])):
                yield path.stem, row["class"], row["use"], kind({path.stem: str(path)}, **unit)


def judge(model: TimeDistributedCNN, name: str, kind: str, use: str, source: Any) -> Result:
    """Return what model and baseline score say of one event."""
    with tempfile.TemporaryDirectory() as cache:
        data = MicrolensingDataModule(source, val_fraction=0.0, test_fraction=0.0, cache_dir=cache)
        data.prepare_data()
        data.setup()
        batch = next(data.batches("all"))
        with torch.inference_mode():
            found = model.predict_step(batch)
        excess, window = data.anomaly_scores(np.arange(1), np.array([np.inf]))[0]
    binary = found["probability"][0, :, 1]
    baseline = np.log1p(max(excess, 0.0)) + np.log1p(window)
    final = float(found["final_probability"][0, 1])
    highest = float(binary.nan_to_num(0.0).max())
    return Result(name, kind, use, int(found["num_epochs"][0]), final, highest, float(baseline))


def summary(results: list[Result]) -> None:
    """Print the rankings and what is missed."""
    certified = [r for r in results if r.use == "ranking" and r.kind in (ANOMALY, *SINGLES)]
    quiet_ones = [result for result in certified if result.kind != PARALLAX]
    for name, chosen in (("all singles", certified), ("without parallax", quiet_ones)):
        ours, theirs = (ranking(chosen, score) for score in ("probability", "baseline"))
        values, against = ([ours["auc"]], [theirs["auc"]]), "baseline score"
        more = {"interval": [ours["low"], ours["high"]],
                "peer_interval": [theirs["low"], theirs["high"]]}  # fmt: skip
        report(f"microlensing/real {name}", "AUC", *values, against, "higher", **more)
    missed = {}
    for score in ("probability", "baseline"):
        highest = max(getattr(r, score) for r in certified if r.kind != ANOMALY)
        missed[score] = [
            r.name for r in certified if r.kind == ANOMALY and getattr(r, score) <= highest
        ]
    record("microlensing/real anomalies below a single", **missed)
    for use in ("ranking_unlabelled", "negatives"):
        share = [result.probability >= 0.5 for result in results if result.use == use]
        found = float(np.mean(share)) if share else None
        record(f"microlensing/real {use}", share_called_binary=found, n=len(share))


def ranking(results: list[Result], score: str) -> dict[str, float]:
    """Return the AUC of anomalies against single lenses and its 95 % bootstrap interval.

    Args:
        results: Of certified events.
        score: `probability` or `baseline`.
    """
    values = np.array([getattr(result, score) for result in results])
    anomaly = np.array([result.kind == ANOMALY for result in results])
    return auc(values[anomaly], values[~anomaly])


def main() -> None:
    """Print every event, then the rankings."""
    if len(sys.argv) < 2:
        left_out("a trained checkpoint")
        return
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER
    quiet(threads=None)
    model = TimeDistributedCNN.load_from_checkpoint(find_checkpoint(sys.argv[1])).eval()
    results = []
    for event in events(folder):
        try:
            with contextlib.redirect_stdout(sys.stderr):
                result = judge(model, *event)
        except ValueError as error:
            record(f"microlensing/real {event[0]}", kind=event[1], refused=str(error))
            continue
        results.append(result)
        shown = ("kind", "num_epochs", "probability", "highest", "baseline")
        record(f"microlensing/real {result.name}", **{key: getattr(result, key) for key in shown})
    summary(results)


if __name__ == "__main__":
    main()
