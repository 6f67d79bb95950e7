"""Configurations and checkpoints of earlier versions keep their meaning."""

import importlib
import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from datamodules import MicrolensingDataModule, PhotometricErrors, SimulatedEvents
from lightning_modules import SpectraVAE, old_names
from lightning_modules.cli.app import main, make_cli
from lightning_modules.old_names import PACKAGES, renew_class_path, renew_config
from tests.reliability.runs import fit
from tests.reliability.tiny import TinyModule

OLD_CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 2
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
  - class_path: callbacks.predictions.PredictionWriter
    init_args: {formats: [csv]}
  plugins:
  - class_path: callbacks.checkpoint_io.AtomicCheckpointIO
model:
  class_path: lightning_modules.clustering.autoencoder.StellarAutoencoder
  init_args: {hidden_dims: [8]}
data:
  class_path: datamodules.clustering.data.ClusteringDataModule
  init_args:
    source:
      class_path: datamodules.clustering.synthetic.SyntheticField
      init_args:
        num_field: 200
        clusters:
        - class_path: datamodules.clustering.simulate.StarCluster
          init_args: {num_stars: 100, scale: 0.05}
checkpoint: {monitor: val/loss, mode: min, save_top_k: 1, filename: best}
last_checkpoint: {every_n_epochs: null, every_n_train_steps: null}
early_stopping: {monitor: val/loss, patience: 5, min_delta: 0.0, mode: min}
learning_rate_monitor: {logging_interval: epoch, log_momentum: false}
init_from: null
"""
OLD_ARGUMENTS = """
model: {class_path: SpectraVAE, init_args: {free_bits: 0.5, num_pixels: 40}}
data:
  class_path: datamodules.MicrolensingDataModule
  init_args:
    memory_limit: 2.0
    source:
      class_path: SimulatedEvents
      init_args: {errors: {error: 0.2, floor: 0.01}, negatives: matched, workers: 3}
"""
RUN = Path("runs/clustering/old/version_0")


def make_old(path: Path, **edits: Any) -> None:
    """Rewrite a checkpoint as an earlier version would have named things."""
    state = torch.load(path, weights_only=True)
    state["callbacks"] = {
        (f"Default{key}" if key.startswith("EarlyStopping{") else key): value
        for key, value in state["callbacks"].items()
    }
    for key, value in edits.items():
        state["hyper_parameters"][key] = value
    torch.save(state, path)


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("DeepEmbeddedClustering", False),
        ("lightning_modules.StellarVAE", False),
        ("SpectraVAE", True),
    ],
)
def test_arguments_that_are_gone_are_dropped(name: str, stays: bool) -> None:
    arguments = {"compile": True, "lr": 0.1}
    renewed = renew_config({"class_path": name, "init_args": dict(arguments)})["init_args"]
    assert renewed == (arguments if stays else {"lr": 0.1})


def test_data_of_an_earlier_run_lose_a_factor_that_is_learnt_now() -> None:
    old = {"class_path": "ClusteringDataModule", "init_args": {"error_inflation": 1.0, "seed": 3}}
    assert renew_config(old)["init_args"] == {"seed": 3}


def test_an_old_run_is_resumed_tested_and_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("old.yaml").write_text(OLD_CONFIG)
    main(["fit", "-c", "old.yaml"])
    last = RUN / "checkpoints" / "last.ckpt"
    make_old(last, _class_path="lightning_modules.clustering.autoencoder.StellarAutoencoder")
    state = torch.load(last, weights_only=True)
    (key,) = (key for key in state["callbacks"] if key.startswith("DefaultEarlyStopping{"))
    state["callbacks"][key] |= {"best_score": torch.tensor(-100.0), "wait_count": 1}
    torch.save(state, last)
    resume = ["fit", "-c", "old.yaml", "--ckpt_path", str(RUN), "--trainer.max_epochs", "3"]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*Please add the following callbacks.*")
        cli = make_cli(resume)
    stopping = cli.trainer.early_stopping_callback
    assert stopping is not None
    assert (float(stopping.best_score), stopping.wait_count, stopping.patience) == (-100.0, 2, 5)
    assert cli.trainer.current_epoch == 3
    for command in ("test", "predict"):
        main([command, "-c", "old.yaml", "--ckpt_path", str(last)])
    assert (RUN / "report.json").is_file() is False  # the configuration has no report
    assert (RUN / "predictions.csv").is_file()
    saved = yaml.safe_load((RUN.with_name("version_1") / "config.yaml").read_text())
    assert saved["model"]["class_path"] == "lightning_modules.StellarAutoencoder"
    assert saved["data"]["init_args"]["source"]["class_path"] == "datamodules.SyntheticField"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("callbacks.checkpoint_io.AtomicCheckpointIO", "callbacks.AtomicCheckpointIO"),
        ("callbacks.AtomicCheckpointIO", "callbacks.AtomicCheckpointIO"),
        ("callbacks.rng_state.RNGState", "callbacks.ExactResume"),
        ("callbacks.RNGState", "callbacks.ExactResume"),
        ("RNGState", "callbacks.ExactResume"),
        ("callbacks.defaults.DefaultEarlyStopping", "callbacks.EarlyStopping"),
        ("callbacks.EarlyStopping", "callbacks.EarlyStopping"),
        ("EarlyStopping", "lightning.pytorch.callbacks.EarlyStopping"),
        ("datamodules.microlensing.synthetic.SimulatedEvents", "datamodules.SimulatedEvents"),
        ("my_survey.synthetic.SimulatedEvents", "my_survey.synthetic.SimulatedEvents"),
        ("callbacks.notes.txt", "callbacks.notes.txt"),
        ("torch.optim.AdamW", "torch.optim.AdamW"),
    ],
)
def test_class_paths(old: str, new: str) -> None:
    assert renew_class_path(old) == new


@pytest.mark.parametrize("place", [*old_names.CLASSES.values(), *old_names.SHORT_NAMES.values()])
def test_rows_of_classes_lead_somewhere(place: str) -> None:
    module, name = place.rsplit(".", 1)
    assert isinstance(getattr(importlib.import_module(module), name), type)


@pytest.mark.parametrize("name", old_names.ARGUMENTS)
def test_rows_of_arguments_lead_somewhere(name: str) -> None:
    packages = [importlib.import_module(package) for package in PACKAGES]
    (owner,) = (getattr(package, name) for package in packages if name in package.__all__)
    taken = inspect.signature(owner).parameters
    for old, new in old_names.ARGUMENTS[name].items():
        if "." not in old:
            assert (old in taken) != (new in taken), f"{name}: {old} -> {new}"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("MicrolensingDataModule", {"memory_limit": 2.0}, {"memory_limit_gib": 2.0}),
        ("SpectraDataModule", {"memory_limit": 2.0}, {"memory_limit_gib": 2.0}),
        ("MicrolensingReport", {"max_classical": 9}, {"max_fit": 9}),
        ("PhotometricErrors", {"error": 0.2, "floor": 0.1}, {"sigma_mag": 0.2, "floor": 0.1}),
        ("SpectraVAE", {"free_bits": 0.5}, {"free_nats": 0.5}),
        ("SyntheticSpectra", {"workers": 2}, {"simulation_workers": 2}),
        (
            "SimulatedEvents",
            {"errors": {"error": 0.2}, "negatives": "matched", "workers": 2},
            {"photometry": {"sigma_mag": 0.2}, "single_lens_prior": "matched"}
            | {"simulation_workers": 2},
        ),
        (
            "SimulatedEvents",
            {"errors": {"class_path": "PhotometricErrors", "init_args": {"error": 0.2}}},
            {"photometry": {"class_path": "PhotometricErrors", "init_args": {"sigma_mag": 0.2}}},
        ),
    ],
)
def test_renamed_arguments(name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    config = {"class_path": name, "init_args": old}
    assert renew_config(config) == {"class_path": name, "init_args": new}


def test_an_old_configuration_reaches_its_classes() -> None:
    Path("old.yaml").write_text(OLD_ARGUMENTS)
    cli = make_cli(["-c", "old.yaml"], run=False)
    assert isinstance(cli.model, SpectraVAE)
    assert cli.model.free_nats == 0.5
    data = cli.datamodule
    assert isinstance(data, MicrolensingDataModule)
    assert data.memory_limit_gib == 2.0
    assert isinstance(data.source, SimulatedEvents)
    assert data.source.photometry == PhotometricErrors(sigma_mag=0.2, floor=0.01)
    assert data.source.single_lens_prior == "matched"
    assert data.source.simulation_workers == 3


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table says that two arguments had other names."""
    rows = {"drop": "dropout", "scales.sky": "scales.background"}
    monkeypatch.setitem(old_names.ARGUMENTS, "TinyModule", rows)


