"""Fixtures that all tests share."""

import os
import sys
from pathlib import Path

# Two cores, many small networks: threads would only get in each other's way, also in processes
# that tests start. Read when torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

# UMAP takes ten seconds to compile in each process; as if the extra were not installed.
sys.modules["umap"] = None  # type: ignore[assignment]

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real survey files outside the repository; the test is skipped where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty folder, so that caches and runs never mix."""
    monkeypatch.chdir(tmp_path)
