"""CONTRIBUTING.md's method, followed in a copy of the checkout: from its files to its report."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"\*\*`([^`]+)`\*\*\n\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL))
EXPORTS = re.findall(r"- `(\w+/__init__\.pyi)`: `(from [^`]+)`", PAGE)
COMMANDS = """
import sys
from lightning_modules.cli.app import main
words = ["-c", "quasars/demo.yaml"]
main(["fit", *words])
for command in ("test", "predict"):
    main([command, *words, "--ckpt_path", sys.argv[1]])
"""
"""The page's three commands in one process, as each would spend most of its time on imports."""
PACKAGES = ("lightning_modules", "datamodules", "callbacks")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages and configurations with what the page says to add."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in (*PACKAGES, "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if name.split("/")[0] in PACKAGES:
            (path.parent / "__init__.py").write_text('"""Quasars."""\n')
    for name, line in EXPORTS:
        (folder / name).write_text(f"{(folder / name).read_text()}\n{line}\n")
    return folder


def run(checkout: Path, *words: str) -> str:
    """Run Python in the copy; return what it printed."""
    done = subprocess.run(
        [sys.executable, *words], cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_the_method_is_short() -> None:
    assert len(FILES) == 7
    assert len(EXPORTS) == 3
    lines = [line for text in FILES.values() for line in text.splitlines() if line.strip()]
    assert len(lines) + len(EXPORTS) < 150


def test_the_method_is_in_style(checkout: Path) -> None:
    names = [name for name in FILES if name.endswith(".py")]
    run(checkout, "-m", "ruff", "check", *names)
    run(checkout, "-m", "ruff", "format", "--check", *names)


def test_from_the_page_to_a_report_with_its_baseline(checkout: Path) -> None:
    run(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    folder = checkout / "runs/quasars/demo"
    printed = run(checkout, "-c", COMMANDS, str(folder))
    report = json.loads((folder / "version_0/report.json").read_text())
    assert report["model/auc"] > report["baseline/logistic/auc"] + 0.03
    assert 0 < report["model/auc_std"] < 0.05
    assert (folder / "version_0/figures/reliability.png").stat().st_size > 5000
    assert "predictions.h5" in printed
