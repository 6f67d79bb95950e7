"""The wheel holds the three packages and the configurations, and nothing else at the top."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the checkout with the running environment."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("astrolit-*.whl")))


def test_top_level_names(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {
        "lightning_modules",
        "datamodules",
        "callbacks",
    }


def test_every_config_is_inside(wheel: zipfile.ZipFile) -> None:
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml")}
    assert {f"lightning_modules/{name}" for name in configs} <= set(wheel.namelist())


def test_every_table_is_inside(wheel: zipfile.ZipFile) -> None:
    tables = {path.relative_to(ROOT).as_posix() for path in (ROOT / "datamodules").rglob("*.csv")}
    assert "datamodules/clustering/zero_point.csv" in tables
    assert tables <= set(wheel.namelist())


def test_versions_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    names = {
        "".join(character for character in need.split(">=")[0].split("[")[0]).lower()
        for need in project["dependencies"]
    }
    assert {name.replace("_", "-") for name in names} <= pinned
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text()
