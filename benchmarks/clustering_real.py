"""The mixture on star catalogues with published membership, against the baselines.

Fits and tests `clustering/vasiliev_baumgardt.yaml` on the files given, one cluster a file, once for
each seed of split and training, and prints one line for each split and metric (see `measure.py`);
the peer is the baseline with the best mean over seeds. Run alone:
`python benchmarks/clustering_real.py NGC_5024_M_53.txt.gz NGC_5053.txt.gz [--seeds 0 1 2]`.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import left_out, quiet, report

from lightning_modules.cli.app import make_cli


def run(paths: list[str], seed: int) -> dict[str, Any]:
    """Fit and test once; return the report.

    Args:
        paths: The catalogues.
        seed: Of split and training.
    """
    words = [
        "-c", "clustering/vasiliev_baumgardt.yaml",
        "--data.source.path", json.dumps(paths),
        "--data.seed", str(seed),
        "--seed_everything", str(seed),
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
    found: dict[str, Any] = json.loads((Path(cli.trainer.log_dir) / "report.json").read_text())
    return found


def summarise(paths: list[str], reports: list[dict[str, Any]]) -> None:
    """Print one line for each split and metric.

    Args:
        paths: The catalogues.
        reports: What `run` returned, one a seed.
    """
    names = "+".join(Path(path).name.split(".")[0] for path in paths)
    for split, metric in itertools.product(("all", "held_out"), ("accuracy", "ari")):
        key = f"/{metric}/split={split}"
        subjects = [name.removesuffix(key) for name in reports[0] if name.endswith(key)]
        values = {subject: [found[subject + key] for found in reports] for subject in subjects}
        means = {subject: statistics.mean(value) for subject, value in values.items()}
        baselines = [subject for subject in subjects if not subject.startswith("model")]
        peer = max(baselines, key=lambda subject: means[subject])
        report(
            f"clustering/{names} split={split} {metric}",
            metric,
            values["model"],
            values[peer],
            peer,
            better="higher",
            means=means,
            std={k: statistics.stdev(v) if len(v) > 1 else None for k, v in values.items()},
        )


def main() -> None:
    """Print every line; without files there is nothing to measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", help="catalogues, one cluster each")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    if not arguments.paths:
        left_out("catalogue files with published membership")
        return
    sys.argv = sys.argv[:1]
    quiet(threads=None)
    paths = [str(Path(path).resolve()) for path in arguments.paths]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        summarise(paths, [run(paths, seed) for seed in arguments.seeds])


if __name__ == "__main__":
    main()