@pytest.mark.usefixtures("renamed")
def test_old_hyper_parameters_load(tmp_path: Path) -> None:
    class Heir(TinyModule):
        """A subclass in a notebook."""

    run = fit(tmp_path, model={"dropout": 0.3})
    path = tmp_path / "old.ckpt"
    run.trainer.save_checkpoint(path)
    state = torch.load(path, weights_only=True)
    state["hyper_parameters"]["drop"] = state["hyper_parameters"].pop("dropout")
    torch.save(state, path)
    for kind in (TinyModule, Heir):
        loaded = kind.load_from_checkpoint(path)
        assert loaded.hparams["dropout"] == 0.3
        assert torch.equal(loaded.net[0].weight, run.module.net[0].weight)
    assert TinyModule.load_from_checkpoint(path, dropout=0.1).hparams["dropout"] == 0.1
    with path.open("rb") as file:  # an open file is read as it is
        assert TinyModule.load_from_checkpoint(file).hparams["dropout"] == 0.0


@pytest.mark.usefixtures("renamed")
def test_arguments_of_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning_modules

    monkeypatch.setattr(lightning_modules, "TinyModule", TinyModule, raising=False)
    monkeypatch.setattr(lightning_modules, "__all__", [*lightning_modules.__all__, "TinyModule"])
    old = {"drop": 0.2, "lr": 0.1, "scales": {"sky": 1.0, "drop": 2.0}}
    for path in ("TinyModule", "lightning_modules.nowhere.TinyModule"):
        model = renew_config([{"class_path": path, "init_args": old}])[0]
        assert model["init_args"] == {
            "dropout": 0.2, "lr": 0.1, "scales": {"background": 1.0, "drop": 2.0}
        }  # fmt: skip
    assert old["drop"] == 0.2  # not edited in place
    other = {"class_path": "mine.TinyModule", "init_args": old}
    assert renew_config(other) == other
    both = {"class_path": "TinyModule", "init_args": {"drop": 1.0, "dropout": 0.0}}
    assert renew_config(both)["init_args"] == both["init_args"]  # for the parser to refuse
