"""IDEC on star catalogues with published membership, against the classical clusterings.

Fits and tests `clustering/vasiliev_baumgardt.yaml` on the files given, one cluster a file, once for
each seed of split and training, and prints one JSON object for each split and metric: the mean over
seeds, its standard deviation, and the best classical clustering as the peer. Run alone:
`python benchmarks/clustering_real.py NGC_5024_M_53.txt.gz NGC_5053.txt.gz [--seeds 0 1 2]`.
"""

import argparse
import contextlib
import json
import logging
import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from lightning_modules.cli.app import make_cli

CLASSICAL = ("classical/kmeans", "classical/gmm", "classical/hdbscan")


def run(paths: list[str], seed: int) -> dict[str, Any]:
    """Fit and test once; return the report."""
    words = [
        "-c", "clustering/vasiliev_baumgardt.yaml",
        "--data.source.path", json.dumps(paths),
        "--data.seed", str(seed),
        "--seed_everything", str(seed),
        "--model.num_clusters", str(len(paths) + 1),
        "--trainer.accelerator", "cpu",
        "--trainer.enable_progress_bar", "false",
        "--trainer.enable_model_summary", "false",
    ]  # fmt: skip
    cli = make_cli(words, run=False)
    with contextlib.redirect_stdout(sys.stderr):
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        best = cli.trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
        cli.trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=best, verbose=False)
    assert cli.trainer.log_dir is not None
    report: dict[str, Any] = json.loads((Path(cli.trainer.log_dir) / "report.json").read_text())
    return report


def summarise(paths: list[str], reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one line for each split and metric."""
    lines = []
    names = "+".join(Path(path).name.split(".")[0] for path in paths)
    for split in ("all", "held_out"):
        for metric in ("accuracy", "ari"):
            values = {
                subject: [report[f"{subject}/{metric}/split={split}"] for report in reports]
                for subject in ("model", *CLASSICAL)
            }
            means = {subject: statistics.mean(value) for subject, value in values.items()}
            peer = max(CLASSICAL, key=lambda subject: means[subject])
            spread = {
                subject: round(statistics.stdev(value), 3) if len(value) > 1 else None
                for subject, value in values.items()
            }
            lines.append(
                {
                    "benchmark": f"clustering/{names} split={split} {metric}",
                    "value": round(means["model"], 3),
                    "unit": metric,
                    "peer": peer,
                    "peer_value": round(means[peer], 3),
                    "ratio": round(means["model"] / means[peer], 3),
                    "spread": spread,
                    "means": {subject: round(value, 3) for subject, value in means.items()},
                }
            )
    return lines


def main() -> None:
    """Print every line; without files there is nothing to measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", help="catalogues, one cluster each")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    if not arguments.paths:
        print("clustering_real: give catalogue files to measure on", file=sys.stderr)
        return
    sys.argv = sys.argv[:1]
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    paths = [str(Path(path).resolve()) for path in arguments.paths]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        reports = [run(paths, seed) for seed in arguments.seeds]
        for line in summarise(paths, reports):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
