import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from callbacks.clustering.report import ClusteringReport
from datamodules import ClusteringDataModule, StarCluster, SyntheticField
from lightning_modules import ClusterMixture

FAST = {"num_resamples": 50, "max_tsne": 200, "max_silhouette": 300}


@pytest.fixture(scope="module")
def run(stars: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    module = stars.module()
    module.expected_shapes = lambda: {name: ((), "photometry") for name in ("magnitude", "colour")}
    module.run_record = {"init_from": "a.ckpt", "stop_reason": "the loss moved by less"}
    data = stars.data(cache_dir=str(folder / "cache"))
    stars.trainer(folder, ClusteringReport(**FAST), tensorboard=True).test(
        module, data, verbose=False
    )
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def test_header_says_what_was_run(report: dict[str, Any]) -> None:
    assert report["schema"] == "astrolit.report/2"
    assert (report["method"], report["split"]) == ("clustering", "all,held_out")
    assert report["num_objects"] == 501
    assert report["checkpoint"] is None
    assert report["run_record"]["init_from"] == "a.ckpt"
    assert report["stop_reason"] == "the loss moved by less"
    assert report["provenance"]["source"] == "TinyField"


def test_keys_follow_the_scheme(report: dict[str, Any]) -> None:
    for key in set(report) - {
        "schema",
        "method",
        "seed",
        "split",
        "num_objects",
        "checkpoint",
        "run_record",
        "stop_reason",
        "provenance",
        "notes",
    }:
        parts = key.split("/")
        metric = parts[2:] if parts[0] == "baseline" else parts[1:]
        assert parts[0] in {"model", "model_latent_kmeans", "baseline"}, key
        assert metric, key
        assert "=" not in metric[0], key
        assert all("=" in part for part in metric[1:]), key


def test_generator_probabilities_are_nearly_perfect_and_calibrated(report: dict[str, Any]) -> None:
    for split, floor in (("all", 0.95), ("held_out", 0.9)):
        assert report[f"model/ari/split={split}"] > floor
        assert report[f"model/accuracy/split={split}"] > floor
        assert report[f"model/brier/split={split}"] < 0.02
        assert report[f"model/ece/split={split}"] < 0.02
        assert 0 <= report[f"model/ari/split={split}_std"] < 0.1
        assert report[f"model/f1/split={split}"] > 0.97
        assert report[f"model/auc/split={split}"] > 0.99
        assert report[f"model/f1/split={split}"] > report[f"baseline/kmeans/f1/split={split}"]
    assert report["model/completeness/split=all/threshold=0.50"] > 0.97
    assert report["model/contamination/split=all/threshold=0.50"] < 0.03


def test_groups_contrast_with_the_field(report: dict[str, Any]) -> None:
    assert report["model/spatial_compactness/split=all"] > 0.8
    assert report["model/kinematic_coherence/split=all"] > 0.85
    assert report["model/distance_homogeneity/split=all"] > 0.5


def test_baselines_are_in_the_same_table(report: dict[str, Any], run: Path) -> None:
    for name in ("kmeans", "gmm", "gmm_photometry", "hdbscan"):
        for split in ("all", "held_out"):
            assert -0.5 < report[f"baseline/{name}/ari/split={split}"] <= 1
    assert report["baseline/gmm/ari/split=all"] > 0.8
    assert "baseline/kmeans/brier/split=all" not in report  # hard: no probability
    with (run / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["subject", "metric", "slice", "value", "std", "n"]
    assert {row["subject"] for row in rows} >= {"model", "baseline/hdbscan"}
    held_out = [r for r in rows if r["slice"] == "split=held_out" and r["metric"] == "ari"]
    assert 0 < int(held_out[0]["n"]) < 200


def test_a_model_that_sees_photometry_is_said_to(report: dict[str, Any]) -> None:
    (note,) = (note for note in report["notes"] if "also sees magnitude and colour" in note)
    assert "gmm_photometry alone" in note


def test_reconstruction_error_is_the_mean_over_objects(report: dict[str, Any], stars: Any) -> None:
    data = stars.data()
    data.prepare_data()
    data.setup()
    expected = data.columns["features"].square().mean(1)
    assert report["model/reconstruction_error/split=all"] == pytest.approx(float(expected.mean()))
    error = float(expected.std()) / 501**0.5
    assert report["model/reconstruction_error/split=all_std"] == pytest.approx(error, rel=0.35)


@pytest.mark.parametrize(
    "name",
    [
        "sky",
        "proper_motion",
        "colour_magnitude",
        "latent_pca",
        "latent_tsne",
        "scores",
        "reliability",
        "thresholds",
    ],
)
def test_figures_show_something(run: Path, name: str) -> None:
    pixels = imread(run / "figures" / f"{name}.png")
    assert pixels.shape[1] > 600
    codes = (255 * pixels[..., :3]).astype(int) @ [65536, 256, 1]
    assert len(np.unique(codes)) > 50


def test_figures_are_in_tensorboard(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    assert "test/sky" in events.Tags()["images"]


def test_without_labels_the_rest_is_reported(
    stars: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = ClusteringReport(baselines=False, **FAST)
    stars.trainer(tmp_path, callback).test(stars.module(), stars.data(labels=False), verbose=False)
    report = json.loads((tmp_path / "report.json").read_text())
    assert not any("/ari/" in key or "/brier/" in key for key in report)
    assert report["model/spatial_compactness/split=all"] > 0.8
    assert "no labels" in capsys.readouterr().out
    assert (tmp_path / "figures" / "sky.png").exists()
    assert not (tmp_path / "figures" / "reliability.png").exists()


def test_autoencoder_is_scored_by_kmeans_on_its_latent(stars: Any, tmp_path: Path) -> None:
    callback = ClusteringReport(baselines=False, **FAST)
    module = stars.module(clusters=False)
    stars.trainer(tmp_path, callback).test(module, stars.data(), verbose=False)
    report = json.loads((tmp_path / "report.json").read_text())
    assert "model/ari/split=all" not in report
    assert report["model/reconstruction_error/split=all"] > 0
    assert 0 < report["model_latent_kmeans/ari/split=held_out"] <= 1


def test_data_that_are_no_stars(
    stars: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = stars.data()
    load = data.load

    def digits(store: Any) -> Any:
        return {k: v for k, v in load(store).items() if k in {"index", "features", "label"}}

    monkeypatch.setattr(data, "load", digits)
    stars.trainer(tmp_path, ClusteringReport(**FAST)).test(stars.module(), data, verbose=False)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model/ari/split=held_out"] > 0.9
    assert report["model/ece/split=all"] < 0.03  # of the most likely class
    assert not any("compactness" in key or "completeness" in key for key in report)
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {"latent_pca", "latent_tsne", "reliability", "scores"}


def test_a_diverged_model_is_said(
    stars: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = stars.module()
    predict = module.predict_step

    def broken(batch: Any, batch_idx: int = 0) -> Any:
        outputs = predict(batch, batch_idx)
        outputs["latent"][outputs["index"] == 7] = float("nan")
        return outputs

    monkeypatch.setattr(module, "predict_step", broken)
    with pytest.raises(ValueError, match=r"latent is NaN .* 1 of 501 .* index 7"):
        stars.trainer(tmp_path, ClusteringReport(**FAST)).test(module, stars.data(), verbose=False)
    assert not (tmp_path / "report.json").exists()


def test_few_stars_still_make_a_report(stars: Any, tmp_path: Path) -> None:
    data = stars.data()
    data.batch_size = 8
    trainer = stars.trainer(tmp_path, ClusteringReport(**FAST), limit_test_batches=2)
    trainer.test(stars.module(), data, verbose=False)
    assert json.loads((tmp_path / "report.json").read_text())["num_objects"] == 16


def test_no_cluster_is_an_answer_too(stars: Any, tmp_path: Path) -> None:
    source = SyntheticField(200, [StarCluster(num_stars=100, scale=0.05)])
    data = ClusteringDataModule(source, cache_dir=str(tmp_path / "cache"))
    mixture, trainer = ClusterMixture(max_clusters=0), stars.trainer(tmp_path, ClusteringReport())
    trainer.fit(mixture, data)
    trainer.test(mixture, data, verbose=False)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model/num_clusters/split=all"] == 0
    assert report["model/f1/split=all"] == 0.0
    assert report["baseline/gmm/num_clusters/split=all"] > 1
