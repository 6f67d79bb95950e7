"""The command `astrolit alerts`: a trained model alone, no data, each alert answered once."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.cli.app import main

CONFIGS = Path(__file__).parents[2] / "configs"
RUN = Path("runs/microlensing/demo/version_0")
ALERT = {"id": "OB-1", "time": 60676.5, "flux": 1.1, "error": 0.02}
LINES = [json.dumps(ALERT), "no JSON", json.dumps({**ALERT, "time": 60677.5})]


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a small training; the command runs elsewhere, without its data."""
    main(["fit", "-c", "microlensing/demo.yaml", "-c", str(CONFIGS / "microlensing/tiny.yaml")])
    folder = RUN.absolute()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    return folder


def answers(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what the command prints, one object a line."""
    capsys.readouterr()
    main(["alerts", *words])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that the command fails with."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(["alerts", *words])
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_alerts_are_answered_once_and_survive_a_restart(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("alerts.jsonl").write_text("\n".join(LINES))
    words = ["--ckpt_path", str(run)]
    one, bad, two = answers([*words, "--input", "alerts.jsonl"], capsys)
    assert (one["num_epochs"], two["num_epochs"], bad["line"]) == (1, 2, 2)
    assert set(one["probability"]) == {"pspl", "binary"}
    assert sum(two["probability"].values()) == pytest.approx(1.0, abs=1e-6)
    later = json.dumps({**ALERT, "time": 60679.0})
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*LINES, later])))
    again = answers(words, capsys)
    assert [again[0], again[2]] == [one, two]
    assert again[3]["num_epochs"] == 3
    assert (run / "alerts.db").is_file()
    assert not Path("runs").exists()
    (first,) = answers(
        [*words, "--input", "alerts.jsonl", "--states", "new.db"], capsys
    )[:1]  # fmt: skip
    assert first == one
    assert Path("new.db").is_file()


def test_mistakes_are_one_sentence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--ckpt_path", str(run)]
    assert "ckpt_path" in error_of([], capsys)
    assert "no such checkpoint" in error_of(["--ckpt_path", "nowhere"], capsys)
    assert "none.jsonl: no such file" in error_of([*words, "--input", "none.jsonl"], capsys)
    assert "unrecognized arguments: --inptu" in error_of([*words, "--inptu", "x"], capsys)
    state = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    path = state["hyper_parameters"].pop("_class_path")
    torch.save(state, "nameless.ckpt")
    assert "names no class" in error_of(["--ckpt_path", "nameless.ckpt"], capsys)
    state["hyper_parameters"]["_class_path"] = "os.system"
    torch.save(state, "hostile.ckpt")
    assert "os.system" in error_of(["--ckpt_path", "hostile.ckpt"], capsys)
    state["hyper_parameters"] |= {"_class_path": path, "hidden_dim": 3}
    torch.save(state, "misfit.ckpt")
    assert "does not fit" in error_of(["--ckpt_path", "misfit.ckpt"], capsys)


def test_a_model_of_another_method_answers_none(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = str(CONFIGS / "clustering/tiny.yaml")
    main(["fit", "-c", "clustering/autoencoder.yaml", "-c", tiny])
    message = error_of(["--ckpt_path", "runs"], capsys)
    assert "a StellarAutoencoder answers no alerts" in message
