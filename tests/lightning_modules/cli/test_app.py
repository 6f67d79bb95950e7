"""The command `astrolit`: what the user types wins, and every mistake is one clear sentence."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from astropy.table import Table

from lightning_modules.cli.app import main, make_cli
from tests.reliability.tiny import TinyModule

SMALL = [
    "--data.source.num_field", "200",
    "--data.source.clusters", "[{num_stars: 200, scale: 0.05}]",
    "--model.hidden_dims", "[8]",
    "--trainer.accelerator", "cpu",
    "--trainer.max_epochs", "2",
    "--trainer.enable_progress_bar", "false",
    "--trainer.enable_model_summary", "false",
]  # fmt: skip
FIT = ["fit", "-c", "clustering/autoencoder.yaml", *SMALL]
RUN = Path("runs/clustering/autoencoder/version_0")


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail with exit code 2 and return what it printed to stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_configs_are_listed_with_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    main(["configs"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "clustering/demo.yaml" in printed
    assert "nothing downloaded" in printed
    assert "trainer/slurm.yaml" in printed


def test_typo_names_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'latnet_dim' is not accepted" in error_of([*FIT, "--model.latnet_dim", "3"], capsys)


def test_wrong_type_names_the_key_and_the_value(capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of([*FIT, "--model.latent_dim", "many"], capsys)
    assert "latent_dim" in message
    assert "many" in message


@pytest.mark.parametrize(
    "words",
    [
        ["--model.latnet_dim", "3"],
        ["--data.source.num_feld", "3"],
        ["--trainer.max_epochs", "many"],
        ["--data.source", "CatalogFle"],
        ["--data.seed", "-1"],
        ["--data.batch_size", "0"],
        ["--model.hidden_dims", "[8, x]"],
    ],
)
def test_a_mistake_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main([*FIT, *words])
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert words[0].split(".")[-1] in lines[0] or words[1] in lines[0]
    assert "Union" not in lines[0]
    assert len(lines[0]) < 400


@pytest.mark.parametrize("class_path", ["os.system", "subprocess.Popen", "shutil.rmtree"])
@pytest.mark.parametrize("key", ["model", "data", "data.source"])
def test_hostile_class_paths_are_refused(
    class_path: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = error_of([*FIT, f"--{key}", class_path], capsys)
    assert class_path in message
    assert "not allowed" in message or "not a subclass" in message.lower()


def test_hostile_yaml_is_not_executed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("evil.yaml").write_text('model: !!python/object/apply:os.system ["touch owned"]\n')
    error_of(["fit", "-c", "evil.yaml"], capsys)
    assert not Path("owned").exists()


def test_unknown_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(["fit", "-c", "clustering/demos.yaml"], capsys)
    assert "clustering/demos.yaml" in message
    assert "astrolit configs" in message


def test_missing_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such checkpoint" in error_of([*FIT, "--ckpt_path", "none.ckpt"], capsys)


def test_wrong_dimension_names_the_argument(capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of([*FIT, "--model.num_features", "7"], capsys)
    assert "set model.num_features" in message


def test_later_config_wins_and_short_names_work() -> None:
    Path("later.yaml").write_text("model: {init_args: {latent_dim: 3}}\n")
    words = {"model": "StellarAutoencoder", "data": {"class_path": "ClusteringDataModule"}}
    words["data"] |= {"init_args": {"source": "SyntheticField"}}  # type: ignore[operator]
    cli = make_cli(words, run=False)
    assert type(cli.model).__name__ == "StellarAutoencoder"
    main([*FIT, "-c", "later.yaml"])
    saved = yaml.safe_load((RUN / "config.yaml").read_text())
    assert saved["model"]["init_args"]["latent_dim"] == 3


@pytest.fixture
def trained(capsys: pytest.CaptureFixture[str]) -> Path:
    """A run of an autoencoder with latent_dim 3; its best checkpoint."""
    main([*FIT, "--model.latent_dim", "3"])
    capsys.readouterr()
    return RUN / "checkpoints" / "best.ckpt"


def test_checkpoint_wins_over_defaults_and_the_user_over_both(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = ["test", "-c", "clustering/autoencoder.yaml", *SMALL, "--ckpt_path", str(trained)]
    main(test)
    assert yaml.safe_load((RUN / "config_test.yaml").read_text())["model"]["init_args"][
        "latent_dim"
    ] == 3  # fmt: skip
    message = error_of([*test, "--model.latent_dim", "5"], capsys)
    assert "does not fit" in message


def test_changed_hyper_parameters_are_printed_and_reported(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["test", "-c", "clustering/autoencoder.yaml", *SMALL]
    main([*words, "--model.lr", "0.5", "--ckpt_path", str(trained)])
    assert "model.lr: 0.5 (the checkpoint has 0.001)" in capsys.readouterr().out
    report = json.loads((RUN / "report.json").read_text())
    assert report["run_record"]["changed_hyper_parameters"]["lr"] == [0.5, 0.001]


def test_typed_learning_rate_wins_on_resume(trained: Path) -> None:
    last = trained.with_name("last.ckpt")
    main([*FIT, "--model.lr", "0.25", "--ckpt_path", str(last), "--trainer.max_epochs", "3"])
    folder = RUN.with_name("version_1") / "checkpoints"
    state = torch.load(folder / "last.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == 0.25


def test_init_from_takes_weights_and_records_their_hash(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "-c", "clustering/cluster.yaml", *SMALL, "--model.latent_dim", "3"]
    main([*words, "--data.seed", "7", "--init_from", str(trained)])
    assert "start afresh: centres" in capsys.readouterr().out.replace("\n", " ")
    folder = Path("runs/clustering/cluster/version_0/checkpoints")
    state = torch.load(folder / "last.ckpt", weights_only=True)
    record = state["astrolit"]["run_record"]["init_from"]
    assert record["sha256"] == hashlib.sha256(trained.read_bytes()).hexdigest()
    before = torch.load(trained, weights_only=True)["state_dict"]["scaler.location"]
    assert torch.equal(state["state_dict"]["scaler.location"], before)


def test_init_from_of_another_model_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "-c", "clustering/cluster.yaml", *SMALL, "--init_from", str(trained)]
    message = error_of([*words, "--model.latent_dim", "4"], capsys)
    assert "--init_from" in message
    assert "does not fit" in message


def test_an_untrained_model_is_not_tested(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("validate", "test", "predict"):
        message = error_of([command, *FIT[1:]], capsys)
        assert "untrained" in message
        assert "--ckpt_path" in message
    assert not Path("runs").exists()


def test_a_model_that_loads_its_own_parts_needs_no_checkpoint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = "tests.reliability.tiny"
    monkeypatch.setenv("ASTROLIT_ALLOW_IMPORTS", "tests")
    words = ["predict", "--model", f"{tiny}.TinyModule", "--data", f"{tiny}.TinyDataModule"]
    words += ["--data.source", f"{tiny}.TinySource", "--trainer.accelerator", "cpu"]
    assert "untrained" in error_of(words, capsys)
    monkeypatch.setattr(TinyModule, "needs_checkpoint", False)
    main([*words, "--trainer.callbacks+=PredictionWriter"])
    table = Table.read("runs/tiny/TinyModule/version_0/predictions.csv")
    assert len(table) == 40


def test_help_lists_the_commands_that_are_not_lightnings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    printed = capsys.readouterr().out
    assert "astrolit configs" in printed
    assert "astrolit alerts" in printed
    assert "Lightning" not in printed
    with pytest.raises(SystemExit, match="0"):
        main(["predict", "--help"])
    assert "alerts" not in capsys.readouterr().out


def test_resume_from_another_model_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-c", "clustering/cluster.yaml", *SMALL, "--model.latent_dim", "3"]
    message = error_of(["test", *words, "--ckpt_path", str(trained)], capsys)
    assert "centres" in message
    assert "--init_from" in message


def test_bfloat16_is_reported_and_predicted() -> None:
    words = [*SMALL, "--trainer.precision", "bf16-mixed", "--model.pretrain_epochs", "1"]
    main(["fit", "-c", "clustering/idec_student_t.yaml", *words])
    run = Path("runs/clustering/idec_student_t/version_0")
    for command in ("test", "predict"):
        main([command, "-c", "clustering/idec_student_t.yaml", *words, "--ckpt_path", str(run)])
    assert json.loads((run / "report.json").read_text())["model/accuracy/split=all"] > 0
    table = Table.read(run / "membership.fits")
    assert table["probability_0"].dtype.kind == "f"


def test_a_schedule_without_an_optimizer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    schedule = ["--lr_scheduler", "CosineAnnealingLR", "--lr_scheduler.T_max", "5"]
    assert "no optimizer" in error_of([*FIT, *schedule], capsys)


OPTIMIZER = ["--optimizer", "SGD", "--optimizer.lr", "0.1"]
BLOCK = "optimizer: {class_path: SGD, init_args: {lr: 0.1}}\n"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--model.lr", "1e-3", *OPTIMIZER], id="typed, even the default"),
        pytest.param(["-c", "block.yaml", "--model.init_args.lr=0.5"], id="over a file"),
        pytest.param(["-c", "block.yaml", "-c", "rate.yaml"], id="a later file"),
        pytest.param(["-c", "both.yaml"], id="one file"),
    ],
)
def test_a_rate_beside_an_optimizer_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rate = "model: {init_args: {lr: 5e-3}}\n"
    files = {"block.yaml": BLOCK, "rate.yaml": rate, "both.yaml": rate + BLOCK}
    for name, text in files.items():
        Path(name).write_text(text)
    message = error_of([*FIT, *words], capsys)
    assert "model.lr has no effect beside optimizer; set --optimizer.lr" in message
    assert not Path("runs").exists()


def test_a_rate_beside_an_optimizer_is_refused_in_notebooks() -> None:
    words = {
        "model": {"class_path": "StellarAutoencoder", "init_args": {"warmup_steps": 3}},
        "data": {"class_path": "ClusteringDataModule", "init_args": {"source": "SyntheticField"}},
        "optimizer": {"class_path": "SGD", "init_args": {"lr": 0.1}},
    }
    with pytest.raises(ValueError, match=r"model\.warmup_steps has no effect beside optimizer"):
        make_cli(words, run=False)


def test_an_optimizer_replaces_the_rate_of_an_earlier_file_and_its_run_resumes() -> None:
    Path("rate.yaml").write_text("model: {init_args: {lr: 5e-3, schedule: cosine}}\n")
    main([*FIT, "-c", "rate.yaml", *OPTIMIZER])
    saved = yaml.safe_load((RUN / "config.yaml").read_text())
    assert saved["model"]["init_args"]["lr"] == 1e-3  # not what had no effect
    assert saved["model"]["init_args"]["schedule"] == "constant"
    run = ["-c", str(RUN / "config.yaml"), "--ckpt_path", str(RUN)]
    main(["validate", *run])
    main(["fit", *run, "--trainer.max_epochs", "3"])
    folder = RUN.with_name("version_1")
    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == 0.1
    assert state["epoch"] == 2
    main([*FIT, "-c", str(RUN / "config.yaml"), "--optimizer", "null", "--model.lr", "0.5"])
    state = torch.load(RUN.with_name("version_2") / "checkpoints/last.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == 0.5


def test_cuts_on_the_truth_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of([*FIT, "--data.cuts", "{true_radius: {max: 0.1}}"], capsys)
    assert "data.cuts.true_radius" in message


def test_prepare_prepares_and_stops(capsys: pytest.CaptureFixture[str]) -> None:
    main(["prepare", *FIT[1:]])
    stores = list(Path(".astrolit/clustering").glob("SyntheticField-*.h5"))
    assert len(stores) == 1
    assert stores[0].name in capsys.readouterr().out.replace("\n", "")
    assert not Path("runs").exists()


def test_learning_rate_finder_and_batch_size_finder_from_yaml() -> None:
    Path("find.yaml").write_text(
        "trainer:\n  callbacks:\n"
        "    - class_path: LearningRateFinder\n"
        "      init_args: {num_training_steps: 20, early_stop_threshold: null}\n"
        "    - class_path: BatchSizeFinder\n"
        "      init_args: {max_trials: 2, steps_per_trial: 1, init_val: 16}\n"
    )
    words = ["--data.batch_size", "4", "--model.schedule", "cosine"]
    main([*FIT, "-c", "find.yaml", *words])
    state = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)
    group = state["optimizer_states"][0]["param_groups"][0]
    assert group["initial_lr"] not in (1e-3, 1e-8)  # neither the default nor where the search began
    assert group["lr"] == 0.0  # the cosine ends with the last step, whatever the batch size


def test_another_distributions_callbacks_are_named() -> None:
    Path("callbacks").mkdir()
    Path("callbacks/__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "lightning_modules", "configs"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "'callbacks'" in done.stderr
    assert "another distribution" in done.stderr
    assert "Traceback" not in done.stderr


def test_trainer_without_logger() -> None:
    main([*FIT, "--trainer.logger", "false"])
    assert Path("checkpoints/last.ckpt").is_file()
