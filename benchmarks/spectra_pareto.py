"""Fidelity against separability: one trained model fine-tuned with each pair of loss weights.

`python benchmarks/spectra_pareto.py --init_from RUN --beta 1 4 16 --separability_weight 0 10 100`
continues from a run of `astrolit fit` (its folder, with `config.yaml`), tests each model on the
held-out stars and prints a line a model (see `measure.py`). It writes `pareto.csv` and `pareto.png`
into `--folder`, and the runs beside them with their whole reports.

A model is `efficient` if no other has both a lower chi^2 and less information on the labels in its
latents. The start is compared too, if it has been tested.
"""

import argparse
import contextlib
import csv
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from measure import left_out, quiet, record

from callbacks.report.figures import COLOURS, new_figure, style
from datamodules.files import atomic_path
from lightning_modules.cli.app import main as astrolit
from lightning_modules.runs import find_checkpoint, run_folder

GOALS = ("chi2", "mutual_information")
SCORES = (*GOALS, "chi2_std", "chi2_hidden", "label_correlation_max", "kl", "active_units", "mmd2")
Point = dict[str, Any]


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--init_from", help="folder of the run to start from")
    parser.add_argument("--beta", nargs="+", type=float, default=[1, 4, 16])
    parser.add_argument("--separability_weight", nargs="+", type=float, default=[0, 10, 100, 1000])
    parser.add_argument("--max_epochs", type=int, default=2, help="of each fine-tuning")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--folder", type=Path, default=Path("runs/spectra/pareto"))
    return parser.parse_args()


def configuration(start: Path, given: argparse.Namespace, weights: dict[str, float]) -> Path:
    """Write the configuration of one fine-tuning: that of the start with other weights."""
    config = yaml.safe_load((start / "config.yaml").read_text())
    for name in ("optimizer", "lr_scheduler", "ckpt_path", "init_from"):
        config.pop(name, None)
    config["model"]["init_args"].update(weights, lr=given.lr, schedule="constant")
    report = {"class_path": "SpectraReport", "init_args": {"baselines": False, "max_boosting": 0}}
    place = {"save_dir": str(given.folder), "name": name_of(weights), "version": None}
    config["trainer"].update(
        max_epochs=given.max_epochs, callbacks=[report], enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    config["trainer"]["logger"]["init_args"].update(place)
    path = given.folder / f"{name_of(weights)}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return path


def name_of(weights: dict[str, float]) -> str:
    """Return the name of a fine-tuning's folder."""
    return "_".join(f"{name}={value:g}" for name, value in weights.items())


def scores(run: Path, weights: dict[str, float]) -> Point:
    """Return what counts of a run's report."""
    report = json.loads((run / "report.json").read_text())
    of_labels = [
        report[f"model/r2_ridge/target={label}/inputs=latents"]
        for label in report["provenance"]["labels"]
    ]
    found = {name: report[f"model/{name}"] for name in SCORES}
    return {**weights, **found, "label_r2_max": max(of_labels), "run": str(run)}


def points(given: argparse.Namespace) -> Iterator[Point]:
    """Yield the start, if it was tested, then each model."""
    checkpoint = find_checkpoint(given.init_from)
    start = run_folder(checkpoint)
    if start is None or not (start / "config.yaml").is_file():
        raise SystemExit(
            f"{given.init_from}: no run with config.yaml; give a run of `astrolit fit`"
        )
    if (start / "report.json").is_file():
        model = yaml.safe_load((start / "config.yaml").read_text())["model"]["init_args"]
        yield scores(start, {name: model[name] for name in ("beta", "separability_weight")})
    for beta, weight in itertools.product(given.beta, given.separability_weight):
        weights = {"beta": beta, "separability_weight": weight}
        words = ["-c", str(configuration(start, given, weights))]
        with contextlib.redirect_stdout(sys.stderr):
            astrolit(["fit", *words, "--init_from", checkpoint])
            found = find_checkpoint(str(given.folder / name_of(weights)))
            astrolit(["test", *words, "--ckpt_path", found])
        run = run_folder(found)
        assert run is not None
        yield scores(run, weights)


def efficient(point: Point, others: list[Point]) -> bool:
    """Return whether no other point is better in both goals."""
    return not any(all(other[name] < point[name] for name in GOALS) for other in others)


def write(found: list[Point], folder: Path) -> None:
    """Write the table and the figure."""
    with atomic_path(folder / "pareto.csv") as path, path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(found[0]))
        table.writeheader()
        table.writerows(found)
    with style():
        figure, (axes,) = new_figure(panel=(6.5, 4.2))
        for colour, beta in zip(itertools.cycle(COLOURS), dict.fromkeys(p["beta"] for p in found)):
            own = [point for point in found if point["beta"] == beta]
            x, y = ([point[name] for point in own] for name in reversed(GOALS))
            error = [point["chi2_std"] for point in own]
            axes.errorbar(x, y, error, fmt="o", color=colour, label=f"β = {beta:g}")
        front = sorted((p["mutual_information"], p["chi2"]) for p in found if p["efficient"])
        axes.step(*zip(*front, strict=True), where="post", color="0.4", linewidth=1)
        for point in found:
            place = (point["mutual_information"], point["chi2"])
            text = f"{point['separability_weight']:g}"
            axes.annotate(text, place, (4, 4), textcoords="offset points", fontsize=8)
        axes.set_xlabel("information on the labels in the latents [nat]")
        axes.set_ylabel(r"$\chi^2$ per good pixel")
        axes.set_title("Held-out stars, by the weight of separability")
        axes.legend()
        figure.savefig(folder / "pareto.png")


def main() -> None:
    """Print every model, then which are efficient."""
    given = options()
    if given.init_from is None:
        left_out("--init_from a trained run")
        return
    quiet(threads=None)
    sys.argv = sys.argv[:1]
    found = []
    for point in points(given):
        record("spectra/pareto", **point)
        found.append(point)
    for point in found:
        point["efficient"] = efficient(point, found)
    write(found, given.folder)
    names = [name_of({k: p[k] for k in ("beta", "separability_weight")}) for p in found
             if p["efficient"]]  # fmt: skip
    record("spectra/pareto", efficient=names, table=str(given.folder / "pareto.csv"))


if __name__ == "__main__":
    main()
