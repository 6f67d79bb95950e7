"""Every real event with its class and probability, from a trained checkpoint.

`python benchmarks/microlensing_real.py CHECKPOINT [FOLDER]` prints one JSON object an event, then
the AUC of certified anomalies against certified single lenses with its bootstrap interval, with
and without the single lenses of strong parallax, beside the classical score, and what is missed.
CHECKPOINT is a file or a run's folder; FOLDER holds `truth.csv` and the files that it names. The
classical score needs no training: ln(1 + chi^2 excess of the best single lens) + ln(1 + largest
windowed residual).
"""

import contextlib
import csv
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from callbacks.metrics.ranking import Ranking, area_under_roc
from datamodules import KMTNetLightCurves, LightCurveFiles, MicrolensingDataModule
from lightning_modules import TimeDistributedCNN
from lightning_modules.cli.shipped_configs import find_checkpoint

FOLDER = Path(__file__).resolve().parents[2] / "shared/data/microlensing/real"
ANOMALY, SINGLES, PARALLAX = "anomaly", ("single", "single_parallax"), "single_parallax"
SKIPPED = "refuse_without_reference_flux"
RESAMPLES = 2000


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
        classical: The classical score.
    """

    name: str
    kind: str
    use: str
    num_epochs: int
    probability: float
    highest: float
    classical: float


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
    """Return what model and classical score say of one event."""
    with tempfile.TemporaryDirectory() as cache:
        data = MicrolensingDataModule(source, val_fraction=0.0, test_fraction=0.0, cache_dir=cache)
        data.prepare_data()
        data.setup()
        batch = next(data.batches("all"))
        with torch.inference_mode():
            found = model.predict_step(batch)
        excess, window = data.anomaly_scores(np.arange(1), np.array([np.inf]))[0]
    binary = found["probability"][0, :, 1]
    classical = np.log1p(max(excess, 0.0)) + np.log1p(window)
    final = float(found["final_probability"][0, 1])
    highest = float(binary.nan_to_num(0.0).max())
    return Result(name, kind, use, int(found["num_epochs"][0]), final, highest, float(classical))


def ranking(results: list[Result], score: str) -> dict[str, float]:
    """Return the AUC of anomalies against single lenses and its 95 % bootstrap interval."""
    positive = np.array([result.kind == ANOMALY for result in results])
    values = np.array([getattr(result, score) for result in results])
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(RESAMPLES):
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(side), side.sum()) for side in (positive, ~positive)]
        )
        areas.append(area_under_roc(Ranking(positive[rows], values[rows]).curve()))
    low, high = np.quantile(areas, (0.025, 0.975))
    area = area_under_roc(Ranking(positive, values).curve())
    return {"auc": round(area, 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def summary(results: list[Result]) -> Iterator[dict[str, Any]]:
    """Yield the rankings and what is missed."""
    certified = [r for r in results if r.use == "ranking" and r.kind in (ANOMALY, *SINGLES)]
    quiet = [result for result in certified if result.kind != PARALLAX]
    for score in ("probability", "classical"):
        for name, chosen in (("all singles", certified), ("without parallax", quiet)):
            yield {"benchmark": f"microlensing/real {score} {name}", **ranking(chosen, score)}
        highest = max(getattr(r, score) for r in certified if r.kind != ANOMALY)
        missed = [r.name for r in certified if r.kind == ANOMALY and getattr(r, score) <= highest]
        yield {"benchmark": f"microlensing/real {score}", "anomalies below a single": missed}
    for use in ("ranking_unlabelled", "negatives"):
        share = [result.probability >= 0.5 for result in results if result.use == use]
        yield {
            "benchmark": f"microlensing/real {use}",
            "share_called_binary": round(float(np.mean(share)), 3) if share else None,
            "n": len(share),
        }


def main() -> None:
    """Print every event, then the rankings."""
    if len(sys.argv) < 2:
        print(f"left out: {Path(__file__).name} needs a trained checkpoint", file=sys.stderr)
        return
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    model = TimeDistributedCNN.load_from_checkpoint(find_checkpoint(sys.argv[1])).eval()
    results = []
    for event in events(folder):
        try:
            with contextlib.redirect_stdout(sys.stderr):
                result = judge(model, *event)
        except ValueError as error:
            print(json.dumps({"event": event[0], "class": event[1], "refused": str(error)}))
            continue
        results.append(result)
        shown = {"event": result.name, "class": result.kind, "num_epochs": result.num_epochs}
        for key in ("probability", "highest", "classical"):
            shown[key] = round(getattr(result, key), 4)
        print(json.dumps(shown), flush=True)
    for line in summary(results):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
