"""IDEC with a Student-t or an error-aware head, with or without physical terms, on simulations.

Every case is `configs/clustering/idec.yaml` with the words of `CASES`, for each seed of simulation,
split and training. Printed are means and standard deviations over the seeds: the adjusted Rand
index of the predictions on all and on the held-out stars, of the latent alone (`latent_ari`), the
silhouette of the predicted columns in the latent, and, where column 0 is the background, the ARI of
the mixture alone and, of both, Brier score and calibration error (`ece`, in 15 bins of equal mass)
of membership in any cluster. Labels are read for the scores alone. `hard` is a field of 6000 stars
whose first cluster moves within the field, with magnitude and colour, which the mixture does not
know, among the network's features. Run alone:
`python benchmarks/clustering_heads.py [--seeds 0 1 2] [--cases error_aware student_t]`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import redirect_stdout

import torch
from measure import quiet, record
from sklearn.metrics import adjusted_rand_score, silhouette_score
from torch import Tensor

from callbacks.metrics.calibration import reliability_table
from datamodules import ClusteringDataModule
from lightning_modules import DeepEmbeddedClustering
from lightning_modules.cli.app import make_cli

PHYSICS = {"spatial": 1.0, "kinematic": 1.0, "distance": 1.0, "locus": 1.0}
ASTROMETRY = {name: weight for name, weight in PHYSICS.items() if name != "locus"}
PLAIN = ["--model.head", "student_t", "--model.num_clusters", "3"]
HARD = [
    {"num_stars": 2000, "scale": 0.08, "proper_motion": [-1.5, -3.5]},
    {
        "num_stars": 800, "offset": [0.2, 0.15], "parallax": 0.16, "proper_motion": [0.5, -1.0],
        "dispersion": 0.1, "scale": 0.04, "tidal_radius": 0.3,
    },
]  # fmt: skip
FEATURES = ["x", "y", "parallax", "pmra", "pmdec", "magnitude", "colour"]
CASES = {
    "published": [*PLAIN, "--model.gamma", "0.1", "--model.cluster_lr", "1e-4"],
    "student_t": PLAIN,
    "student_t_astrometry": [*PLAIN, "--model.physics", json.dumps(ASTROMETRY)],
    "student_t_physics": [*PLAIN, "--model.physics", json.dumps(PHYSICS)],
    "student_t_adaptive": [
        *PLAIN, "--model.physics", json.dumps(PHYSICS), "--model.adaptive", "true",
    ],
    "error_aware": [],
    "error_aware_physics": ["--model.physics", json.dumps(PHYSICS)],
    "hard": [
        "--data.source.num_field", "6000", "--data.source.clusters", json.dumps(HARD),
        "--data.features", json.dumps(FEATURES), "--model.num_features", "7",
    ],
}  # fmt: skip
QUIET = [
    "--trainer.logger", "false", "--trainer.callbacks", "[]", "--trainer.enable_progress_bar",
    "false", "--trainer.enable_model_summary", "false", "--checkpoint.save_top_k", "0",
]  # fmt: skip


def scores(model: DeepEmbeddedClustering, data: ClusteringDataModule) -> dict[str, float]:
    """Return the scores of a trained model."""
    stars, held_out = data.columns, data.rows["test"]
    with torch.no_grad():
        found = model.eval().predict_step(stars)
        columns = found["probability"].shape[1]
        own = model.own_memberships(found["latent"], columns).argmax(1)
    label, answer = stars["label"], found["assignment"]
    result = {
        "ari": adjusted_rand_score(label, answer),
        "held_out_ari": adjusted_rand_score(label[held_out], answer[held_out]),
        "latent_ari": adjusted_rand_score(label, own),
        "latent_silhouette": float(silhouette_score(found["latent"].numpy(), answer.numpy())),
    }
    if model.mixture is not None:
        share = model.mixture.predict_step(stars)["probability"]
        result["mixture_ari"] = adjusted_rand_score(label, share.argmax(1))
        result |= membership_scores(found["probability"], label)
        of_mixture = membership_scores(share, label)
        result |= {f"mixture_{name}": value for name, value in of_mixture.items()}
    return result


def membership_scores(probability: Tensor, label: Tensor) -> dict[str, float]:
    """Return Brier score and calibration error of membership in any cluster.

    Args:
        probability: Shape (stars, columns); column 0 is the background.
        label: 0 for the background, shape (stars,).
    """
    member, stated = label > 0, 1.0 - probability[:, 0].double()
    return {
        "brier": float((stated - member.double()).square().mean()),
        "ece": reliability_table(member, stated).error,
    }


def run(case: str, seed: int) -> dict[str, float]:
    """Return the scores of one seed, and the CPU seconds of its training."""
    seeds = ["--seed_everything", str(seed), "--data.seed", str(seed)]
    start = time.process_time()
    cli = make_cli(["fit", "-c", "clustering/idec.yaml", *CASES[case], *seeds, *QUIET])
    seconds = time.process_time() - start
    assert isinstance(cli.model, DeepEmbeddedClustering)
    assert isinstance(cli.datamodule, ClusteringDataModule)
    return {**scores(cli.model, cli.datamodule), "cpu_seconds": seconds}


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for case in arguments.cases:
            with redirect_stdout(open(os.devnull, "w")):
                found = [run(case, seed) for seed in arguments.seeds]
            values = {name: [one[name] for one in found] for name in found[0]}
            means = {name: statistics.fmean(v) for name, v in values.items()}
            stds = {f"{name}_std": statistics.pstdev(v) for name, v in values.items()}
            record(f"clustering/heads/{case}", seeds=arguments.seeds, **means, **stds)


if __name__ == "__main__":
    main()
